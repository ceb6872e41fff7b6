//! Work that one node of the cluster does at a time.
//!
//! A lock decides who does it, which makes it efficient; an epoch in the store fences what it writes, which
//! makes it right. So the work must be idempotent, and everything it writes names its epoch.
//!
//! - The lock is renewed at a third of its time to live. When no renewal has been confirmed for two thirds of
//!   it, the work is told to end; what has not ended by the whole is dropped.
//! - Work that is refused with [`store::Error::Fenced`] takes the next epoch and goes on at once, if the lock
//!   is confirmed to be its own; else it ends.
//! - When the lock service has been unavailable for a whole time to live, every node works, at a slower,
//!   jittered pace. When it answers again, one holds the lock and the others end.
//!
//! It does not know what the work is, and never blocks it: the lock is kept by a task of its own.

mod keeper;
mod turn;

#[cfg(test)]
mod tests;

use callboard_ports::epochs::Epoch;
use callboard_ports::{Epochs, Locks, locks, store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use turn::{Mode, Turn};

/// How many epochs in a row may be refused before the work ends.
const REFUSALS: u32 = 3;

/// What a singleton needs.
#[derive(Clone)]
pub struct Options {
    /// The name of the work, of its lock and of its epochs.
    pub name: Arc<str>,
    /// Who works: no two running nodes have the same, and no two lives of a node.
    pub owner: Arc<str>,
    /// How long the lock outlives its holder. A second is short, a minute long.
    pub ttl: Duration,
    /// Who holds the lock.
    pub locks: Arc<dyn Locks>,
    /// Where epochs come from; `None` where what is written needs no fence.
    pub epochs: Option<Arc<dyn Epochs>>,
    /// Random numbers from 0 to 1.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Options");
        shown
            .field("name", &self.name)
            .field("owner", &self.owner)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// How this node stands to the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does it.
    Held {
        /// Under this number, if it is fenced.
        epoch: Option<u64>,
    },
    /// It does not.
    NotHeld {
        /// Who does, if that is known.
        holder: Option<String>,
    },
    /// Nobody knows who does: the lock service cannot be reached.
    Unavailable {
        /// Whether this node works meanwhile, as all do.
        working: bool,
        /// How it cannot.
        error: String,
    },
}

/// Shows how a node stands to the work of a singleton.
#[derive(Clone, Debug)]
pub struct Handle {
    name: Arc<str>,
    standing: watch::Receiver<Standing>,
}

impl Handle {
    /// The name of the work.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How this node stands to it now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }
}

/// Work that one node of the cluster does at a time.
#[derive(Debug)]
pub struct Singleton {
    options: Options,
    standing: watch::Sender<Standing>,
}

/// What to do after a try to get the lock.
enum Next {
    /// It is ours, asked for then.
    Hold(Instant),
    /// It is somebody's.
    StandBy,
    /// Nobody knows.
    Unknown,
}

impl Singleton {
    /// Nothing is done before [`Self::run`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, standing: watch::Sender::new(Standing::NotHeld { holder: None }) }
    }

    /// Shows how this node stands to the work.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { name: self.options.name.clone(), standing: self.standing.subscribe() }
    }

    /// Contends for the lock until it is told to stop, and does the work whenever this node may.
    ///
    /// The work runs only while this is polled. It should end soon after its turn's `loss`; a third of the time
    /// to live later it is dropped. When it ends by itself the lock is given back, and contended for again.
    pub async fn run<W, F>(self, stop: CancellationToken, mut work: W)
    where
        W: FnMut(Turn) -> F,
        F: Future<Output = Result<(), store::Error>>,
    {
        let third = self.options.ttl / 3;
        let mut unknown_since = None;
        while !stop.is_cancelled() {
            let working = match self.contend(false).await {
                Next::Hold(asked) => {
                    unknown_since = None;
                    self.hold(asked, &stop, &mut work).await;
                    false
                }
                Next::StandBy => {
                    unknown_since = None;
                    false
                }
                Next::Unknown => {
                    // Until then whoever held it may still.
                    unknown_since.get_or_insert_with(Instant::now).elapsed() >= self.options.ttl
                }
            };
            if working {
                self.work_unlocked(&stop, &mut work).await;
                unknown_since = None;
            } else {
                self.rest(third, &stop).await;
            }
        }
        self.standing.send_replace(Standing::NotHeld { holder: None });
    }

    /// Tries to get the lock. `working` is whether the work is done meanwhile.
    async fn contend(&self, working: bool) -> Next {
        let Options { name, owner, ttl, locks, .. } = &self.options;
        let asked = Instant::now();
        let answer = match timeout(*ttl / 3, locks.acquire(name, owner, *ttl)).await {
            Ok(answer) => answer,
            Err(_) => Err(locks::Error::Unavailable("no answer in time".into())),
        };
        match answer {
            Ok(()) => Next::Hold(asked),
            Err(locks::Error::Held { holder }) => {
                self.stand(Standing::NotHeld { holder: Some(holder) });
                Next::StandBy
            }
            Err(error) => {
                self.stand(Standing::Unavailable { working, error: error.to_string() });
                Next::Unknown
            }
        }
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|before| {
            if std::mem::discriminant(before) != std::mem::discriminant(&standing) {
                tracing::info!(singleton = &*self.options.name, ?standing, "standing changed");
            }
            let changed = *before != standing;
            *before = standing;
            changed
        });
    }

    /// Does the work while the lock is ours.
    async fn hold<W, F>(&self, asked: Instant, stop: &CancellationToken, work: &mut W)
    where
        W: FnMut(Turn) -> F,
        F: Future<Output = Result<(), store::Error>>,
    {
        let loss = stop.child_token();
        let mut keeper = JoinSet::new();
        keeper.spawn(keeper::keep(self.options.clone(), asked, loss.clone()));
        let mut refusals = 0;
        while !loss.is_cancelled() {
            let begun = Instant::now();
            let ended = self.turn(Mode::Held, &loss, work).await;
            refusals = if begun.elapsed() >= self.options.ttl { 0 } else { refusals + 1 };
            let fenced = ended == Err(store::Error::Fenced);
            // Without asking, a holder that was paused would take the work back from its successor.
            if !fenced || refusals >= REFUSALS || !self.is_ours(&loss).await {
                break;
            }
        }
        let was_lost = loss.is_cancelled() && !stop.is_cancelled();
        keeper.shutdown().await;
        self.stand(Standing::NotHeld { holder: None });
        if !was_lost {
            let Options { name, owner, ttl, locks, .. } = &self.options;
            // If it does not arrive, the lock ends by itself.
            let _ = timeout(*ttl / 3, locks.release(name, owner)).await;
        }
    }

    async fn is_ours(&self, loss: &CancellationToken) -> bool {
        let Options { name, owner, ttl, locks, .. } = &self.options;
        let renewed = timeout(*ttl / 3, locks.renew(name, owner, *ttl)).await;
        !loss.is_cancelled() && matches!(renewed, Ok(Ok(())))
    }

    /// Does the work without a lock, until the lock service answers.
    async fn work_unlocked<W, F>(&self, stop: &CancellationToken, work: &mut W)
    where
        W: FnMut(Turn) -> F,
        F: Future<Output = Result<(), store::Error>>,
    {
        let loss = stop.child_token();
        let working = async {
            // All nodes come here at about the same time.
            self.rest(self.options.ttl.mul_f64(self.random()), &loss).await;
            let mut refusals = 0;
            while !loss.is_cancelled() {
                let begun = Instant::now();
                let ended = self.turn(Mode::Unlocked, &loss, work).await;
                refusals = if begun.elapsed() >= self.options.ttl { 0 } else { refusals + 1 };
                if ended != Err(store::Error::Fenced) || refusals >= REFUSALS {
                    refusals = 0;
                    self.rest(self.options.ttl.mul_f64(1.0 + self.random()), &loss).await;
                }
            }
        };
        let contending = async {
            loop {
                self.rest(self.options.ttl / 3, &loss).await;
                if loss.is_cancelled() {
                    return None;
                }
                match self.contend(true).await {
                    Next::Hold(asked) => return Some(asked),
                    Next::StandBy => return None,
                    Next::Unknown => {}
                }
            }
        };
        let contended = async {
            let asked = contending.await;
            loss.cancel();
            asked
        };
        let ((), asked) = tokio::join!(working, contended);
        if let Some(asked) = asked {
            self.hold(asked, stop, work).await;
        }
    }

    /// One turn, under an epoch of its own, until it ends or is dropped.
    async fn turn<W, F>(&self, mode: Mode, loss: &CancellationToken, work: &mut W) -> Result<(), store::Error>
    where
        W: FnMut(Turn) -> F,
        F: Future<Output = Result<(), store::Error>>,
    {
        let name = &*self.options.name;
        let work = async {
            let epoch = self.next_epoch().await?;
            if loss.is_cancelled() {
                return Ok(());
            }
            if mode == Mode::Held {
                self.stand(Standing::Held { epoch: epoch.as_ref().map(|epoch| epoch.number) });
            }
            work(Turn { mode, epoch, loss: loss.clone(), jitter: self.options.jitter.clone() }).await
        };
        let dropped = async {
            loss.cancelled().await;
            sleep(self.options.ttl / 3).await;
        };
        let ended = tokio::select! {
            ended = work => ended,
            () = dropped => {
                tracing::warn!(singleton = name, "work that did not end with its turn is dropped");
                Ok(())
            }
        };
        if let Err(error) = &ended
            && !loss.is_cancelled()
        {
            tracing::warn!(singleton = name, %error, "work ended early");
        }
        ended
    }

    async fn next_epoch(&self) -> Result<Option<Epoch>, store::Error> {
        match &self.options.epochs {
            Some(epochs) => epochs.next_epoch(&self.options.name, &self.options.owner).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits, a little longer or shorter than told, or until the token says so.
    async fn rest(&self, span: Duration, until: &CancellationToken) {
        let span = span.mul_f64(0.8 + 0.4 * self.random());
        let _ = until.run_until_cancelled(sleep(span)).await;
    }

    fn random(&self) -> f64 {
        let random = (self.options.jitter)();
        if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 }
    }
}
