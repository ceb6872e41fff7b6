use super::chat::{self, bad};
use super::{duration_from_proto, duration_to_proto};
use crate::error::{self, Code, Violation};
use crate::limits;
use crate::llm::{
    CacheMode, CacheSource, Cost, Error, ErrorKind, ImageRequest, ProviderAttempt, Summary, TextRequest,
    TextResponse, Trial, Usage,
};
use crate::money::Money;
use callboard_contracts::{mesh, v1};
use std::time::Duration;
use tonic_types::StatusExt;

pub(super) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A text request on the wire.
#[must_use]
pub fn text_request_to_proto(request: &TextRequest) -> v1::GenerateRequest {
    v1::GenerateRequest {
        messages: request.messages.iter().flat_map(chat::message_to_proto).collect(),
        model: request.model.clone().unwrap_or_default(),
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        json: request.json,
        provider: request.provider.clone().unwrap_or_default(),
        timeout: request.timeout.map(duration_to_proto),
        idempotency_key: request.idempotency_key.clone().unwrap_or_default(),
        cache: cache_mode_to_proto(request.cache).into(),
        subject: request.subject.clone().unwrap_or_default(),
        tools: request.tools.iter().map(chat::tool_to_proto).collect(),
        tool_choice: request.tool_choice.as_ref().map(chat::tool_choice_to_proto),
        parallel_tool_calls: request.parallel_tool_calls,
        schema: request.schema.as_ref().map(chat::schema_to_proto),
        stop: request.stop.clone(),
        top_p: request.top_p,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
    }
}

const fn cache_mode_to_proto(mode: CacheMode) -> v1::CacheMode {
    match mode {
        CacheMode::Configured => v1::CacheMode::Unspecified,
        CacheMode::On => v1::CacheMode::On,
        CacheMode::Off => v1::CacheMode::Off,
        CacheMode::Refresh => v1::CacheMode::Refresh,
    }
}

/// What a caller of a later version may want is nothing this one can do for it.
fn cache_mode_from_proto(mode: i32) -> CacheMode {
    match v1::CacheMode::try_from(mode) {
        Ok(v1::CacheMode::On) => CacheMode::On,
        Ok(v1::CacheMode::Off) => CacheMode::Off,
        Ok(v1::CacheMode::Refresh) => CacheMode::Refresh,
        Ok(v1::CacheMode::Unspecified) | Err(_) => CacheMode::Configured,
    }
}

const fn cache_source_to_proto(source: Option<CacheSource>) -> v1::CacheSource {
    match source {
        None => v1::CacheSource::Unspecified,
        Some(CacheSource::Exact) => v1::CacheSource::Exact,
        Some(CacheSource::Shared) => v1::CacheSource::Shared,
        Some(CacheSource::Replayed) => v1::CacheSource::Replayed,
        Some(CacheSource::Similar(_)) => v1::CacheSource::Similar,
    }
}

fn cache_source_from_proto(source: i32, percent: u32) -> Option<CacheSource> {
    match v1::CacheSource::try_from(source).ok()? {
        v1::CacheSource::Unspecified => None,
        v1::CacheSource::Exact => Some(CacheSource::Exact),
        v1::CacheSource::Shared => Some(CacheSource::Shared),
        v1::CacheSource::Replayed => Some(CacheSource::Replayed),
        v1::CacheSource::Similar => Some(CacheSource::Similar(u8::try_from(percent.min(100)).unwrap_or(100))),
    }
}

