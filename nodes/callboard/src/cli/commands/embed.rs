//! `embed`: texts as vectors, straight from the providers.

use super::{generate, input};
use crate::cli::args::EmbedArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{json, vectors};
use crate::cli::values::span_to_proto;
use callboard_client::v1;

pub(super) async fn run(context: &mut Context, args: EmbedArgs) -> Result<(), Failure> {
    let inputs = match &args.file {
        Some(file) => input::texts(file).await?,
        None => {
            let mut texts = Vec::with_capacity(args.texts.len());
            for text in &args.texts {
                texts.push(input::text(text).await?);
            }
            texts
        }
    };
    let request = v1::EmbedRequest {
        inputs: inputs.clone(),
        model: args.model.unwrap_or_default(),
        dimensions: args.dimensions,
        provider: args.provider.unwrap_or_default(),
        timeout: args.timeout.map(span_to_proto),
        ..Default::default()
    };
    let response = context.client.embed(request).await?;
    if context.out.is_json() {
        return context.out.document(&json::Vectors::new(&inputs, &response));
    }
    let table = vectors::vectors(&inputs, &response.embeddings, context.out.palette(), context.out.width());
    context.out.text(&table)?;
    generate::told(context, response.summary.as_ref(), false);
    Ok(())
}
