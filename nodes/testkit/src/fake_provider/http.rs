//! The routes, and what all endpoints do alike.

use super::allowance::Left;
use super::fault::{Endpoint, Fault, Plan};
use super::socket::Connection;
use super::state::{Flight, Recorded, State};
use super::wire::Wire;
use super::{anthropic, chat, embeddings, gemini, images, ollama};
use axum::Json;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use bytes::Bytes;
use serde_json::{Value, json};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a request.
const BODY_BYTES: usize = 32 << 20;

/// What answers at an endpoint.
type Answer = fn(Call) -> Response;

pub(super) fn app(state: Arc<State>) -> axum::Router {
    axum::Router::new()
        .route("/v1/chat/completions", post_at(Endpoint::Chat, chat::answer))
        .route("/v1/images/generations", post_at(Endpoint::Images, images::answer))
        .route("/v1/models", get_at(Endpoint::Models, models))
        .route("/v1/messages", post_at(Endpoint::Messages, anthropic::answer))
        .route("/v1beta/models/{call}", post_at(Endpoint::GenerateContent, gemini::answer))
        .route("/api/chat", post_at(Endpoint::OllamaChat, ollama::answer))
        .route("/v1/embeddings", post_at(Endpoint::Embeddings, embeddings::openai))
        .route("/api/embed", post_at(Endpoint::OllamaEmbed, embeddings::ollama))
        .route("/api/tags", get_at(Endpoint::OllamaTags, ollama::tags))
        .route("/__faults", put(set_faults).delete(clear_faults))
        .route("/__requests", get(requests))
        .with_state(state)
}

fn post_at(endpoint: Endpoint, answer: Answer) -> MethodRouter<Arc<State>> {
    post(move |state: Shared<Arc<State>>, request: Request| serve(endpoint, state, request, answer))
}

fn get_at(endpoint: Endpoint, answer: Answer) -> MethodRouter<Arc<State>> {
    get(move |state: Shared<Arc<State>>, request: Request| serve(endpoint, state, request, answer))
}

/// A request that got past the faults which need no look at it.
pub(super) struct Call {
    pub(super) state: Arc<State>,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) fault: Option<Fault>,
    pub(super) flight: Flight,
}

async fn set_faults(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Plan>(&body) {
        Ok(plan) => {
            state.set_plan(plan);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(wrong) => (StatusCode::BAD_REQUEST, wrong.to_string()).into_response(),
    }
}

async fn clear_faults(Shared(state): Shared<Arc<State>>) -> StatusCode {
    state.set_plan(Plan::default());
    StatusCode::NO_CONTENT
}

async fn requests(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    Json(json!(state.requests()))
}

fn models(call: Call) -> Response {
    let data: Vec<_> = call
        .state
        .models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "fake"}))
        .collect();
    call.flight.land();
    Json(json!({"object": "list", "data": data})).into_response()
}

async fn serve(
    endpoint: Endpoint,
    Shared(state): Shared<Arc<State>>,
    request: Request,
    answer: Answer,
) -> Response {
    let (answered, left) = admit(endpoint, state, request).await;
    let mut response = match answered {
        Ok(call) => answer(call),
        Err(response) => *response,
    };
    if let Some(left) = left {
        left.tell(endpoint.wire(), response.headers_mut());
    }
    response
}

/// Records a request, checks its key, and lets it fail as the plan says. A real provider checks the key
/// first, but a fault must be a fault whatever the key.
async fn admit(
    endpoint: Endpoint,
    state: Arc<State>,
    request: Request,
) -> (Result<Call, Box<Response>>, Option<Left>) {
    let (parts, body) = request.into_parts();
    let body = match axum::body::to_bytes(body, BODY_BYTES).await {
        Ok(body) => body,
        Err(e) => {
            let too_much = (StatusCode::PAYLOAD_TOO_LARGE, e.to_string());
            return (Err(Box::new(too_much.into_response())), None);
        }
    };
    let body = if body.is_empty() { Bytes::from_static(b"null") } else { body };
    let flight = Flight::begin(&state);
    let wire = endpoint.wire();
    let given = wire.key(&parts.headers);
    let fault = state.take_fault(endpoint, &given);
    let parsed = serde_json::from_slice::<Value>(&body);
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let path = parts.uri.to_string();
    state.record(Recorded {
        endpoint,
        path: path.clone(),
        headers: parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: parsed.as_ref().map_or(Value::Null, Clone::clone),
        fault: fault.clone(),
    });
    // What fails by a fault is not counted.
    let left = match (&fault, &parsed) {
        (None, Ok(body)) if state.accepts(&given) && !body.is_null() => {
            state.ledger().take(&given, body["model"].as_str().unwrap_or_default())
        }
        _ => None,
    };
    let connection = parts.extensions.get::<ConnectInfo<Connection>>();
    let refusal = match (&fault, &parsed) {
        (Some(fault), _) => meet(fault, wire, &given, connection.map(|info| &info.0)).await,
        (None, _) if !state.accepts(&given) => Some(wire.bad_key(&given)),
        (None, Err(_)) => Some(wire.no_json()),
        _ if left.is_some_and(|left| left.refused) => {
            wire.refusal(&Fault::RateLimit { retry_after: None }, &given)
        }
        _ => None,
    };
    let answered = match refusal {
        Some(response) => {
            flight.land();
            Err(Box::new(response))
        }
        None => {
            Ok(Call { state, path, headers: parts.headers, body: parsed.unwrap_or_default(), fault, flight })
        }
    };
    (answered, left)
}

/// The answer a fault makes, if the endpoint has no say in it.
async fn meet(fault: &Fault, wire: Wire, key: &str, connection: Option<&Connection>) -> Option<Response> {
    match fault {
        Fault::MalformedJson => Some(raw(200, "application/json", wire.half_an_answer().into())),
        Fault::Raw { status, content_type, body } => Some(raw(*status, content_type, body.clone())),
        Fault::Redirect { to } => {
            let mut response = raw(307, "text/plain", Vec::new());
            response.headers_mut().extend(to.parse().ok().map(|to| (header::LOCATION, to)));
            Some(response)
        }
        Fault::Hang => pending().await,
        Fault::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            None
        }
        Fault::ConnectionReset { after_bytes } => {
            if let Some(connection) = connection {
                connection.reset_after(*after_bytes);
            }
            if *after_bytes == 0 {
                // The connection takes this handler with it.
                pending::<()>().await;
            }
            None
        }
        _ => wire.refusal(fault, key),
    }
}

/// A response of any shape. What HTTP does not allow is a 500, so that the test notices.
pub(super) fn raw(status: u16, content_type: &str, body: Vec<u8>) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap_or_else(|wrong| (StatusCode::INTERNAL_SERVER_ERROR, wrong.to_string()).into_response())
}
