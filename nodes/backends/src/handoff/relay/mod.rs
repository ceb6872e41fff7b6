//! The relay: publishes what the store has queued, and confirms to the store what the broker answers for.
//!
//! Whoever committed publishes from memory, at once; the outbox has the rest: what did not fit, what a broker
//! refused or lost, and what a node had in memory when it died.
//!
//! Invariants:
//! - A row is deleted only after the hand-off answered for exactly that hand-off number.
//! - A queue that refuses messages, or cannot be used, backs off by itself and holds no other up.
//! - While the broker is away nothing is leased, so that no row's time doubles for it; everything stays in the
//!   outbox and flows when the broker is back.
//! - Memory is bounded. Whatever is dropped from it has a row.
//!
//! Publishing a task twice is harmless: the claim decides.

mod lanes;
pub mod repair;

use callboard_domain::TaskId;
use callboard_ports::handoff::{Error, Ready};
use callboard_ports::metrics::{Distribution, FAST, Histogram};
use callboard_ports::outbox::{Lane, Lease};
use callboard_ports::store::{Commit, CommitObserver};
use callboard_ports::{Clock, Handoff, Outbox};
use lanes::Lanes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the outbox is looked at, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a leased row is hidden at first.
const HIDE: Duration = Duration::from_secs(5);
/// How often a broker that is away is asked whether it is back.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// The most rows confirmed in one statement, and the batches that may wait for it.
const CONFIRMED: usize = 2_000;
const WAITING: usize = 64;
/// For how long confirms are gathered: whoever waits for nothing needs no transaction of its own.
const GATHER: Duration = Duration::from_millis(100);
/// How often a confirm that failed is tried again, and how long between. Rows left over are published again.
const TRIES: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_millis(300);
/// How long closing waits for what is under way.
const FLUSH: Duration = Duration::from_secs(2);

/// What a relay connects.
#[derive(Clone)]
pub struct Options {
    /// The rows that were not confirmed.
    pub outbox: Arc<dyn Outbox>,
    /// Where tasks are published.
    pub handoff: Arc<dyn Handoff>,
    /// What `not_before` is compared with.
    pub clock: Arc<dyn Clock>,
    /// Random numbers from 0 to 1, so that nodes do not look all at once.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// How a relay is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Ids that wait in memory.
    pub waiting: usize,
    /// For how long the hand-off has not been reachable, and why.
    pub away: Option<(Duration, String)>,
}

