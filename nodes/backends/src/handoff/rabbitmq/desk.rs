//! What a consumer has: messages that wait, what settles them, and whether its owner waits.

use super::buffer::Buffer;
use super::link::soon;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::{Acker, Channel};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An owner that has not asked for so long gives back what it holds.
const IDLE: Duration = Duration::from_millis(50);
/// The same while a delivery is not settled: its claim is under way, and the next question follows it. Bounded: a
/// store that does not answer must not keep from others what they could run.
const CLAIM: Duration = Duration::from_millis(500);

/// What settles a message. The channel lives as long as one of its deliveries.
pub(super) struct Hold {
    pub(super) acker: Acker,
    pub(super) channel: Channel,
    pub(super) tracker: TaskTracker,
}

/// What is settled and not yet on its way to the broker. It ends when it is.
pub(super) type Settling = BoxFuture<'static, ()>;

impl Hold {
    /// Settles it. Nobody can do anything about a failure, after which the broker delivers it again.
    ///
    /// lapin is told when this is first polled, so in the order of the calls, but it writes from a task of its own:
    /// a channel that is closed before it has taken the message back.
    fn settle<F>(&self, settle: impl FnOnce(Acker) -> F) -> Option<Settling>
    where
        F: Future<Output = lapin::Result<bool>> + Send + 'static,
    {
        let mut told = Box::pin(settle(self.acker.clone()));
        told.as_mut().now_or_never().is_none().then(|| {
            // A channel that is dropped closes.
            let channel = self.channel.clone();
            async move {
                let _ = soon("settling", told).await;
                drop(channel);
            }
            .boxed()
        })
    }

    fn behind_the_back(&self, settling: Option<Settling>) {
        if let Some(settling) = settling {
            self.tracker.spawn(settling);
        }
    }

    pub(super) fn ack(&self) -> Option<Settling> {
        self.settle(|acker| async move { acker.ack(BasicAckOptions::default()).await })
    }

    pub(super) fn requeue(&self) -> Option<Settling> {
        let again = BasicNackOptions { requeue: true, multiple: false };
        self.settle(|acker| async move { acker.nack(again).await })
    }

    pub(super) fn ack_later(&self) {
        self.behind_the_back(self.ack());
    }

    pub(super) fn requeue_later(&self) {
        self.behind_the_back(self.requeue());
    }

    pub(super) fn bury(&self) {
        self.behind_the_back(
            self.settle(|acker| async move { acker.reject(BasicRejectOptions { requeue: false }).await }),
        );
    }
}

/// What a consumer's owner and what keeps it supplied share.
pub(super) struct Desk {
    pub(super) buffer: Mutex<Buffer<Hold>>,
    /// Numbers the openings of lanes.
    pub(super) openings: AtomicU64,
    pub(super) arrived: Notify,
    pub(super) asking: watch::Sender<Asks>,
    pub(super) closing: CancellationToken,
}

/// Whether the owner waits.
#[derive(Clone, Copy)]
pub(super) struct Asks {
    waits: bool,
    /// Whether it said that it does not ask again soon.
    rests: bool,
    /// When it began or ended to wait, or settled what it was waiting for.
    since: Instant,
    /// How many deliveries it has not settled yet.
    unsettled: usize,
    /// Of how many that it has settled the broker is not told yet.
    untold: usize,
    /// How many tasks it wanted last.
    pub(super) tasks: usize,
    /// How often it has asked without a break.
    pub(super) times: u32,
}

impl Asks {
    /// Of an owner that has not asked yet.
    pub(super) fn none() -> Self {
        Self {
            waits: false,
            rests: false,
            since: Instant::now(),
            unsettled: 0,
            untold: 0,
            tasks: 1,
            times: 0,
        }
    }

    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// Whether its owner is outside of its call and has no delivery, and the broker knows what became of them all:
    /// else what it does not know of would come again once their channels are closed.
    pub(super) const fn holds_nothing(&self) -> bool {
        !self.waits && self.unsettled == 0 && self.untold == 0
    }

    /// From when on its owner is taken to have no free slot. While it waits it is not idle, however long that takes.
    pub(super) fn idle_at(&self) -> Option<Instant> {
        let patience = match self.unsettled {
            0 if self.rests => Duration::ZERO,
            0 => IDLE,
            _ => CLAIM,
        };
        (!self.waits).then(|| self.since + patience)
    }
}

impl Desk {
    pub(super) fn buffer(&self) -> MutexGuard<'_, Buffer<Hold>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the owner of what came.
    pub(super) fn show(&self) {
        self.arrived.notify_waiters();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asking.borrow().idle_at().is_some_and(|at| at <= Instant::now())
    }

    /// The owner has no free slot, and will not have one soon.
    pub(super) fn rests(&self) {
        self.asking.send_if_modified(|asks| !std::mem::replace(&mut asks.rests, true));
    }

    /// The owner has a delivery.
    pub(super) fn delivers(&self) {
        self.asking.send_modify(|asks| asks.unsettled += 1);
    }

    /// The owner has acknowledged a delivery, or dropped it.
    pub(super) fn settles(&self) {
        self.asking.send_modify(|asks| {
            asks.unsettled = asks.unsettled.saturating_sub(1);
            if !asks.waits {
                asks.since = Instant::now();
            }
        });
    }

    /// The broker is being told of a delivery's end, until this is dropped.
    pub(super) fn telling(self: &Arc<Self>) -> Telling {
        self.asking.send_modify(|asks| asks.untold += 1);
        Telling(Arc::clone(self))
    }

    pub(super) fn give_back(&self) {
        let held = self.buffer().drain();
        tracing::debug!(messages = held.len(), "gives back");
        held.iter().for_each(|m| m.hold.requeue_later());
    }
}

/// Says that the broker is being told, until it is dropped.
pub(super) struct Telling(Arc<Desk>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.asking.send_modify(|asks| asks.untold = asks.untold.saturating_sub(1));
    }
}

/// Says that the owner waits, until it is dropped.
pub(super) struct Asking<'a>(&'a Desk);

impl<'a> Asking<'a> {
    pub(super) fn new(desk: &'a Desk, tasks: usize) -> Self {
        desk.asking.send_modify(|asks| {
            let times = if asks.since.elapsed() < IDLE { asks.times.saturating_add(1) } else { 1 };
            *asks = Asks { waits: true, rests: false, since: Instant::now(), tasks, times, ..*asks };
        });
        Self(desk)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.send_modify(|asks| {
            asks.waits = false;
            asks.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_whose_claim_is_under_way_is_not_idle() {
        let began = Instant::now();
        let asks = Asks { since: began, ..Asks::none() };
        assert_eq!(asks.idle_at(), Some(began + IDLE));
        assert_eq!(Asks { unsettled: 1, ..asks }.idle_at(), Some(began + CLAIM));
        assert_eq!(Asks { waits: true, ..asks }.idle_at(), None);
        assert_eq!(Asks { rests: true, ..asks }.idle_at(), Some(began));
        assert_eq!(Asks { rests: true, unsettled: 1, ..asks }.idle_at(), Some(began + CLAIM));
    }
}
