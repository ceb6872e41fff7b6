//! The load: chat completions of which no two are alike, at temperature 0: each is looked up in the cache, and could share
//! a call with others that ask the same.

use crate::Result;
use crate::http::{Connection, find};
use crate::provider::TOKEN;
use hdrhistogram::Histogram;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// The bytes of a prompt.
const PROMPT: usize = 480;

/// Who is called, and with which key.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

/// How many prompts there have been: each has its number in it.
#[derive(Clone, Default)]
pub(crate) struct Prompts(Rc<Cell<u64>>);

impl Prompts {
    fn next(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

/// A caller with a connection of its own.
struct Caller {
    connection: Connection,
    request: Vec<u8>,
    /// Where the number goes.
    number: usize,
    prompts: Prompts,
}

impl Caller {
    /// `tokens`: how many are streamed; none if the answer comes in one piece.
    async fn new(target: &Target, prompts: &Prompts, tokens: Option<u32>) -> Result<Self> {
        const NUMBER: &str = "00000000000000000000";
        let padding = "Tell me about this in a few words. ".repeat(PROMPT / 35);
        let options = match tokens {
            None => r#""max_tokens":64"#.to_owned(),
            Some(tokens) => {
                format!(r#""max_tokens":{tokens},"stream":true,"stream_options":{{"include_usage":true}}"#)
            }
        };
        let body = format!(
            r#"{{"model":"bench-model","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{NUMBER} {padding}"}}],"temperature":0,{options}}}"#
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\naccept: application/json\r\nuser-agent: bench\r\n\
             content-length: {}\r\n\r\n{body}",
            target.address,
            target.key,
            body.len(),
        )
        .into_bytes();
        let number = find(&request, NUMBER.as_bytes()).ok_or("a request without a number")?;
        let connection = Connection::open(target.address).await?;
        Ok(Self { connection, request, number, prompts: prompts.clone() })
    }

    /// Calls once: how long it took, to the first token if it is a stream, and to the end.
    async fn call(&mut self) -> Result<(Duration, Duration)> {
        let number = format!("{:020}", self.prompts.next());
        self.request[self.number..][..number.len()].copy_from_slice(number.as_bytes());
        let began = Instant::now();
        self.connection.write(&self.request).await?;
        let mut first = None;
        let seen = |bytes: &[u8]| {
            if first.is_none() && find(bytes, TOKEN.as_bytes()).is_some() {
                first = Some(began.elapsed());
            }
        };
        let check = |message: &[u8]| match message.starts_with(b"HTTP/1.1 200") {
            true => Ok(()),
            false => Err(format!("refused: {}", String::from_utf8_lossy(message)).into()),
        };
        self.connection.message(seen, check).await?.ok_or("no answer")?;
        let took = began.elapsed();
        Ok((first.unwrap_or(took), took))
    }
}

/// How long calls took.
pub(crate) type Took = Histogram<u64>;

fn record(took: &mut Took, span: Duration) -> Result<()> {
    Ok(took.record(u64::try_from(span.as_nanos())?)?)
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) callers: usize,
    /// All callers together.
    pub(crate) calls: usize,
    /// How long each caller waits from one call to the next; none: it does not.
    pub(crate) every: Option<Duration>,
    /// How many tokens are streamed, if anything is.
    pub(crate) tokens: Option<u32>,
}

/// What came of it.
pub(crate) struct Done {
    /// To the answer, or the first token of a stream.
    pub(crate) took: Took,
    pub(crate) span: Duration,
}

/// Calls as planned.
pub(crate) async fn run(target: &Target, prompts: &Prompts, plan: Plan) -> Result<Done> {
    let mut callers = Vec::with_capacity(plan.callers);
    for _ in 0..plan.callers {
        callers.push(Caller::new(target, prompts, plan.tokens).await?);
    }
    let left = Rc::new(Cell::new(plan.calls));
    let (local, mut running) = (LocalSet::new(), Vec::with_capacity(plan.callers));
    let began = Instant::now();
    for (i, mut caller) in callers.into_iter().enumerate() {
        let left = Rc::clone(&left);
        running.push(local.spawn_local(async move {
            let mut took = Took::new(3)?;
            let mut pace = plan.every.map(|every| {
                let offset = every.mul_f64(i as f64 / plan.callers as f64);
                tokio::time::interval_at(tokio::time::Instant::now() + offset, every)
            });
            while let Some(rest) = left.get().checked_sub(1) {
                left.set(rest);
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
                record(&mut took, caller.call().await?.0)?;
            }
            Result::Ok(took)
        }));
    }
    let mut took = Took::new(3)?;
    local
        .run_until(async {
            for running in running {
                took.add(running.await??)?;
            }
            Result::Ok(())
        })
        .await?;
    Ok(Done { took, span: began.elapsed() })
}
