//! The thread that keeps a node's session in a cluster.
//!
//! It opens the session, renews it, passes on what a renewal tells, opens another when that one is over, and
//! ends it when the node closes. It has a runtime and a connection of its own, so that no amount of work delays
//! a renewal; for the same reason it looks whether that work still moves, and gives the node up when it does
//! not.

use crate::cluster::Member;
use crate::node::Node;
use callboard_domain::SessionId;
use callboard_ports::sessions::NewSession;
use callboard_ports::store::Error;
use callboard_runtime::membership::{Fault, Wedge};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// For how long the runtime may do nothing, or statements fail, while renewals succeed.
const WEDGED: Duration = Duration::from_secs(30);
/// How long a node whose runtime does nothing has to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long one that can still drain has.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// How often the end of a session is tried.
const END_TRIES: u32 = 3;

/// Starts the thread.
pub(crate) fn start(node: &Arc<Node>, member: &Arc<Member>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keeper = Keeper::new(Arc::clone(node), Arc::clone(member));
    let thread = move || runtime.block_on(keeper.run());
    std::thread::Builder::new().name("session".into()).spawn(thread)?;
    Ok(())
}

/// Why renewing a session has stopped.
enum Stop {
    /// The store says that it has ended.
    Over,
    /// The node closes.
    Closing,
    /// The process is of no use any more.
    Wedged(Fault),
}

pub(crate) struct Keeper {
    node: Arc<Node>,
    member: Arc<Member>,
    wedge: Wedge,
    /// Whether an earlier session of this process was ended.
    revival: bool,
    /// The session to open next, and whether it may have been opened: the answer was lost.
    opening: Option<(NewSession, bool)>,
    /// The sessions of this process so far: any other of its name is a successor's.
    own: Vec<SessionId>,
}

impl Keeper {
    pub(crate) fn new(node: Arc<Node>, member: Arc<Member>) -> Self {
        let wedge = Wedge::new(&member.cluster.timing, WEDGED, Instant::now());
        Self { node, member, wedge, revival: false, opening: None, own: Vec::new() }
    }

    /// Runs until the node closes, is ended or gives up.
    pub(crate) async fn run(mut self) {
        let (node, member) = (Arc::clone(&self.node), Arc::clone(&self.member));
        let live = AssertUnwindSafe(self.live()).catch_unwind();
        let end = member.cluster.ended.run_until_cancelled(live).await;
        let closed = match end {
            Some(Ok(closed)) => closed,
            Some(Err(_)) => {
                (node.deps.give_up)("the thread of the renewals has panicked".into());
                Err(Error::Unavailable("the renewals have stopped".into()))
            }
            None => Err(Error::Unavailable("the renewals were stopped".into())),
        };
        member.lease().over();
        node.publish();
        member.closed.send_replace(Some(closed));
    }

    async fn live(&mut self) -> Result<(), Error> {
        loop {
            let Some(id) = self.open().await else { return Ok(()) };
            match self.renew(id).await {
                Stop::Over => self.over(id),
                Stop::Closing => return self.end(id, "its node has drained").await,
                Stop::Wedged(fault) => return self.give_up(id, fault).await,
            }
        }
    }

    /// Opens a session. `None`: the node closes, or must not have one.
    async fn open(&mut self) -> Option<SessionId> {
        while !self.member.closing.is_cancelled() {
            match self.try_open().await {
                Ok(id) => return id,
                Err(error) => tracing::warn!(%error, "cannot open a session"),
            }
            let pause = sleep(self.member.cluster.timing.period / 4);
            self.member.closing.run_until_cancelled(pause).await;
        }
        None
    }

    async fn try_open(&mut self) -> Result<Option<SessionId>, Error> {
        if self.revival
            && let Some(successor) = self.successor().await?
        {
            let name = &self.node.options.name;
            (self.node.deps.give_up)(format!(
                "another node has taken the name `{name}` (session {successor}): give each node its own"
            ));
            return Ok(None);
        }
        let id = self.write_session().await?;
        self.node.take_session(id);
        tracing::info!(session.id = %id, revival = self.revival, "opened a session");
        (self.member.cluster.hooks.on_opened)(id);
        self.member.look.notify_one();
        Ok(Some(id))
    }