/// A text request from the wire.
///
/// # Errors
/// Every wrong field.
pub fn text_request_from_proto(request: v1::GenerateRequest) -> Result<TextRequest, error::Error> {
    let mut wrong = Vec::new();
    if request.messages.is_empty() {
        bad(&mut wrong, "messages".into(), "must hold at least one message");
    }
    let mut messages = Vec::with_capacity(request.messages.len());
    for (i, message) in request.messages.into_iter().enumerate() {
        messages.extend(chat::message_from_proto(i, message, &mut wrong));
    }
    for (name, value, from, to, what) in [
        ("temperature", request.temperature, 0.0, 2.0, "must be 0 to 2"),
        ("top_p", request.top_p, 0.0, 1.0, "must be 0 to 1"),
        ("presence_penalty", request.presence_penalty, -2.0, 2.0, "must be -2 to 2"),
        ("frequency_penalty", request.frequency_penalty, -2.0, 2.0, "must be -2 to 2"),
    ] {
        if value.is_some_and(|value: f32| !(from..=to).contains(&value)) {
            bad(&mut wrong, name.into(), what);
        }
    }
    if request.subject.len() > limits::SUBJECT_BYTES {
        bad(&mut wrong, "subject".into(), "must be at most 256 bytes");
    }
    if request.max_tokens == Some(0) {
        bad(&mut wrong, "max_tokens".into(), "must be over zero");
    }
    if request.stop.len() > limits::STOPS || request.stop.iter().any(String::is_empty) {
        bad(&mut wrong, "stop".into(), "must be at most 16 texts, none empty");
    }
    let timeout = request.timeout.as_ref().map(duration_from_proto);
    if matches!(timeout, Some(None | Some(Duration::ZERO))) {
        bad(&mut wrong, "timeout".into(), "must be over zero");
    }
    let tools = chat::tools_from_proto(request.tools, &mut wrong);
    let tool_choice = chat::tool_choice_from_proto(request.tool_choice, &tools, &mut wrong);
    let schema = request.schema.map(|schema| chat::schema_from_proto(schema, &mut wrong));
    if !wrong.is_empty() {
        return Err(error::Error::invalid(wrong));
    }
    Ok(TextRequest {
        messages,
        model: some(&request.model),
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        stop: request.stop,
        json: request.json,
        schema,
        tools,
        tool_choice,
        parallel_tool_calls: request.parallel_tool_calls,
        provider: some(&request.provider),
        timeout: timeout.flatten(),
        idempotency_key: some(&request.idempotency_key),
        cache: cache_mode_from_proto(request.cache),
        subject: some(&request.subject),
        trial: None,
    })
}

/// An answer from the wire; `None` if it does not say how it came about.
#[must_use]
pub fn text_response_from_proto(response: v1::GenerateResponse) -> Option<TextResponse> {
    Some(TextResponse {
        text: response.text,
        tool_calls: response.tool_calls.into_iter().map(chat::tool_call_from_proto).collect(),
        summary: summary_from_proto(response.summary?),
    })
}

/// An image request on the mesh, without context and fence.
#[must_use]
pub fn image_request_to_proto(request: &ImageRequest) -> mesh::v1::GenerateImageRequest {
    mesh::v1::GenerateImageRequest {
        context: None,
        fence: None,
        prompt: request.prompt.clone(),
        width: request.width,
        height: request.height,
        provider: request.provider.clone().unwrap_or_default(),
        idempotency_key: request.idempotency_key.clone().unwrap_or_default(),
    }
}

/// An image request from the mesh.
///
/// # Errors
/// Every wrong field.
pub fn image_request_from_proto(
    request: mesh::v1::GenerateImageRequest,
) -> Result<ImageRequest, error::Error> {
    let mut wrong = Vec::new();
    let mut side = |field: &str, value: u32| {
        let value = if value == 0 { 1024 } else { value };
        if !(64..=2048).contains(&value) {
            wrong.push(Violation { field: field.into(), description: "must be 64 to 2048".into() });
        }
        value
    };
    let (width, height) = (side("width", request.width), side("height", request.height));
    if request.prompt.trim().is_empty() {
        wrong.push(Violation { field: "prompt".into(), description: "must not be empty".into() });
    }
    if !wrong.is_empty() {
        return Err(error::Error::invalid(wrong));
    }
    Ok(ImageRequest {
        width,
        height,
        provider: some(&request.provider),
        idempotency_key: some(&request.idempotency_key),
        prompt: request.prompt,
    })
}

/// An attempt, for the wire.
#[must_use]
pub fn attempt_to_proto(attempt: &ProviderAttempt) -> v1::ProviderAttempt {
    let (error, message) = match &attempt.error {
        Some((kind, message)) => (kind.reason().to_owned(), message.clone()),
        None => Default::default(),
    };
    v1::ProviderAttempt {
        provider: attempt.provider.clone(),
        key: attempt.key.clone(),
        model: attempt.model.clone(),
        duration: Some(duration_to_proto(attempt.duration)),
        error,
        message,
    }
}

fn attempt_from_proto(attempt: v1::ProviderAttempt) -> ProviderAttempt {
    ProviderAttempt {
        error: ErrorKind::from_reason(&attempt.error).map(|kind| (kind, attempt.message)),
        provider: attempt.provider,
        key: attempt.key,
        model: attempt.model,
        duration: attempt.duration.as_ref().and_then(duration_from_proto).unwrap_or_default(),
    }
}

