//! The routes, and what all endpoints do alike.

use super::fault::{Endpoint, Fault, Plan};
use super::socket::Connection;
use super::state::{Flight, Recorded, State};
use super::{chat, images};
use axum::Json;
use axum::extract::{ConnectInfo, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use bytes::Bytes;
use serde_json::{Value, json};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn app(state: Arc<State>) -> axum::Router {
    axum::Router::new()
        .route("/v1/chat/completions", post(completions))
        .route("/v1/images/generations", post(generations))
        .route("/v1/models", get(models))
        .route("/__faults", put(set_faults).delete(clear_faults))
        .route("/__requests", get(requests))
        .with_state(state)
}

/// A request that got past the faults which need no look at it.
pub(super) struct Call {
    pub(super) state: Arc<State>,
    pub(super) body: Value,
    pub(super) fault: Option<Fault>,
    pub(super) flight: Flight,
}

async fn completions(
    state: Shared<Arc<State>>,
    connection: ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match admit(Endpoint::Chat, state, connection, &headers, &body).await {
        Ok(call) => chat::answer(call),
        Err(response) => *response,
    }
}

async fn generations(
    state: Shared<Arc<State>>,
    connection: ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match admit(Endpoint::Images, state, connection, &headers, &body).await {
        Ok(call) => images::answer(call),
        Err(response) => *response,
    }
}

async fn models(
    state: Shared<Arc<State>>,
    connection: ConnectInfo<Connection>,
    headers: HeaderMap,
) -> Response {
    match admit(Endpoint::Models, state, connection, &headers, b"null").await {
        Ok(call) => {
            let data: Vec<_> = call
                .state
                .models
                .iter()
                .map(|id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "fake"}))
                .collect();
            call.flight.land();
            Json(json!({"object": "list", "data": data})).into_response()
        }
        Err(response) => *response,
    }
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

/// Records a request, checks its key, and lets it fail as the plan says. A real provider checks the key
/// first, but a fault must be a fault whatever the key.
async fn admit(
    endpoint: Endpoint,
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Call, Box<Response>> {
    let flight = Flight::begin(&state);
    let fault = state.take_fault(endpoint);
    let parsed = serde_json::from_slice::<Value>(body);
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    state.record(Recorded {
        endpoint,
        headers: headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: parsed.as_ref().map_or(Value::Null, Clone::clone),
        fault: fault.clone(),
    });
    let given = headers.get(header::AUTHORIZATION).map(text).unwrap_or_default();
    let given = given.strip_prefix("Bearer ").unwrap_or_default().to_owned();
    let refusal = match (&fault, &state.key, &parsed) {
        (Some(fault), ..) => meet(fault, &given, &connection).await,
        (None, Some(key), _) if *key != given => Some(bad_key(&given)),
        (None, _, Err(_)) => Some(error(
            400,
            "We could not parse the JSON body of your request.",
            "invalid_request_error",
            None,
        )),
        _ => None,
    };
    match refusal {
        Some(response) => {
            flight.land();
            Err(Box::new(response))
        }
        None => Ok(Call { state, body: parsed.unwrap_or_default(), fault, flight }),
    }
}

/// The answer a fault makes, if the endpoint has no say in it.
async fn meet(fault: &Fault, key: &str, connection: &Connection) -> Option<Response> {
    let invalid = "invalid_request_error";
    Some(match fault {
        Fault::Quota => error(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            Some("insufficient_quota"),
        ),
        Fault::RateLimit { retry_after } => {
            let mut response =
                error(429, "Rate limit reached for requests", "requests", Some("rate_limit_exceeded"));
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            }
            response
        }
        Fault::Overloaded => {
            error(503, "The server is currently overloaded.", "server_error", Some("server_is_overloaded"))
        }
        Fault::ServerFault { status } => error(*status, "The server had an error.", "server_error", None),
        Fault::BadKey => bad_key(key),
        Fault::ContentFilter => error(400, "The response was filtered.", invalid, Some("content_filter")),
        Fault::ContextTooLong => error(
            400,
            "This model's maximum context length is 8192 tokens.",
            invalid,
            Some("context_length_exceeded"),
        ),
        Fault::NoSuchModel => error(404, "The model does not exist.", invalid, Some("model_not_found")),
        Fault::MalformedJson => {
            raw(200, "application/json", br#"{"id":"chatcmpl-1","choices":[{"ind"#.to_vec())
        }
        Fault::Raw { status, content_type, body } => raw(*status, content_type, body.clone()),
        Fault::Redirect { to } => {
            let mut response = raw(307, "text/plain", Vec::new());
            response.headers_mut().extend(to.parse().ok().map(|to| (header::LOCATION, to)));
            response
        }
        Fault::Hang => pending().await,
        Fault::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            return None;
        }
        Fault::ConnectionReset { after_bytes } => {
            connection.reset_after(*after_bytes);
            if *after_bytes == 0 {
                // The connection takes this handler with it.
                pending::<()>().await;
            }
            return None;
        }
        Fault::ContentFilterFinish
        | Fault::EmptyChoices
        | Fault::StreamCut { .. }
        | Fault::StreamErrorMid { .. }
        | Fault::StreamStall { .. } => return None,
    })
}

fn bad_key(key: &str) -> Response {
    let message = format!("Incorrect API key provided: {key}. You can find your API key at the website.");
    error(401, &message, "invalid_request_error", Some("invalid_api_key"))
}

pub(super) fn error_body(message: &str, kind: &str, code: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

pub(super) fn error(status: u16, message: &str, kind: &str, code: Option<&str>) -> Response {
    raw(status, "application/json", error_body(message, kind, code).to_string().into_bytes())
}

/// A response of any shape. What HTTP does not allow is a 500, so that the test notices.
fn raw(status: u16, content_type: &str, body: Vec<u8>) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap_or_else(|wrong| (StatusCode::INTERNAL_SERVER_ERROR, wrong.to_string()).into_response())
}
