//! The effect sink: what tasks did to the world, recorded outside the product.

use crate::sandbox::SINK;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// The port it listens on, in the run's own namespace.
pub(crate) const PORT: u16 = 9000;

/// What a handler told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It began.
    Start,
    /// It did its one effect, under the step's key.
    Effect,
    /// It fails: the task begins again after its backoff.
    Failure,
}

/// One line of the record.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) what: What,
    pub(crate) task: String,
    pub(crate) attempt: u32,
    pub(crate) node: u8,
    /// If it got a token of the limit: when it asked and when it knew, in microseconds since the epoch.
    pub(crate) token: Option<(i64, i64)>,
    pub(crate) at: Instant,
}

/// All that was told so far.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<Entry>>>);

impl Sink {
    /// Listens, until the run ends.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        let listener = TcpListener::bind((SINK, PORT)).await?;
        let connections = tokio_util::task::TaskTracker::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let sink = self.clone();
            connections.spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                if stream.read_line(&mut line).await.is_ok()
                    && let Some(entry) = parse(&line)
                {
                    sink.lock().push(entry);
                    // Told only once it is recorded.
                    let _ = stream.get_mut().write_all(b"ok\n").await;
                }
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the record.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// The tasks that run on a node now: begun there by their newest attempt, and not at its end.
    pub(crate) fn running_on(&self, node: u8) -> Vec<String> {
        let mut newest: HashMap<&str, &Entry> = HashMap::new();
        let entries = self.lock();
        for entry in entries.iter() {
            newest.insert(&entry.task, entry);
        }
        let here = newest.into_values().filter(|e| e.what == What::Start && e.node == node);
        here.map(|e| e.task.clone()).collect()
    }
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let what = match words.next()? {
        "start" => What::Start,
        "effect" => What::Effect,
        "failure" => What::Failure,
        _ => return None,
    };
    let key = words.next()?;
    let task = key.split('/').next()?.to_owned();
    let attempt = words.next()?.parse().ok()?;
    let node = words.next()?.parse().ok()?;
    let token = words.next().zip(words.next());
    let token = token.and_then(|(asked, known)| Some((asked.parse().ok()?, known.parse().ok()?)));
    Some(Entry { what, task, attempt, node, token, at: Instant::now() })
}

/// Tells the sink; returns once it has recorded.
pub(crate) async fn tell(line: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((SINK, PORT)).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    if answer == "ok\n" { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
