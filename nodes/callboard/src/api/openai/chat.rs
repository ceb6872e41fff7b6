//! `POST /v1/chat/completions`.

use super::answer::{self, Completion};
use super::error::Error;
use super::{Endpoint, body, request, stream, wishes};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use callboard_contracts::v1;

/// Completes a chat, in one piece or as a stream.
pub(super) async fn complete(State(endpoint): State<Endpoint>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let wishes = wishes::read(&parts)?;
    let asked = request::chat(&body::read(body).await?)?;
    let named = endpoint.named(&asked.model).await?;
    let request = v1::GenerateRequest {
        provider: named.provider,
        model: named.model,
        idempotency_key: wishes.idempotency_key.clone(),
        cache: wishes.cache.into(),
        subject: wishes.subject(asked.subject),
        ..asked.request
    };
    match asked.stream {
        None => whole(&endpoint, request).await,
        Some(options) => stream::open(&endpoint, request, options).await,
    }
}

async fn whole(endpoint: &Endpoint, request: v1::GenerateRequest) -> Result<Response, Error> {
    let mut answer = endpoint.0.broker.text(request).await?;
    let summary = answer.summary.take().unwrap_or_default();
    let completion = Completion::new(endpoint.id("chatcmpl-"), endpoint.now(), &answer, &summary);
    let mut response = Json(completion).into_response();
    answer::tell(response.headers_mut(), &summary, summary.attempts.len());
    Ok(response)
}
