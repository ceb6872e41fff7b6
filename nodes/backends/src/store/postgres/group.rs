//! Group commit: whatever waits while the previous commit is in flight forms the next batch.
//!
//! There is no timer: a single call is committed at once, and the batch grows while the write is in
//! flight. What may wait is bounded in rows and in bytes, and so is one batch. A call is done once it is
//! queued, also if its caller goes away.

use callboard_ports::metrics::{Batches, BatchesRead};
use callboard_ports::store::Error;
use futures::FutureExt as _;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Bounds of what may wait, or of what one commit takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Bounds {
    fn holds(self, rows: usize, bytes: usize) -> bool {
        rows <= self.rows && bytes <= self.bytes
    }
}

/// One commit's rows and bytes at the most, unless a single call brings more.
const COMMIT: Bounds = Bounds { rows: 1_000, bytes: 8 << 20 };

/// Commits batches. One at a time.
pub(super) trait Commit: Send + 'static {
    type Item: Send + 'static;
    type Out: Send + 'static;

    /// Commits items, with an answer for each, in order.
    fn commit(&mut self, items: Vec<Self::Item>) -> impl Future<Output = Vec<Self::Out>> + Send;

    /// Ends in good order.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// One caller's items.
struct Call<I, O> {
    items: Vec<I>,
    bytes: usize,
    reply: oneshot::Sender<Vec<O>>,
}

struct Waiting<I, O> {
    calls: VecDeque<Call<I, O>>,
    rows: usize,
    bytes: usize,
    closed: bool,
}

struct Shared<I, O> {
    waiting: Mutex<Waiting<I, O>>,
    arrived: Notify,
    bounds: Bounds,
    batches: Batches,
}

/// A queue of calls and those who commit them.
pub(super) struct Group<I, O>(Arc<Shared<I, O>>);

impl<I, O> Shared<I, O> {
    fn lock(&self) -> MutexGuard<'_, Waiting<I, O>> {
        // Nothing can panic while it is held, but for an allocation.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for calls and takes what is there, up to one commit's bounds but at least one.
    /// None once it is closed and empty.
    async fn take(&self) -> Option<Vec<Call<I, O>>> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let mut waiting = self.lock();
                if !waiting.calls.is_empty() {
                    let calls = take(&mut waiting);
                    if !waiting.calls.is_empty() {
                        // There may be others who commit.
                        self.arrived.notify_one();
                    }
                    return Some(calls);
                }
                if waiting.closed {
                    self.arrived.notify_one();
                    return None;
                }
            }
            arrived.await;
        }
    }
}

fn take<I, O>(waiting: &mut Waiting<I, O>) -> Vec<Call<I, O>> {
    let mut calls = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    while let Some(call) = waiting.calls.front() {
        (rows, bytes) = (rows + call.items.len(), bytes + call.bytes);
        if !calls.is_empty() && !COMMIT.holds(rows, bytes) {
            break;
        }
        (waiting.rows, waiting.bytes) = (waiting.rows - call.items.len(), waiting.bytes - call.bytes);
        calls.extend(waiting.calls.pop_front());
    }
    calls
}

impl<I: Send + 'static, O: Send + 'static> Group<I, O> {
    /// A queue, emptied by as many tasks as there are `committers`.
    pub(super) fn new<C>(bounds: Bounds, committers: Vec<C>, tracker: &TaskTracker) -> Self
    where
        C: Commit<Item = I, Out = O>,
    {
        let waiting = Waiting { calls: VecDeque::new(), rows: 0, bytes: 0, closed: false };
        let (waiting, arrived, batches) = (Mutex::new(waiting), Notify::new(), Batches::default());
        let shared = Arc::new(Shared { waiting, arrived, bounds, batches });
        for committer in committers {
            tracker.spawn(run(Arc::clone(&shared), committer));
        }
        Self(shared)
    }

    /// Queues a call and waits for its answers, one for each item.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::Unavailable`] when closed; [`Error::Unknown`] if what commits died.
    pub(super) async fn call(&self, items: Vec<I>, bytes: usize) -> Result<Vec<O>, Error> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.0.lock();
            if waiting.closed {
                return Err(Error::Unavailable("the store is closed".into()));
            }
            let (all, all_bytes) = (waiting.rows + items.len(), waiting.bytes + bytes);
            if !waiting.calls.is_empty() && !self.0.bounds.holds(all, all_bytes) {
                return Err(Error::Overloaded);
            }
            (waiting.rows, waiting.bytes) = (all, all_bytes);
            waiting.calls.push_back(Call { items, bytes, reply });
        }
        self.0.arrived.notify_one();
        answer.await.map_err(|_| Error::Unknown("the writer of the store stopped".into()))
    }

    /// How it commits: sizes, times, what waits.
    pub(super) fn batches(&self) -> BatchesRead {
        let waiting = self.0.lock().rows;
        self.0.batches.read(waiting)
    }

    /// Lets nothing more in. What waits is committed.
    pub(super) fn close(&self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_waiters();
        self.0.arrived.notify_one();
    }
}

impl<I, O> Drop for Group<I, O> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_waiters();
        self.0.arrived.notify_one();
    }
}

