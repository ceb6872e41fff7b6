//! `cache`: what the caches of answers did, and clearing them.

use crate::cli::args::{CacheArgs, CacheClearArgs, CacheCommand};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{cache, json};
use callboard_client::v1;

pub(super) async fn run(context: &mut Context, args: CacheArgs) -> Result<(), Failure> {
    match args.command {
        None => show(context).await,
        Some(CacheCommand::Clear(args)) => clear(context, args).await,
    }
}

async fn show(context: &mut Context) -> Result<(), Failure> {
    let nodes = context.client.cache_statistics().await?;
    if context.out.is_json() {
        return context.out.document(&json::CacheStatistics::from(&*nodes));
    }
    context.out.text(&cache::statistics(&nodes, context.out.palette(), context.out.width()))
}

async fn clear(context: &mut Context, args: CacheClearArgs) -> Result<(), Failure> {
    let CacheClearArgs { kind, namespace } = args;
    let request =
        v1::ClearCacheRequest { kind: kind.unwrap_or_default(), namespace: namespace.unwrap_or_default() };
    let done = context.client.clear_cache(request).await?;
    if context.out.is_json() {
        return context.out.document(&json::Cleared { saved: !done.unsaved });
    }
    context.out.line(cache::cleared(&done))
}