struct Shared {
    options: Options,
    lanes: Mutex<Lanes>,
    away: Mutex<Option<(Instant, String)>>,
    /// There may be something to publish.
    offered: Notify,
    /// The outbox should be looked at now.
    look: Notify,
    confirmed: mpsc::Sender<Vec<(TaskId, u64)>>,
    published: Histogram,
    tracker: TaskTracker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Publishes what the store has queued.
pub struct Relay {
    shared: Arc<Shared>,
    closing: CancellationToken,
}

impl Relay {
    /// Starts to publish: register it as an observer of its store. It must be made inside a tokio runtime.
    #[must_use]
    pub fn start(options: Options) -> Arc<Self> {
        let (confirmed, to_confirm) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            options,
            lanes: Mutex::default(),
            away: Mutex::default(),
            offered: Notify::new(),
            look: Notify::new(),
            confirmed,
            published: Histogram::new(FAST),
            tracker: TaskTracker::new(),
        });
        let closing = CancellationToken::new();
        let outbox = shared.options.outbox.clone();
        let run = |work: futures::future::BoxFuture<'static, ()>| {
            let closing = closing.clone();
            shared.tracker.spawn(async move {
                closing.run_until_cancelled(work).await;
            });
        };
        run(Box::pin(publish(shared.clone())));
        run(Box::pin(sweep(shared.clone())));
        shared.tracker.spawn(confirm(outbox, to_confirm, closing.clone()));
        Arc::new(Self { shared, closing })
    }

    /// How long publishing took, from the first try to the broker's answers, in nanoseconds.
    #[must_use]
    pub fn published(&self) -> Distribution {
        self.shared.published.read()
    }

    /// How it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let away = lock(&self.shared.away).as_ref().map(|(since, why)| (since.elapsed(), why.clone()));
        Standing { waiting: lock(&self.shared.lanes).waiting(), away }
    }

    /// Publishes what waits in memory, for a bounded time, and ends. The rest is in the outbox.
    pub async fn close(&self) {
        let flushed = async {
            while !lock(&self.shared.lanes).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(FLUSH, flushed).await;
        self.closing.cancel();
        self.shared.tracker.close();
        let _ = tokio::time::timeout(FLUSH, self.shared.tracker.wait()).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl CommitObserver for Relay {
    fn committed(&self, commit: &Commit) {
        if commit.ready.is_empty() {
            return;
        }
        let now = self.shared.options.clock.now();
        let mut lanes = lock(&self.shared.lanes);
        // Those whose time has not come are leased when it has.
        for ready in commit.ready.iter().filter(|r| r.not_before.is_none_or(|due| due <= now)) {
            lanes.offer(ready.clone());
        }
        drop(lanes);
        self.shared.offered.notify_one();
    }
}

impl Shared {
    /// The hand-off cannot be reached: nothing is published until it answers again.
    fn leave(&self, why: &Error) {
        lock(&self.lanes).leave();
        lock(&self.away).get_or_insert_with(|| {
            tracing::warn!(%why, "tasks wait in the outbox until the hand-off is back");
            (Instant::now(), why.to_string())
        });
        self.look.notify_one();
    }

    fn come_back(&self) {
        lock(&self.lanes).come_back();
        if let Some((since, _)) = lock(&self.away).take() {
            tracing::info!(seconds = since.elapsed().as_secs(), "the hand-off is back");
        }
    }

    /// Publishes ids of one lane and passes on what became of them.
    async fn publish(self: Arc<Self>, lane: Lane, batch: Vec<Ready>) {
        let rows: Vec<_> = batch.iter().map(|ready| (ready.id, ready.handoff)).collect();
        let began = Instant::now();
        let answers = self.options.handoff.publish(batch).await;
        self.published.took(began.elapsed());
        let (mut confirmed, mut refused) = (Vec::new(), Vec::new());
        let (mut failed, mut away) = (Vec::new(), None);
        for (row, answer) in rows.into_iter().zip(answers) {
            match answer {
                Ok(()) => confirmed.push(row),
                Err(Error::Full) => refused.push(row),
                Err(error @ (Error::Unavailable(_) | Error::Closed)) => {
                    failed.push(row);
                    away = Some(error);
                }
            }
        }
        tracing::debug!(
            queue = %lane.0, band = ?lane.1, confirmed = confirmed.len(), refused = refused.len(), error = ?away,
            took = ?began.elapsed(), "published"
        );
        if !confirmed.is_empty() {
            // Closed only at the end: then the rows are published again by others.
            let _ = self.confirmed.send(confirmed).await;
        }
        // A broker that answers has one queue that cannot be used: it holds no other up.
        if away.is_some() && self.options.handoff.check().await.is_ok() {
            tracing::warn!(queue = %lane.0, band = ?lane.1, error = ?away, "a queue cannot be published to");
            refused.append(&mut failed);
            away = None;
        }
        let pause = lock(&self.lanes).settle(&lane, !refused.is_empty(), Instant::now());
        if !refused.is_empty() {
            tracing::debug!(queue = %lane.0, count = refused.len(), "the queue is left alone for a while");
            if let Err(error) = self.options.outbox.postpone(refused, pause).await {
                tracing::warn!(%error, "cannot postpone hand-offs; they are tried again");
            }
        }
        if let Some(why) = away {
            self.leave(&why);
        }
        if lock(&self.lanes).wants_more() {
            self.look.notify_one();
        }
        self.offered.notify_one();
    }

    /// Leases what is due and takes it in. Answers whether there was anything.
    async fn look(&self) -> Result<bool, callboard_ports::store::Error> {
        let (except, limit) = lock(&self.lanes).room(Instant::now());
        let leased = self.options.outbox.lease(Lease { except, limit, hide: HIDE }).await?;
        let any = !leased.is_empty();
        let mut lanes = lock(&self.lanes);
        leased.into_iter().for_each(|ready| lanes.offer(ready));
        drop(lanes);
        if any {
            self.offered.notify_one();
        }
        Ok(any)
    }
}

/// Publishes what waits, several lanes at once.
async fn publish(shared: Arc<Shared>) {
    loop {
        let now = Instant::now();
        let next = lock(&shared.lanes).next(now);
        if let Some((lane, batch)) = next {
            // It goes on when the relay closes: what is published is confirmed, for a bounded time.
            shared.tracker.spawn(shared.clone().publish(lane, batch));
            continue;
        }
        let end = lock(&shared.lanes).next_end(now);
        let pause = end.map_or(LOOK_EVERY, |end| end - now);
        tokio::select! {
            () = shared.offered.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Looks at the outbox from time to time, and at once when there is a reason.
async fn sweep(shared: Arc<Shared>) {
    let spread = |base: Duration| base.mul_f64(0.8 + 0.4 * (shared.options.jitter)());
    loop {
        if lock(&shared.lanes).is_away() {
            match shared.options.handoff.check().await {
                Ok(()) => shared.come_back(),
                Err(_) => {
                    tokio::time::sleep(spread(ASK_EVERY)).await;
                    continue;
                }
            }
        }
        // Seen here also on a node that has nothing to publish.
        if let Err(why) = shared.options.handoff.check().await {
            shared.leave(&why);
            continue;
        }
        match shared.look().await {
            // A backlog is taken in as fast as it is published.
            Ok(true) => lock(&shared.lanes).overflow(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot look at the outbox"),
        }
        tokio::select! {
            () = shared.look.notified() => {}
            () = tokio::time::sleep(spread(LOOK_EVERY)) => {}
        }
    }
}

/// Deletes the rows of what the hand-off answers for, until it is closed: then what came until then.
async fn confirm(
    outbox: Arc<dyn Outbox>,
    mut confirmed: mpsc::Receiver<Vec<(TaskId, u64)>>,
    closing: CancellationToken,
) {
    loop {
        let mut batch = match closing.run_until_cancelled(confirmed.recv()).await {
            Some(Some(batch)) => batch,
            Some(None) => return,
            None => match confirmed.try_recv() {
                Ok(batch) => batch,
                Err(_) => return,
            },
        };
        let gathered = async {
            while batch.len() < CONFIRMED {
                let Some(more) = confirmed.recv().await else { break };
                batch.extend(more);
            }
        };
        let _ = closing.run_until_cancelled(tokio::time::timeout(GATHER, gathered)).await;
        for attempt in 1..=TRIES {
            match outbox.confirm(batch.clone()).await {
                Ok(_) => break,
                Err(error) if attempt == TRIES => {
                    tracing::warn!(%error, rows = batch.len(), "cannot confirm hand-offs; they are published again");
                }
                Err(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }
}
