//! `campaign.generate`: a text and an image of a marketing brief.
//!
//! Without a text there is no campaign: if no provider writes one, the attempt fails. Without an image
//! there is one: a placeholder that says so is drawn here and takes its place.

mod brief;
mod placeholder;
mod wording;

use crate::image_generate::SIDE;
use crate::model::{self, Origin};
use brief::Brief;
use bytes::Bytes;
use callboard_sdk::llm::{self, ImageRequest, TextRequest};
use callboard_sdk::{Failure, Kind, KindSpec, TaskContext};
use serde::Serialize;
use wording::Wording;

/// The part of the time that is left which the image may take. What remains is for storing a
/// placeholder: a campaign with one is better than an attempt that ran out of time.
const IMAGE_SHARE: f64 = 0.8;

/// The kind.
pub(crate) struct CampaignGenerate;

/// What it gives.
#[derive(Serialize)]
pub(crate) struct Output {
    #[serde(flatten)]
    wording: Wording,
    text: String,
    #[serde(flatten)]
    image: Option<Image>,
    providers: Vec<String>,
    degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded_reason: Option<String>,
}

#[derive(Serialize)]
struct Image {
    #[serde(rename = "image")]
    digest: String,
    image_media_type: String,
    image_placeholder: bool,
}

/// An image before it is stored.
struct Painted {
    data: Bytes,
    media_type: String,
    placeholder: bool,
    /// The provider that painted it, if one did.
    provider: Option<String>,
    degraded_reason: Option<String>,
}

impl Kind for CampaignGenerate {
    type Input = Brief;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        callboard_sdk::spec("campaign.generate", "Makes a text and an image of a marketing brief.")
            .input(include_str!("input.schema.json"))
            .result(include_str!("result.schema.json"))
            .example(r#"{"product": "Nightlight, a lamp for stage managers", "audience": "small theatres"}"#)
            .build()
    }

    async fn run(&self, ctx: &TaskContext, brief: Brief) -> Result<Output, Failure> {
        ctx.progress(0, "reading the brief");
        ctx.progress(10, "writing the text");
        let (wording, writer) = write(ctx, &brief).await?;
        let mut providers = vec![writer.provider];
        let mut reasons: Vec<_> = writer.degraded_reason.map(|r| format!("text: {r}")).into_iter().collect();

        let mut image = None;
        if brief.image {
            ctx.progress(50, "painting the image");
            let painted = paint(ctx, &brief, &wording).await?;
            ctx.progress(90, "storing the image");
            let digest = ctx.artifacts().put(painted.data, &painted.media_type).await?;
            providers.extend(painted.provider.filter(|p| !providers.contains(p)));
            reasons.extend(painted.degraded_reason.map(|r| format!("image: {r}")));
            image = Some(Image {
                digest: digest.to_string(),
                image_media_type: painted.media_type,
                image_placeholder: painted.placeholder,
            });
        }
        ctx.progress(100, "done");
        Ok(Output {
            text: wording.text(),
            wording,
            image,
            providers,
            degraded: !reasons.is_empty(),
            degraded_reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        })
    }
}

async fn write(ctx: &TaskContext, brief: &Brief) -> Result<(Wording, Origin), Failure> {
    let request = TextRequest {
        idempotency_key: Some(ctx.idempotency_key("text")),
        ..TextRequest::prompt(brief.text_prompt()).system(brief::WRITER)
    };
    let response = model::unless_cancelled(ctx, ctx.llm().text(request)).await??;
    let wording = Wording::read(&model::storable(response.text)).ok_or_else(|| {
        llm::Error::new(llm::ErrorKind::MalformedAnswer, "the provider wrote an empty text")
    })?;
    Ok((wording, response.summary.into()))
}

/// The image, or a placeholder: only a cancel is a failure.
async fn paint(ctx: &TaskContext, brief: &Brief, wording: &Wording) -> Result<Painted, Failure> {
    let request = ImageRequest {
        prompt: brief.image_prompt(&wording.headline),
        width: SIDE,
        height: SIDE,
        provider: None,
        idempotency_key: Some(ctx.idempotency_key("image")),
    };
    let call = tokio::time::timeout(ctx.remaining().mul_f64(IMAGE_SHARE), ctx.llm().image(request));
    let why = match model::unless_cancelled(ctx, call).await? {
        Ok(Ok(response)) => {
            let placeholder = model::is_offline(&response.summary);
            let origin = Origin::from(response.summary);
            return Ok(Painted {
                data: response.data,
                media_type: response.media_type,
                placeholder,
                provider: Some(origin.provider),
                degraded_reason: origin.degraded_reason,
            });
        }
        Ok(Err(error)) => format!("no provider painted it, so it is a placeholder: {error}"),
        Err(_) => "no provider painted it in time, so it is a placeholder".to_owned(),
    };
    Ok(Painted {
        data: placeholder::draw(&brief.product)?,
        media_type: "image/png".to_owned(),
        placeholder: true,
        provider: None,
        degraded_reason: Some(why),
    })
}
