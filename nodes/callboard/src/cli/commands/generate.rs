//! `generate`: a text straight from the providers.

use super::input;
use crate::cli::args::GenerateArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{answers, cluster, json, style};
use crate::cli::values::span_to_proto;
use callboard_client::v1;
use futures::TryStreamExt;
use std::pin::pin;

pub(super) async fn run(context: &mut Context, args: GenerateArgs) -> Result<(), Failure> {
    let (stream, verbose) = (args.stream, args.verbose);
    let request = request(args).await?;
    if stream {
        return streamed(context, request, verbose).await;
    }
    let response = context.client.generate(request).await?;
    if context.out.is_json() {
        return context.out.document(&json::Generated::from(&response));
    }
    context.out.text(&cluster::generated(&response.text))?;
    told(context, response.summary.as_ref(), verbose);
    Ok(())
}

async fn streamed(context: &mut Context, request: v1::GenerateRequest, verbose: bool) -> Result<(), Failure> {
    let mut pieces = pin!(context.client.generate_stream(request).await?);
    let mut summary = None;
    let mut open = false;
    while let Some(piece) = pieces.try_next().await? {
        if piece.beginning.is_some() {
            continue;
        }
        if context.out.is_json() {
            context.out.record(&json::Piece::from(&piece))?;
        } else if !piece.delta.is_empty() {
            context.out.text(&style::clean_lines(&piece.delta))?;
            open = !piece.delta.ends_with('\n');
        }
        summary = piece.summary.or(summary);
    }
    if open {
        context.out.line("")?;
    }
    told(context, summary.as_ref(), verbose);
    Ok(())
}

/// Says how an answer came about; in JSON it is in the document.
pub(super) fn told(context: &Context, summary: Option<&v1::GenerateSummary>, verbose: bool) {
    let Some(summary) = summary.filter(|_| !context.out.is_json()) else { return };
    // That an answer is not what was asked for is said to programs too.
    match (verbose, summary.degraded) {
        (true, _) => context.out.note(&answers::told_in_full(summary)),
        (false, true) => context.out.note(&cluster::summary(summary)),
        (false, false) => context.out.hint(&cluster::summary(summary)),
    }
    if let Some(dropped) = answers::dropped(summary) {
        context.out.note(&dropped);
    }
}

async fn request(args: GenerateArgs) -> Result<v1::GenerateRequest, Failure> {
    let prompt = input::text(&args.prompt).await?;
    let message =
        |role: v1::ChatRole, content| v1::ChatMessage { role: role.into(), content, ..Default::default() };
    let mut messages = Vec::new();
    messages.extend(args.system.map(|text| message(v1::ChatRole::System, text)));
    messages.push(message(v1::ChatRole::User, prompt));
    Ok(v1::GenerateRequest {
        messages,
        model: args.model.unwrap_or_default(),
        max_tokens: args.max_tokens,
        provider: args.provider.unwrap_or_default(),
        timeout: args.timeout.map(span_to_proto),
        cache: args.cache.map_or(v1::CacheMode::Unspecified, v1::CacheMode::from).into(),
        ..Default::default()
    })
}
