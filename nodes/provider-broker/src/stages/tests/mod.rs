//! The stages around a route that does as it is told.

mod cached;
mod claims;
mod keys;
mod second;
mod shared;
mod similar;
mod streams;
mod warm;

use super::{Answer, Claims, Route, Stages};
use crate::config::{Cache, Config};
use crate::route::{Piece, PieceStream};
use callboard_domain::llm::{Error, ErrorKind, ProviderAttempt, Summary, TextRequest, TextResponse};
use callboard_runtime::mesh;
use futures::{StreamExt as _, stream};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A route that numbers its answers.
struct Fake {
    calls: AtomicU32,
    /// Calls that are under way.
    open: AtomicU32,
    /// How many may end.
    gate: Semaphore,
    /// What the next calls end with, instead of their number.
    next: Mutex<VecDeque<Answer>>,
    /// The first message of each.
    prompts: Mutex<Vec<String>>,
}

/// A call that is under way.
struct Open<'a>(&'a AtomicU32);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    fn prompts(&self) -> Vec<String> {
        self.prompts.lock().unwrap().clone()
    }

    fn then(&self, answer: Answer) {
        self.next.lock().unwrap().push_back(answer);
    }
}

impl Route for Fake {
    async fn text(&self, request: &TextRequest) -> Answer {
        self.prompts.lock().unwrap().push(request.messages[0].content.text().into_owned());
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.open.fetch_add(1, Ordering::SeqCst);
        let _open = Open(&self.open);
        self.gate.acquire().await.unwrap().forget();
        let next = self.next.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(whole(&format!("answer {number}"))))
    }

    async fn text_stream(self: &Arc<Self>, request: &TextRequest) -> Result<PieceStream, Error> {
        let TextResponse { text, summary, .. } = self.text(request).await?;
        let begin = Summary { provider: summary.provider.clone(), ..Summary::default() };
        let (one, two) = text.split_at(text.len() / 2);
        let pieces = [
            Piece::Begin(Box::new(begin)),
            Piece::Delta(one.into()),
            Piece::Delta(two.into()),
            Piece::End(Box::new(summary)),
        ];
        Ok(stream::iter(pieces.map(Ok)).boxed())
    }

    fn is_local(&self, provider: &str) -> bool {
        provider == "offline"
    }
}

fn whole(text: &str) -> TextResponse {
    let attempt = ProviderAttempt {
        provider: "main".into(),
        key: String::new(),
        model: "m".into(),
        duration: std::time::Duration::from_millis(1),
        error: None,
    };
    let summary = Summary {
        provider: "main".into(),
        model: "m".into(),
        finish_reason: "stop".into(),
        attempts: vec![attempt],
        ..Summary::default()
    };
    TextResponse { text: text.into(), summary, ..TextResponse::default() }
}

fn error(kind: ErrorKind) -> Error {
    let mut error = Error::new(kind, "main failed");
    error.attempts.push(ProviderAttempt {
        provider: "main".into(),
        key: String::new(),
        model: "m".into(),
        duration: std::time::Duration::from_millis(1),
        error: Some((kind, "why".into())),
    });
    error
}

/// Stages around a route whose calls end at once.
fn stages(config: &Config) -> (Arc<Fake>, Arc<Stages<Fake>>) {
    let (fake, stages) = gated(config);
    fake.gate.add_permits(1_000_000);
    (fake, stages)
}

/// The same, where calls end when the test says so.
fn gated(config: &Config) -> (Arc<Fake>, Arc<Stages<Fake>>) {
    let fake = Arc::new(Fake {
        calls: AtomicU32::new(0),
        open: AtomicU32::new(0),
        gate: Semaphore::new(0),
        next: Mutex::default(),
        prompts: Mutex::default(),
    });
    let stages = Stages::new(Arc::clone(&fake), config, None, alone());
    (fake, stages)
}

/// The claims of a node that shares none.
fn alone() -> Claims {
    Claims::new(None, Arc::new(|| 0.5))
}

/// A configuration with the exact cache on.
fn caching() -> Config {
    Config { cache: Cache { enabled: true, ..Cache::default() }, ..Config::default() }
}

fn ask(prompt: &str) -> TextRequest {
    TextRequest::prompt(prompt)
}

/// A call in a namespace, of a kind.
async fn of<F: Future>(namespace: &str, kind: &str, call: F) -> F::Output {
    let context = mesh::Context { namespace: namespace.into(), kind: kind.into(), ..Default::default() };
    context.scope(call).await
}

/// Makes calls, and lets each go as far as it can.
async fn begin(
    stages: &Arc<Stages<Fake>>,
    requests: impl IntoIterator<Item = TextRequest>,
) -> JoinSet<Answer> {
    let mut calls = JoinSet::new();
    for request in requests {
        let stages = Arc::clone(stages);
        calls.spawn(async move { stages.text(&request).await });
        tokio::task::yield_now().await;
    }
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    calls
}
