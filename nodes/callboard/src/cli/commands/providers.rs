//! `providers`, and what an admin does to them.

use crate::cli::args::{ProvidersArgs, ProvidersCommand, SwitchArgs};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{cluster, json, money, providers, routes, time};
use callboard_client::{Error, v1};
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
        Some(ProvidersCommand::Reload) => {
            let done = client.reload_providers().await?;
            if context.out.is_json() {
                return context.out.document(&json::Reloaded::from(&done));
            }
            return context.out.line(&providers::reloaded(&done));
        }
        Some(ProvidersCommand::Enable(args)) => switch(context, args, Enabled).await?,
        Some(ProvidersCommand::Disable(args)) => switch(context, args, Disabled).await?,
        Some(ProvidersCommand::Drain(args)) => switch(context, args, Draining).await?,
        Some(ProvidersCommand::Primary(SwitchArgs { name, reason })) => {
            client.set_primary_provider(v1::SetPrimaryProviderRequest { name, reason }).await?
        }
        Some(ProvidersCommand::Reset(args)) => {
            client.reset_provider(v1::ResetProviderRequest { name: args.name }).await?
        }
        Some(ProvidersCommand::CloseBreaker(args)) => {
            client.close_breakers(v1::CloseBreakersRequest { name: args.name }).await?
        }
    };
    show(context, &v1::ListProvidersResponse { providers: vec![done], ..Default::default() })
}

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