async fn run<C: Commit>(shared: Arc<Shared<C::Item, C::Out>>, mut committer: C) {
    while let Some(calls) = shared.take().await {
        let mut counts = Vec::with_capacity(calls.len());
        let mut items = Vec::with_capacity(calls.iter().map(|call| call.items.len()).sum());
        for call in calls {
            counts.push((call.items.len(), call.reply));
            items.extend(call.items);
        }
        // A panic must not stop every write of the node: these callers learn that nobody knows.
        let (rows, began) = (items.len(), Instant::now());
        let answers = AssertUnwindSafe(committer.commit(items)).catch_unwind().await;
        shared.batches.wrote(rows, began.elapsed());
        let Ok(answers) = answers else {
            tracing::error!("a writer of the store panicked");
            continue;
        };
        let mut answers = answers.into_iter();
        for (count, reply) in counts {
            // A caller that went away does not want to know.
            let _ = reply.send(answers.by_ref().take(count).collect());
        }
    }
    committer.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use tokio::sync::mpsc;

    /// Tells the sizes of the batches it commits, and waits to be let go.
    struct Slow {
        sizes: mpsc::UnboundedSender<usize>,
        go: mpsc::UnboundedReceiver<()>,
    }

    impl Commit for Slow {
        type Item = usize;
        type Out = usize;

        async fn commit(&mut self, items: Vec<usize>) -> Vec<usize> {
            self.sizes.send(items.len()).unwrap();
            self.go.recv().await;
            assert!(!items.contains(&666), "on purpose");
            items.into_iter().map(|i| i + 1).collect()
        }

        async fn close(&mut self) {}
    }

    struct Bench {
        group: Group<usize, usize>,
        sizes: mpsc::UnboundedReceiver<usize>,
        go: mpsc::UnboundedSender<()>,
        tracker: TaskTracker,
    }

    fn bench(bounds: Bounds) -> Bench {
        let ((sizes, told), (go, may_go)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let tracker = TaskTracker::new();
        let group = Group::new(bounds, vec![Slow { sizes, go: may_go }], &tracker);
        Bench { group, sizes: told, go, tracker }
    }

    const WIDE: Bounds = Bounds { rows: 10_000, bytes: 1 << 30 };

    #[tokio::test]
    async fn what_waits_is_committed_together_and_each_gets_its_own_answers() {
        let Bench { group, mut sizes, go, .. } = bench(WIDE);
        let mut first = Box::pin(group.call(vec![0], 0));
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(sizes.recv().await, Some(1));
        let mut rest = Box::pin(join_all((1..=100).map(|i| group.call(vec![i, 2 * i], 0))));
        assert!(futures::poll!(&mut rest).is_pending());
        go.send(()).unwrap();
        assert_eq!(first.await, Ok(vec![1]));
        go.send(()).unwrap();
        for (i, answers) in (1..).zip(rest.await) {
            assert_eq!(answers, Ok(vec![i + 1, 2 * i + 1]));
        }
        assert_eq!(sizes.recv().await, Some(200), "in one commit");
        let batches = group.batches();
        assert_eq!((batches.rows.count(), batches.rows.sum, batches.waiting), (2, 201, 0));
        assert_eq!(batches.took.count(), 2);
    }

    #[tokio::test]
    async fn past_its_bounds_it_refuses_at_once() {
        let Bench { group, mut sizes, go, .. } = bench(Bounds { rows: 3, bytes: 10 });
        let mut first = Box::pin(group.call(vec![0], 0));
        assert!(futures::poll!(&mut first).is_pending());
        sizes.recv().await;
        let mut waits = Box::pin(group.call(vec![1, 2], 9));
        assert!(futures::poll!(&mut waits).is_pending());
        assert_eq!(group.call(vec![3, 4], 0).await, Err(Error::Overloaded), "rows");
        assert_eq!(group.call(vec![3], 2).await, Err(Error::Overloaded), "bytes");
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(first.await.is_ok() && waits.await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_and_a_panic_harm_nobody_else() {
        let Bench { group, mut sizes, go, .. } = bench(WIDE);
        let mut panics = Box::pin(group.call(vec![666], 0));
        assert!(futures::poll!(&mut panics).is_pending());
        sizes.recv().await;
        let (mut leaves, mut stays) = (Box::pin(group.call(vec![1], 0)), Box::pin(group.call(vec![2], 0)));
        assert!(futures::poll!(&mut leaves).is_pending());
        assert!(futures::poll!(&mut stays).is_pending());
        drop(leaves);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(matches!(panics.await, Err(Error::Unknown(_))));
        assert_eq!(stays.await, Ok(vec![3]));
        assert_eq!(sizes.recv().await, Some(2), "what was queued is done");
    }

    #[tokio::test]
    async fn closing_commits_what_waits_and_lets_nothing_more_in() {
        let Bench { group, sizes: _told, go, tracker } = bench(WIDE);
        let mut waits = Box::pin(group.call(vec![1], 0));
        assert!(futures::poll!(&mut waits).is_pending());
        group.close();
        assert!(matches!(group.call(vec![2], 0).await, Err(Error::Unavailable(_))));
        go.send(()).unwrap();
        assert_eq!(waits.await, Ok(vec![2]));
        tracker.close();
        tracker.wait().await;
    }
}