/// A summary on the wire.
#[must_use]
pub fn summary_to_proto(summary: &Summary) -> v1::GenerateSummary {
    v1::GenerateSummary {
        provider: summary.provider.clone(),
        key: summary.key.clone(),
        model: summary.model.clone(),
        finish_reason: summary.finish_reason.clone(),
        input_tokens: summary.usage.input_tokens,
        output_tokens: summary.usage.output_tokens,
        cached_input_tokens: summary.usage.cached_input_tokens,
        cache_write_tokens: summary.usage.cache_write_tokens,
        attempts: summary.attempts.iter().map(attempt_to_proto).collect(),
        degraded: summary.degraded.is_some(),
        degraded_reason: summary.degraded.clone().unwrap_or_default(),
        from_cache: cache_source_to_proto(summary.from_cache).into(),
        experiment: summary.trial.as_ref().map(|trial| trial.experiment.clone()).unwrap_or_default(),
        arm: summary.trial.as_ref().map(|trial| trial.arm.clone()).unwrap_or_default(),
        similarity_percent: match summary.from_cache {
            Some(CacheSource::Similar(percent)) => percent.into(),
            _ => 0,
        },
        cost_picodollars: summary.cost.as_ref().map(|cost| cost.amount.picodollars()),
        prices_version: summary.cost.as_ref().map(|cost| cost.prices_version.clone()).unwrap_or_default(),
        usage_estimated: summary.usage_estimated,
        dropped_parameters: summary.dropped.clone(),
    }
}

/// A summary from the wire.
#[must_use]
pub fn summary_from_proto(summary: v1::GenerateSummary) -> Summary {
    Summary {
        provider: summary.provider,
        key: summary.key,
        model: summary.model,
        finish_reason: summary.finish_reason,
        usage: Usage {
            input_tokens: summary.input_tokens,
            output_tokens: summary.output_tokens,
            cached_input_tokens: summary.cached_input_tokens,
            cache_write_tokens: summary.cache_write_tokens,
        },
        attempts: summary.attempts.into_iter().map(attempt_from_proto).collect(),
        degraded: summary.degraded.then_some(summary.degraded_reason),
        from_cache: cache_source_from_proto(summary.from_cache, summary.similarity_percent),
        trial: (!summary.experiment.is_empty())
            .then_some(Trial { experiment: summary.experiment, arm: summary.arm }),
        cost: summary.cost_picodollars.map(|amount| Cost {
            amount: Money::from_picodollars(amount),
            prices_version: summary.prices_version,
        }),
        usage_estimated: summary.usage_estimated,
        dropped: summary.dropped_parameters,
    }
}

/// Under which key a status holds a kind that nodes of a version before do not know.
const EXACT: &str = "exact_kind";

/// The kind as which nodes of a version before, that take one they do not know for an outage, know a kind.
const fn known_before(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::ContextTooLong | ErrorKind::Unsupported => ErrorKind::InvalidRequest,
        known => known,
    }
}

/// The kind that the metadata of a status holds.
#[must_use]
pub fn kind_in(metadata: &std::collections::HashMap<String, String>) -> Option<ErrorKind> {
    let kind = |key: &str| metadata.get(key).and_then(|kind| ErrorKind::from_reason(kind));
    kind(EXACT).or_else(|| kind("kind"))
}

/// A failed call as a status: its kind and the number of attempts are in the metadata, so that
/// [`error_from_status`] gets them back.
#[must_use]
pub fn error_to_status(error: &Error) -> tonic::Status {
    let code = match error.kind {
        kind if kind.is_of_the_call() => Code::ProviderRefused,
        _ => Code::ProvidersFailed,
    };
    let mut rich = error::Error::new(code, error.message.clone())
        .with("kind", known_before(error.kind).reason())
        .with("attempts", error.attempts.len().to_string());
    if known_before(error.kind) != error.kind {
        rich = rich.with(EXACT, error.kind.reason());
    }
    rich.retry_after = error.retry_after;
    rich.into()
}

/// The failed call a status tells of. A status that is not of [`error_to_status`] is a connection error.
#[must_use]
pub fn error_from_status(status: &tonic::Status) -> Error {
    let details = status.get_error_details();
    let kind = details.error_info().and_then(|info| kind_in(&info.metadata)).unwrap_or(match status.code() {
        tonic::Code::InvalidArgument => ErrorKind::InvalidRequest,
        tonic::Code::DeadlineExceeded => ErrorKind::Timeout,
        _ => ErrorKind::Connection,
    });
    Error {
        kind,
        message: status.message().to_owned(),
        retry_after: details.retry_info().and_then(|r| r.retry_delay),
        attempts: Vec::new(),
    }
}
