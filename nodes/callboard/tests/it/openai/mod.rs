//! The endpoint that speaks OpenAI's API, over HTTP, with a provider on the wire.

mod answers;
mod budgets;
mod cached;
mod clients;
mod embeddings;
mod errors;
mod images;
mod keys;
mod listener;
mod models;
mod streams;
mod tools;

use crate::node::{Builder, InProcess};
use callboard_provider_broker::config::ProviderConfig;
use callboard_testkit::FakeProvider;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

/// A node with one provider, `main`, and a client of its endpoint.
struct Bench {
    node: InProcess,
    fake: FakeProvider,
    http: Client,
}

/// A provider that is the fake one.
fn provider(name: &str, fake: &FakeProvider) -> ProviderConfig {
    ProviderConfig {
        text_model: Some("fake-text".into()),
        image_model: Some("fake-image".into()),
        embedding_model: Some("fake-embedding".into()),
        ..ProviderConfig::openai(name, fake.base_url())
    }
}

impl Bench {
    async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let fake = FakeProvider::start().await.unwrap();
        let providers = vec![provider("main", &fake)];
        // What becomes of one call: a breaker would answer the next, and a retry hide it.
        let builder = InProcess::builder().config(|config| {
            config.broker.providers = providers;
            config.broker.breaker.enabled = false;
            config.broker.retry.max = 0;
        });
        let http = Client::builder().no_proxy().build().unwrap();
        Self { node: change(builder).start().await, fake, http }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v1/{path}", self.node.running.public)
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.http.post(self.url(path)).json(body)
    }

    async fn chat(&self, body: &Value) -> Response {
        self.post("chat/completions", body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }
}

/// A question to a model.
fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello you"}]})
}

/// The same, to be answered as a stream.
fn ask_stream(model: &str) -> Value {
    let mut body = ask(model);
    body["stream"] = json!(true);
    body
}

/// A header of an answer; empty if it is not there.
fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The status of an answer, and its error object.
async fn refusal(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    (status, body["error"].clone())
}
