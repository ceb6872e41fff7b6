use callboard_ports::epochs::Epoch;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How much slower the work goes while every node does it: from so many times to twice that.
const SLOWER: f64 = 3.0;

/// Whether a node works alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It holds the lock: alone, but for one that does not know yet that it has lost it.
    Held,
    /// Nobody knows who holds the lock: every node works.
    Unlocked,
}

/// A time in which a node may do the work.
#[derive(Clone)]
pub struct Turn {
    /// Whether it works alone.
    pub mode: Mode,
    /// What fences everything it writes, if anything does.
    pub epoch: Option<Epoch>,
    /// Cancelled when the turn is over.
    pub loss: CancellationToken,
    pub(super) jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("mode", &self.mode).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Turn {
    /// Waits between two passes of the work: for `period`, or several times that while every node works.
    /// Returns whether the turn goes on.
    pub async fn pause(&self, period: Duration) -> bool {
        self.loss.run_until_cancelled(sleep(self.pace(period))).await.is_some()
    }

    /// How long [`Self::pause`] waits.
    #[must_use]
    pub fn pace(&self, period: Duration) -> Duration {
        match self.mode {
            Mode::Held => period,
            Mode::Unlocked => period.mul_f64(SLOWER * (1.0 + (self.jitter)().clamp(0.0, 1.0))),
        }
    }
}
