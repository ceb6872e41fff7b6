//! `nodes`, `kinds`, `alerts`.

use crate::cli::args::{AlertsArgs, DrainArgs, KindsArgs, LogLevelArgs};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{cluster, json, time};
use callboard_client::v1;

/// The most alerts that are shown.
const ALERTS: usize = 1_000;

pub(super) async fn nodes(context: &mut Context) -> Result<(), Failure> {
    let nodes = context.client.nodes().await?;
    if context.out.is_json() {
        return context.out.document(&json::Nodes::from(&*nodes));
    }
    context.out.text(&cluster::nodes(&nodes, time::now(), context.out.palette(), context.out.width()))
}

pub(super) async fn drain(context: &mut Context, args: DrainArgs) -> Result<(), Failure> {
    let left = context.client.drain_node(&args.name, args.grace).await?;
    if context.out.is_json() {
        return context.out.document(&json::Drained::from(&left));
    }
    let took = time::duration(left.took.as_ref()).unwrap_or_default();
    context.out.line(&format!("{} has left, after {}", args.name, time::span(took)))
}

pub(super) async fn log_level(context: &mut Context, args: LogLevelArgs) -> Result<(), Failure> {
    let filter = args.filter.as_deref();
    let nodes = context.client.set_log_filter(args.node.as_deref(), filter).await?;
    if context.out.is_json() {
        context.out.document(&json::LogFilters::new(&nodes, filter))?;
    } else {
        for node in nodes.iter().filter(|node| node.error.is_empty()) {
            let now = filter.map(|filter| format!(" -> {filter}")).unwrap_or_default();
            context.out.line(&format!("{}  {}{now}", node.node, node.previous))?;
        }
    }
    let failed: Vec<_> = nodes.iter().filter(|node| !node.error.is_empty()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<_> = failed.iter().map(|node| format!("{}: {}", node.node, node.error)).collect();
    Err(Failure::Task(format!("not every node answered:\n  {}", failed.join("\n  "))))
}

pub(super) async fn health(context: &mut Context) -> Result<(), Failure> {
    if context.client.serves().await? {
        Ok(())
    } else {
        Err(Failure::Task("the node does not serve".to_owned()))
    }
}

pub(super) async fn kinds(context: &mut Context, args: KindsArgs) -> Result<(), Failure> {
    let kinds = context.client.kinds().await?;
    let Some(name) = args.name else {
        if context.out.is_json() {
            return context.out.document(&json::Kinds::from(&*kinds));
        }
        context.out.text(&cluster::kinds(&kinds, context.out.palette(), context.out.width()))?;
        context.out.hint(&format!("see one with its schemas: `{} kinds NAME`", context.program));
        return Ok(());
    };
    let Some(kind) = kinds.iter().find(|k| k.name == name) else {
        let names: Vec<_> = kinds.iter().map(|k| k.name.as_str()).collect();
        return Err(Failure::Usage(format!("no kind is named `{name}`; there are: {}", names.join(", "))));
    };
    if context.out.is_json() {
        return context.out.document(&json::Kind::from(kind));
    }
    context.out.text(&cluster::kind(kind, &context.program, context.out.palette()))
}

pub(super) async fn alerts(context: &mut Context, args: AlertsArgs) -> Result<(), Failure> {
    let mut alerts = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListAlertsRequest { page_size: 200, page_token, active_only: !args.all };
        let page = context.client.alerts(request).await?;
        alerts.extend(page.alerts);
        page_token = page.next_page_token;
        if page_token.is_empty() || alerts.len() >= ALERTS {
            break;
        }
    }
    alerts.truncate(ALERTS);
    if context.out.is_json() {
        return context.out.document(&json::Alerts::from(&*alerts));
    }
    let text = cluster::alerts(&alerts, time::now(), context.out.palette(), context.out.width());
    context.out.text(&text)?;
    if !page_token.is_empty() {
        context.out.hint(&format!("these are the newest {ALERTS}"));
    }
    Ok(())
}
