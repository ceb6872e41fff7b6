//! The way to one other node: one HTTP/2 connection, made when it is needed and made again when it broke.
//!
//! It knows of every call whether it was sent, and says so in the status of those that fail: what was not
//! sent, and what the other side said it would not process (GOAWAY, REFUSED_STREAM), did not run; all else
//! may have run. Nothing is ever sent twice.

use super::connect::{self, Driver, Sender, Timing, chain};
use super::error;
use super::tls::Identity;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;

/// The most calls at once to one node, streams included. More wait, within their deadline.
const CALLS: usize = 1_000;
/// After a failed attempt to connect, calls fail at once for this long.
const PAUSE: Duration = Duration::from_millis(100);

/// Is told how a connection fares. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// An attempt to connect failed.
    fn failed(&self, _why: &str) {}
    /// A connection that was made has ended.
    fn broke(&self, _why: &str) {}
    /// The node has answered a call.
    fn answered(&self) {}
    /// A call was sent, and its time was up before an answer came.
    fn timed_out(&self) {}
}

/// An observer that does not look.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// What a link is made of.
#[derive(Clone)]
pub struct Options {
    /// Whom it leads to, for people.
    pub peer: String,
    /// Where that is: `host:port`.
    pub address: String,
    /// This node's certificates. `None`: nothing is encrypted, and nobody verified.
    pub identity: Option<Arc<Identity>>,
    /// How patient it is.
    pub timing: Timing,
    /// Who is told how it fares.
    pub observer: Arc<dyn Observer>,
    /// What keeps track of its tasks.
    pub tracker: TaskTracker,
}

/// The way to one other node. A clone is the same way; with the last one its connection ends.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    origin: http::uri::Parts,
    state: Mutex<State>,
    /// The number of the open connection; zero if there is none.
    open: watch::Sender<u64>,
    calls: Arc<Semaphore>,
}

type Attempt = Shared<BoxFuture<'static, Result<(Sender, u64), Arc<str>>>>;

#[derive(Default)]
struct State {
    /// How many connections were tried.
    count: u64,
    phase: Phase,
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Connecting(Attempt),
    Open(Sender, u64),
    Failed(Instant, Arc<str>),
}

