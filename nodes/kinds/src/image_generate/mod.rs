//! `image.generate`: one image from a model, kept as an artifact.

use crate::{model, whole};
use callboard_sdk::llm::ImageRequest;
use callboard_sdk::{Failure, Kind, KindSpec, TaskContext};
use serde::{Deserialize, Serialize};
use std::io::Cursor;

/// The width and height of an image that names none, in pixels.
pub(crate) const SIDE: u32 = 1024;

/// The kind.
pub(crate) struct ImageGenerate;

/// What it takes; the limits are in the schema.
#[derive(Deserialize)]
pub(crate) struct Input {
    prompt: String,
    #[serde(default, deserialize_with = "whole::optional")]
    width: Option<u32>,
    #[serde(default, deserialize_with = "whole::optional")]
    height: Option<u32>,
    provider: Option<String>,
}

/// What it gives.
#[derive(Serialize)]
pub(crate) struct Output {
    image: String,
    media_type: String,
    #[serde(flatten)]
    size: Option<Size>,
    #[serde(flatten)]
    origin: model::Origin,
    placeholder: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Size {
    width: u32,
    height: u32,
}

impl Kind for ImageGenerate {
    type Input = Input;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        callboard_sdk::spec("image.generate", "Generates an image from a prompt and keeps it as an artifact.")
            .input(include_str!("input.schema.json"))
            .result(include_str!("result.schema.json"))
            .example(r#"{"prompt": "A theatre at night, one light left on.", "width": 512, "height": 512}"#)
            .build()
    }

    async fn run(&self, ctx: &TaskContext, input: Input) -> Result<Output, Failure> {
        ctx.progress(10, "painting the image");
        let request = ImageRequest {
            prompt: input.prompt,
            width: input.width.unwrap_or(SIDE),
            height: input.height.unwrap_or(SIDE),
            provider: input.provider,
            idempotency_key: Some(ctx.idempotency_key("image")),
        };
        let response = model::unless_cancelled(ctx, ctx.llm().image(request)).await??;
        ctx.progress(90, "storing the image");
        let size = size(&response.data);
        let digest = ctx.artifacts().put(response.data, &response.media_type).await?;
        Ok(Output {
            image: digest.to_string(),
            media_type: response.media_type,
            size,
            placeholder: model::is_offline(&response.summary),
            origin: response.summary.into(),
        })
    }
}

/// The size an image really has: a provider need not paint the one it was asked for. `None` for
/// anything but a PNG.
fn size(data: &[u8]) -> Option<Size> {
    let mut decoder = png::Decoder::new(Cursor::new(data));
    let info = decoder.read_header_info().ok()?;
    Some(Size { width: info.width, height: info.height })
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn what_is_no_png_has_no_size() {
        for data in [&b""[..], b"\xff\xd8\xff\xe0 a jpeg", b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"] {
            assert_eq!(size(data), None);
        }
    }
}
