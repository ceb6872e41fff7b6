//! `providers`, and what an admin does to them.

use crate::cli::args::{
    DrainProviderArgs, ProvidersArgs, ProvidersCommand, ReloadArgs, SwitchArgs, WeightArgs,
};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::progress::Progress;
use crate::cli::output::{cluster, json, money, providers, routes, time};
use callboard_client::{Error, v1};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use v1::ProviderSwitchState::{self, Disabled, Draining, Enabled};

pub(super) async fn run(context: &mut Context, args: ProvidersArgs) -> Result<(), Failure> {
    let client = &context.client;
    let done = match args.command {
        None => return list(context).await,
        Some(ProvidersCommand::Test(args)) => {
            let request = v1::TestProviderRequest { name: args.name, model: args.model.unwrap_or_default() };
            let attempt = client.test_provider(request).await?;
            return tested(context, &attempt);
        }
        Some(ProvidersCommand::ResetQuota(args)) => {
            client.reset_quota(&args.name).await?;
            return context.out.line("reset");
        }
        Some(ProvidersCommand::Reload(args)) => return reload(context, args).await,
        Some(ProvidersCommand::Drain(args)) => return drain(context, args).await,
        Some(ProvidersCommand::Enable(args)) => switch(context, args, Enabled).await?,
        Some(ProvidersCommand::Disable(args)) => switch(context, args, Disabled).await?,
        Some(ProvidersCommand::Primary(SwitchArgs { name, reason })) => {
            client.set_primary_provider(v1::SetPrimaryProviderRequest { name, reason }).await?
        }
        Some(ProvidersCommand::Weight(args)) => weigh(context, args).await?,
        Some(ProvidersCommand::Reset(args)) => {
            client.reset_provider(v1::ResetProviderRequest { name: args.name }).await?
        }
        Some(ProvidersCommand::CloseBreaker(args)) => {
            client.close_breakers(v1::CloseBreakersRequest { name: args.name }).await?
        }
    };
    show(context, &v1::ListProvidersResponse { providers: vec![done], ..Default::default() })
}

/// How often it is looked whether a provider is drained.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

async fn list(context: &mut Context) -> Result<(), Failure> {
    let known = context.client.list_providers().await?;
    show(context, &known)
}

fn show(context: &mut Context, known: &v1::ListProvidersResponse) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.document(&json::Providers::from(known));
    }
    let (now, palette, width) = (time::now(), context.out.palette(), context.out.width());
    let table = cluster::providers(&known.providers, now, palette, width);
    let used = money::used(&known.providers, &known.budgets, now);
    context.out.text(&(table + &used + &routes::routes(known, palette, width)))
}

async fn switch(
    context: &Context,
    args: SwitchArgs,
    state: ProviderSwitchState,
) -> Result<v1::Provider, Error> {
    let SwitchArgs { name, reason } = args;
    let request = v1::SwitchProviderRequest { name, state: state.into(), reason };
    context.client.switch_provider(request).await
}

async fn reload(context: &mut Context, args: ReloadArgs) -> Result<(), Failure> {
    let nodes = context.client.reload_providers(args.node.as_deref()).await?;
    match context.out.is_json() {
        true => context.out.document(&json::Reloads::from(&*nodes))?,
        false => context.out.text(&providers::reloaded(&nodes))?,
    }
    let refused: Vec<_> = nodes.iter().filter(|node| !node.error.is_empty()).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let refused: Vec<_> = refused.iter().map(|node| format!("{}: {}", node.node, node.error)).collect();
    Err(Failure::Task(format!(
        "not every node was reloaded; these go on as before:\n  {}",
        refused.join("\n  ")
    )))
}

/// Sends no new calls to a provider, and waits until no node has one in flight there.
async fn drain(context: &mut Context, args: DrainProviderArgs) -> Result<(), Failure> {
    let DrainProviderArgs { name, reason, timeout, no_wait } = args;
    let began = Instant::now();
    switch(context, SwitchArgs { name: name.clone(), reason }, Draining).await?;
    let progress = Progress::spinner(no_wait || context.out.is_json());
    let (nodes, late) = loop {
        let nodes = context.client.provider_load(&name).await?;
        if nodes.iter().all(|node| node.error.is_empty() && !node.off) {
            return Err(Failure::Task(format!("{name} was enabled again meanwhile")));
        }
        let drained = nodes.iter().all(|node| node.error.is_empty() && node.off && node.in_flight == 0);
        let late = began.elapsed() >= timeout;
        if drained || no_wait || late {
            break (nodes, !drained && !no_wait);
        }
        progress.message(providers::draining(&name, &nodes));
        sleep(LOOK_AGAIN).await;
    };
    drop(progress);
    match context.out.is_json() {
        true => context.out.document(&json::Load::new(&name, &nodes))?,
        false => context.out.line(&providers::draining(&name, &nodes))?,
    }
    match late {
        true => Err(Failure::Late(format!(
            "after {}, {}",
            time::span(timeout),
            providers::draining(&name, &nodes)
        ))),
        false => Ok(()),
    }
}

async fn weigh(context: &Context, args: WeightArgs) -> Result<v1::Provider, Error> {
    let WeightArgs { name, weight, of_key: key, reason, .. } = args;
    let request = v1::SetProviderWeightRequest { name, key, weight, reason };
    let done = context.client.set_provider_weight(request).await?;
    if !done.used {
        context.out.note("no policy looks at this weight now: set broker.routing.policy, or a route's, to weighted or sticky");
    }
    Ok(done.provider.unwrap_or_default())
}

fn tested(context: &mut Context, attempt: &v1::ProviderAttempt) -> Result<(), Failure> {
    match context.out.is_json() {
        true => context.out.document(&json::Attempt::from(attempt))?,
        false => context.out.line(&providers::tested(attempt))?,
    }
    match attempt.error.is_empty() {
        true => Ok(()),
        false => Err(Failure::Task(format!("the test of {} failed", attempt.provider))),
    }
}