impl Link {
    /// A way to a node. Nothing is connected yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut origin = http::uri::Parts::default();
        let scheme =
            if options.identity.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP };
        origin.scheme = Some(scheme);
        // An address that is none of a URI's fails when it is resolved, with a better message.
        let authority = options.address.parse();
        origin.authority =
            Some(authority.unwrap_or_else(|_| http::uri::Authority::from_static(super::tls::NODE)));
        let inner = Inner {
            options,
            origin,
            state: Mutex::default(),
            open: watch::Sender::new(0),
            calls: Arc::new(Semaphore::new(CALLS)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A way that begins with a connection that is there.
    pub(crate) fn over(options: Options, connection: (Sender, Driver)) -> Self {
        let link = Self::new(options);
        let mut state = link.inner.state();
        state.count = 1;
        state.phase = Phase::Open(connection.0, 1);
        drop(state);
        link.inner.opened(1, connection.1);
        link
    }

    /// Waits until the connection that is open has ended; returns at once if there is none.
    pub async fn ended(&self) {
        let mut open = self.inner.open.subscribe();
        let now = *open.borrow();
        if now != 0 {
            // The sender lives as long as this link.
            let _ = open.wait_for(|number| *number != now).await;
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open connection, or the outcome of the attempt that all who wait share.
    async fn sender(self: &Arc<Self>) -> Result<Sender, Arc<str>> {
        let attempt = {
            let mut state = self.state();
            match &state.phase {
                Phase::Open(sender, _) if !sender.is_closed() => return Ok(sender.clone()),
                Phase::Failed(at, why) if at.elapsed() < PAUSE => return Err(Arc::clone(why)),
                Phase::Connecting(attempt) => attempt.clone(),
                _ => {
                    state.count += 1;
                    let attempt = Arc::clone(self).connect(state.count).boxed().shared();
                    state.phase = Phase::Connecting(attempt.clone());
                    // It goes on although who asked for it may give up.
                    self.options.tracker.spawn(attempt.clone());
                    attempt
                }
            }
        };
        attempt.await.map(|(sender, _)| sender)
    }

    async fn connect(self: Arc<Self>, number: u64) -> Result<(Sender, u64), Arc<str>> {
        let Options { address, identity, timing, tracker, observer, .. } = &self.options;
        let made = async {
            let stream = connect::tcp(address, timing.connect).await?;
            connect::http2(stream, identity.as_deref(), *timing, tracker).await
        };
        match made.await {
            Ok((sender, driver)) => {
                self.state().phase = Phase::Open(sender.clone(), number);
                self.opened(number, driver);
                Ok((sender, number))
            }
            Err(error) => {
                let why: Arc<str> = error.text().into();
                self.state().phase = Phase::Failed(Instant::now(), Arc::clone(&why));
                observer.failed(&why);
                Err(why)
            }
        }
    }

    /// Runs a connection to its end. It must not keep the link alive: without one it is to end.
    fn opened(self: &Arc<Self>, number: u64, driver: Driver) {
        self.open.send_replace(number);
        let link: Weak<Self> = Arc::downgrade(self);
        self.options.tracker.spawn(async move {
            let ended = driver.await;
            let Some(link) = link.upgrade() else { return };
            let why = ended.err().map_or_else(|| "it was closed".into(), |e| chain(&e));
            {
                let mut state = link.state();
                if matches!(state.phase, Phase::Open(_, open) if open == number) {
                    state.phase = Phase::Idle;
                }
            }
            link.open.send_if_modified(|open| {
                let ours = *open == number;
                if ours {
                    *open = 0;
                }
                ours
            });
            link.options.observer.broke(&why);
        });
    }

    async fn send(self: Arc<Self>, mut request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let peer = &self.options.peer;
        let flight = request.extensions_mut().remove::<Flight>().unwrap_or_default();
        let not_sent = |why: &str| error::not_sent(peer, why);
        let permit = Arc::clone(&self.calls).acquire_owned().await;
        let permit = permit.map_err(|_| not_sent("the link was closed"))?;
        self.address(&mut request).map_err(|e| not_sent(&e.to_string()))?;
        let mut again = true;
        loop {
            let mut sender = self.sender().await.map_err(|why| not_sent(&why))?;
            flight.depart(&self.options.observer);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.options.observer.answered();
                    return Ok(response.map(|body| Body::new(Held { body, _permit: permit })));
                }
                Err(mut failure) => match failure.take_message() {
                    // The connection ended before this went out: there may be another.
                    Some(back) if again => {
                        flight.returned();
                        request = back;
                        again = false;
                    }
                    Some(_) => {
                        flight.returned();
                        return Err(not_sent(&chain(failure.error())));
                    }
                    None => return Err(sent_in_vain(peer, failure.error())),
                },
            }
        }
    }

    fn address(&self, request: &mut http::Request<Body>) -> Result<(), http::Error> {
        let mut parts = http::uri::Parts::default();
        parts.scheme.clone_from(&self.origin.scheme);
        parts.authority.clone_from(&self.origin.authority);
        parts.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = http::Uri::from_parts(parts)?;
        Ok(())
    }
}

/// What is known of a call that was sent and has no answer.
fn sent_in_vain(peer: &str, error: &hyper::Error) -> Status {
    let why = chain(error);
    let causes = std::iter::successors(std::error::Error::source(error), |e| e.source());
    match causes.filter_map(|e| e.downcast_ref::<h2::Error>()).next() {
        Some(e) if unprocessed(e) => error::not_sent(peer, &why),
        Some(e) if e.is_library() && !e.is_io() => error::foreign(peer, &why),
        _ => error::lost(peer, &why),
    }
}

/// Whether the other side said that it has not looked at the call. Of the streams of a connection only those
/// beyond the last one it will process see its GOAWAY.
fn unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || refused)
}

impl tower_service::Service<http::Request<Body>> for Link {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Arc::clone(&self.inner).send(request).boxed()
    }
}

/// What is known of one call outside of it, once its time is up.
#[derive(Clone, Default)]
pub(super) struct Flight {
    inner: Arc<FlightInner>,
}

#[derive(Default)]
struct FlightInner {
    sent: AtomicBool,
    observer: OnceLock<Arc<dyn Observer>>,
}

impl Flight {
    fn depart(&self, observer: &Arc<dyn Observer>) {
        let _ = self.inner.observer.set(Arc::clone(observer));
        self.inner.sent.store(true, Ordering::SeqCst);
    }

    fn returned(&self) {
        self.inner.sent.store(false, Ordering::SeqCst);
    }

    /// The call's time is up, and it was dropped. Says whether it had been sent.
    pub(super) fn expire(&self) -> bool {
        let sent = self.inner.sent.load(Ordering::SeqCst);
        if sent && let Some(observer) = self.inner.observer.get() {
            observer.timed_out();
        }
        sent
    }
}

/// An answer's body: as long as it is read, the call counts as one of those at once.
struct Held {
    body: hyper::body::Incoming,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Held {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
