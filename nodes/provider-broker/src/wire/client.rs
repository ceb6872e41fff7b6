//! The HTTP side: one connection pool per provider, the key in its one header, answers read up to a limit.

use super::stream::{Dialect, decode, of_whole};
use super::{TEXT_BYTES, error};
use crate::keys::{self, Key};
use crate::provider::{ChunkStream, ProviderText};
use callboard_domain::llm::{Error, ErrorKind};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What any adapter can read.
const ACCEPTED: &str = "application/json, text/event-stream, application/x-ndjson";
/// The most bytes read of the body of an error.
const ERROR_BYTES: usize = 64 << 10;

/// Where a key goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Auth {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of its own.
    Header(&'static str),
}

/// What a provider wants of every request, and how it refuses one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// Where its key goes.
    pub(crate) auth: Auth,
    /// A header that every request has.
    pub(crate) header: Option<(&'static str, &'static str)>,
    /// The header by which it recognises a request that comes again.
    pub(crate) idempotency: Option<&'static str>,
    /// The error of an answer whose status is no success.
    pub(crate) refusal: fn(StatusCode, &HeaderMap, &[u8]) -> Error,
}

/// A client with one of a provider's keys. All of a provider share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    base_url: Arc<str>,
    /// The same, read once: a host costs more to read than all else of a request's address.
    url: Url,
    key: Arc<Key>,
    protocol: Protocol,
}

impl Client {
    /// A client for one provider.
    ///
    /// # Errors
    /// The field of the configuration that is wrong, and why.
    pub(crate) fn new(
        base_url: &str,
        key: Arc<Key>,
        protocol: Protocol,
    ) -> Result<Self, (&'static str, String)> {
        let wrong = |e: &dyn std::fmt::Display| ("base_url", format!("cannot be used: {e}"));
        let url = Url::parse(base_url).map_err(|e| wrong(&e))?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("callboard/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // Whether a call is made again is decided above, once. Without any, no copy of a request is kept for it.
            .retry(reqwest::retry::never().max_retries_per_request(0));
        if url.scheme() == "http" {
            // No certificates are needed, and a machine without any must still reach a local server.
            http = http.tls_certs_only([]);
        }
        if matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|e| wrong(&error::causes(&e)))?;
        Ok(Self { http, base_url: base_url.trim_end_matches('/').into(), url, key, protocol })
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: Arc<Key>) -> Self {
        Self { key, ..self.clone() }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.secret().is_some()
    }

    /// The error without the key in it.
    pub(crate) fn clean(&self, error: Error) -> Error {
        self.key.clean(error)
    }

    /// The address of a path, which may have a query, below the base.
    fn at(&self, path: &str) -> Url {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Response, Error> {
        self.send(self.http.get(self.at(path))).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        idempotency_key: Option<&str>,
    ) -> Result<Response, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidRequest, message);
        let body = serde_json::to_vec(body).map_err(|e| invalid(format!("the request is no JSON: {e}")))?;
        let mut request = self.http.post(self.at(path));
        request = request.header(CONTENT_TYPE, "application/json").body(body);
        if let Some(name) = self.protocol.idempotency {
            let value = match idempotency_key {
                Some(key) => Some(HeaderValue::from_bytes(key.as_bytes())),
                // Without one the call may come again all the same: by the broker's doing.
                None => keys::call_key().map(|key| HeaderValue::try_from(key.to_string())),
            };
            let value = value
                .transpose()
                .map_err(|_| invalid("the idempotency key must not hold control characters".into()))?;
            request = value.into_iter().fold(request, |request, value| request.header(name, value));
        }
        self.send(request).await
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, Error> {
        if let Some(key) = self.key.secret() {
            let (name, value) = match self.protocol.auth {
                Auth::Bearer => (AUTHORIZATION.as_str(), &*format!("Bearer {}", key.expose())),
                Auth::Header(name) => (name, key.expose()),
            };
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| Error::new(ErrorKind::Authentication, "the key does not fit in a header"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some((name, value)) = self.protocol.header {
            request = request.header(name, value);
        }
        let request = request.header(ACCEPT, ACCEPTED);
        let answer = request.send().await.map_err(|error| {
            if error.is_connect() || error.is_builder() {
                keys::unreached();
            }
            error::of_transport(error)
        })?;
        keys::answered(answer.headers());
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        // What could be read of the body is enough: the status alone says most.
        let body = read_up_to(answer, ERROR_BYTES).await.0;
        Err((self.protocol.refusal)(status, &headers, &body))
    }

    /// The chunks of a streamed text. A server that does not stream, or has an error under a 200, answers with
    /// one JSON document, which is what `whole` reads.
    pub(crate) async fn chunks<D: Dialect>(
        &self,
        answer: Response,
        model: String,
        whole: fn(&[u8], &str) -> Result<ProviderText, Error>,
    ) -> Result<ChunkStream, Error> {
        if is_json(&answer) {
            return Ok(of_whole(whole(&self.read(answer, TEXT_BYTES).await?, &model)?));
        }
        Ok(decode::<D>(answer, model, self.key.secret()))
    }

    /// The whole body of an answer.
    pub(crate) async fn read(&self, answer: Response, limit: usize) -> Result<Vec<u8>, Error> {
        match read_up_to(answer, limit).await {
            (body, Ok(true)) => Ok(body),
            (_, Ok(false)) => {
                Err(Error::new(ErrorKind::MalformedAnswer, format!("the answer is over {limit} bytes")))
            }
            (_, Err(error)) => Err(error::of_transport(error)),
        }
    }
}

/// A body up to a limit, and whether that was all of it.
async fn read_up_to(mut answer: Response, limit: usize) -> (Vec<u8>, reqwest::Result<bool>) {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                body.extend_from_slice(&chunk[..limit - body.len()]);
                return (body, Ok(false));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return (body, Ok(true)),
            Err(error) => return (body, Err(error)),
        }
    }
}

/// Whether an answer says that it is one JSON document.
fn is_json(answer: &Response) -> bool {
    let content_type = answer.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    content_type.trim_start().to_ascii_lowercase().starts_with("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_ports::SystemClock;

    #[test]
    fn an_address_is_below_the_base_whatever_that_ends_with() {
        let protocol = Protocol {
            auth: Auth::Bearer,
            header: None,
            idempotency: None,
            refusal: |_, _, _| Error::new(ErrorKind::ServerFault, ""),
        };
        let key = Key::none(Arc::new(SystemClock));
        let at =
            |base: &str, path: &str| Client::new(base, key.clone(), protocol).unwrap().at(path).to_string();
        for base in ["http://h:1/v1", "http://h:1/v1/", "http://h:1/v1//"] {
            assert_eq!(at(base, "chat/completions"), "http://h:1/v1/chat/completions");
        }
        for base in ["http://h:1", "http://h:1/"] {
            assert_eq!(at(base, "v1/models/m:go?alt=sse"), "http://h:1/v1/models/m:go?alt=sse");
        }
    }
}
