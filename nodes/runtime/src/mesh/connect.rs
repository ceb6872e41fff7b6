//! One connection to another node: TCP, then TLS if the cluster has certificates, then HTTP/2.

use super::tls::{self, Identity};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

/// Receive windows in bytes, wide enough for an image in few round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The most bytes of an answer's headers: errors carry their details there.
const HEADER_BYTES: u32 = 64 << 10;

/// Why there is no connection. Nothing was asked of the other side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The address is no address, or its name is unknown.
    #[error("cannot resolve the address")]
    Resolve(#[source] io::Error),
    /// Every address answered that nobody listens there.
    #[error("connection refused")]
    Refused,
    /// Nobody is there, or nothing leads there.
    #[error("cannot connect")]
    Unreachable(#[source] io::Error),
    /// No answer in time.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    /// Somebody is there, and one of the two does not trust the other.
    #[error("not trusted: {0}")]
    Untrusted(String),
    /// Somebody is there who speaks something else.
    #[error("not a node: {0}")]
    Foreign(String),
    /// The connection broke while it was made.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

impl Error {
    /// What went wrong with its causes, on one line.
    pub(crate) fn text(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// How patient connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a connection may take to be made: TCP, TLS and the first word of the other side.
    pub connect: Duration,
    /// How often an open connection asks whether the other side is there.
    pub ping_every: Duration,
    /// How long the other side may take to say so.
    pub ping_within: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            ping_every: Duration::from_secs(1),
            ping_within: Duration::from_secs(2),
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Sender = http2::SendRequest<Body>;
pub(crate) type Driver = futures::future::BoxFuture<'static, Result<(), hyper::Error>>;

/// Runs a connection's streams where they are tracked.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tracked {
    fn execute(&self, work: F) {
        self.0.spawn(work);
    }
}

/// Connects to `host:port`. A name may have several addresses: each is tried, within its share of the time.
pub(crate) async fn tcp(address: &str, within: Duration) -> Result<TcpStream, Error> {
    let until = tokio::time::Instant::now() + within;
    let late = || Error::TimedOut(within);
    let found = tokio::time::timeout_at(until, tokio::net::lookup_host(address)).await;
    let found: Vec<_> = found.map_err(|_| late())?.map_err(Error::Resolve)?.collect();
    let mut failed = Vec::new();
    for (n, at) in found.iter().enumerate() {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let share = left / u32::try_from(found.len() - n).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => {
                // Calls are small and answered: waiting for more bytes only adds to their latency.
                stream.set_nodelay(true).map_err(Error::Broken)?;
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => failed.push(Error::Refused),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => failed.push(late()),
            Ok(Err(error)) => failed.push(Error::Unreachable(error)),
            Err(_) => failed.push(late()),
        }
    }
    // Refused is said only if all of them say so: it may count as a proof that nobody is there.
    let other = failed.iter().position(|error| !matches!(error, Error::Refused));
    match other {
        Some(index) => Err(failed.swap_remove(index)),
        None if failed.is_empty() => {
            Err(Error::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
        }
        None => Err(Error::Refused),
    }
}

/// Makes an HTTP/2 connection of a TCP connection. The driver has to be run.
///
/// With certificates it waits for the other side's first word: a server verifies the client last, so only
/// then is it known that it lets this node in, and whatever fails before has asked nothing of it.
pub(crate) async fn http2(
    stream: TcpStream,
    identity: Option<&Identity>,
    timing: Timing,
    tracker: &TaskTracker,
) -> Result<(Sender, Driver), Error> {
    let late = |_| Error::TimedOut(timing.connect);
    let secured = tokio::time::timeout(timing.connect, secure(stream, identity));
    let io = secured.await.map_err(late)??;
    let mut builder = http2::Builder::new(Tracked(tracker.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(timing.ping_every)
        .keep_alive_timeout(timing.ping_within)
        .keep_alive_while_idle(true);
    let made = builder.handshake::<_, Body>(TokioIo::new(io)).await;
    let (sender, connection) = made.map_err(|e| Error::Foreign(chain(&e)))?;
    Ok((sender, Box::pin(connection)))
}

async fn secure(stream: TcpStream, identity: Option<&Identity>) -> Result<Box<dyn Io>, Error> {
    let Some(identity) = identity else { return Ok(Box::new(stream)) };
    let secured = identity.connector().connect(tls::node_name(), stream).await.map_err(untrusted)?;
    let mut io = BufReader::new(secured);
    if io.fill_buf().await.map_err(untrusted)?.is_empty() {
        return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Box::new(io))
}

/// Tells a refusal from a connection that broke.
fn untrusted(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => Error::Foreign("it does not speak TLS".into()),
        Some(refusal) => Error::Untrusted(tls::explain(refusal)),
        None => Error::Broken(error),
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