    /// Writes the next session down. One whose answer was lost is tried again under the same id, so that none
    /// is left behind that nobody renews.
    async fn write_session(&mut self) -> Result<SessionId, Error> {
        let cluster = &self.member.cluster;
        let next = || (self.node.new_session(self.revival), false);
        let (session, unsure) = self.opening.get_or_insert_with(next);
        let id = session.id;
        if self.own.last() != Some(&id) {
            self.own.push(id);
        }
        let asked = Instant::now();
        let opened = within(cluster.timing.deadline, cluster.renewals.open_session(session.clone())).await;
        let opened = match opened {
            Err(Error::Refused(_)) if *unsure => {
                within(cluster.timing.deadline, cluster.renewals.renew_session(id)).await.map(|_| ())
            }
            other => other,
        };
        match opened {
            Ok(()) => {
                self.opening = None;
                self.member.lease().renewed(asked, Instant::now());
                Ok(id)
            }
            Err(error @ (Error::SessionEnded | Error::Refused(_))) => {
                self.opening = None;
                Err(error)
            }
            Err(error) => {
                *unsure = true;
                Err(error)
            }
        }
    }

    /// A live session of this node's name that another process has opened: at this one's start there was none.
    async fn successor(&self) -> Result<Option<SessionId>, Error> {
        let cluster = &self.member.cluster;
        let live = within(cluster.timing.deadline, cluster.renewals.live_sessions()).await?;
        let of_our_name = live.into_iter().filter(|s| s.opened.node == self.node.options.name);
        Ok(of_our_name.map(|s| s.opened.id).find(|id| !self.own.contains(id)))
    }

    async fn renew(&mut self, id: SessionId) -> Stop {
        let member = Arc::clone(&self.member);
        let timing = member.cluster.timing;
        let mut next = Instant::now() + timing.period;
        loop {
            tokio::select! {
                biased;
                () = member.closing.cancelled() => return Stop::Closing,
                () = member.renew.notified() => {}
                () = sleep_until(next) => {}
            }
            if self.node.session() != Some(id) {
                return Stop::Over;
            }
            let asked = Instant::now();
            let beat = member.beat.load(Ordering::Relaxed);
            let unbroken = member.lease().unbroken(asked);
            if let Some(fault) = self.wedge.check(asked, beat, self.node.work_seen(), unbroken) {
                return Stop::Wedged(fault);
            }
            match within(timing.deadline, member.cluster.renewals.renew_session(id)).await {
                Ok(cancels) => {
                    self.renewed(asked);
                    if !cancels.is_empty() {
                        (member.cluster.hooks.on_cancels)(cancels);
                    }
                    next = asked + timing.period;
                }
                Err(Error::SessionEnded) => return Stop::Over,
                Err(error) => {
                    self.failed(asked, &error);
                    next = Instant::now() + timing.period / 4;
                }
            }
        }
    }

    fn renewed(&self, asked: Instant) {
        if self.member.lease().renewed(asked, Instant::now()) {
            tracing::info!("the session is renewed again");
        }
        self.node.publish();
    }

    fn failed(&self, asked: Instant, error: &Error) {
        if self.member.lease().failed(asked) {
            tracing::warn!(%error, "cannot renew the session; nothing is claimed until that succeeds");
        }
        self.node.publish();
    }

    fn over(&mut self, id: SessionId) {
        self.member.lease().over();
        self.node.drop_session(id);
        tracing::warn!(session.id = %id, "the session is over; what ran under it is cancelled");
        (self.member.cluster.hooks.on_session_over)(id);
        self.revival = true;
    }

    async fn end(&self, id: SessionId, reason: &str) -> Result<(), Error> {
        self.member.lease().over();
        self.node.drop_session(id);
        let cluster = &self.member.cluster;
        let mut last = Ok(());
        for _ in 0..END_TRIES {
            last =
                within(cluster.timing.deadline, cluster.renewals.end_session(id, reason)).await.map(|_| ());
            if last.is_ok() {
                break;
            }
            sleep(cluster.timing.period / 4).await;
        }
        last
    }

    async fn give_up(&self, id: SessionId, fault: Fault) -> Result<(), Error> {
        let reason = fault.reason();
        tracing::error!(session.id = %id, reason, "this node ends its own session");
        let ended = self.end(id, reason).await;
        (self.member.cluster.hooks.on_session_over)(id);
        (self.node.deps.give_up)(reason.into());
        self.member.closed.send_replace(Some(ended.clone()));
        let patience = match fault {
            Fault::Runtime => LAST_WORDS,
            Fault::Work => DRAIN_WITHIN,
        };
        // A node that closes in time ends by itself.
        if self.member.closing.run_until_cancelled(sleep(patience)).await.is_some() {
            (self.member.cluster.hooks.exit)();
        }
        ended
    }
}

/// An answer of the store within its time.
pub(crate) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout(deadline, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unavailable(format!("no answer within {deadline:?}"))),
    }
}
