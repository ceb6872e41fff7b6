//! `text.generate`: one text from a model.

use crate::{model, whole};
use callboard_sdk::llm::TextRequest;
use callboard_sdk::{Failure, Kind, KindSpec, TaskContext};
use serde::{Deserialize, Serialize};

/// The kind.
pub(crate) struct TextGenerate;

/// What it takes; the limits are in the schema.
#[derive(Deserialize)]
pub(crate) struct Input {
    prompt: String,
    system: Option<String>,
    model: Option<String>,
    #[serde(default, deserialize_with = "whole::optional")]
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    provider: Option<String>,
}

/// What it gives.
#[derive(Serialize)]
pub(crate) struct Output {
    text: String,
    #[serde(flatten)]
    origin: model::Origin,
    usage: Usage,
    offline: bool,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u32,
    output_tokens: u32,
}

impl Kind for TextGenerate {
    type Input = Input;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        callboard_sdk::spec("text.generate", "Generates a text from a prompt.")
            .input(include_str!("input.schema.json"))
            .result(include_str!("result.schema.json"))
            .example(r#"{"prompt": "Name three things a night shift needs.", "max_tokens": 200}"#)
            .build()
    }

    async fn run(&self, ctx: &TaskContext, input: Input) -> Result<Output, Failure> {
        let mut request = TextRequest {
            model: input.model,
            max_tokens: input.max_tokens,
            temperature: input.temperature,
            provider: input.provider,
            idempotency_key: Some(ctx.idempotency_key("text")),
            ..TextRequest::prompt(input.prompt)
        };
        if let Some(system) = input.system {
            request = request.system(system);
        }
        let response = model::unless_cancelled(ctx, ctx.llm().text(request)).await??;
        let used = response.summary.usage;
        Ok(Output {
            text: model::storable(response.text),
            usage: Usage { input_tokens: used.input_tokens, output_tokens: used.output_tokens },
            offline: model::is_offline(&response.summary),
            origin: response.summary.into(),
        })
    }
}
