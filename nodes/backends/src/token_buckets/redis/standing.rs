//! Whether Redis decides or this node's shares do.

use super::crowd::Crowd;
use super::shares::{Full, Shares};
use crate::redis_link;
use callboard_ports::token_buckets::{Error, Level};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Who decides whether a call passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Redis, for all nodes together.
    Redis,
    /// This node's share of each limit.
    Share {
        /// How long Redis has been away.
        away: Duration,
        /// By how many nodes the limits are divided.
        nodes: usize,
        /// How it went away.
        error: String,
    },
}

/// Which of both it is, and the shares.
pub(super) struct Reach {
    state: Mutex<State>,
    lost: Notify,
    most: usize,
    nodes: Arc<dyn Fn() -> usize + Send + Sync>,
}

#[derive(Debug)]
struct State {
    /// How often Redis went away.
    lost: u64,
    away: Option<(Shares, redis_link::Error)>,
    crowd: Crowd,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach").field("lost", &self.times_lost()).finish_non_exhaustive()
    }
}

impl Reach {
    pub(super) fn new(most: usize, nodes: Arc<dyn Fn() -> usize + Send + Sync>) -> Self {
        let state = State { lost: 0, away: None, crowd: Crowd::default() };
        Self { state: Mutex::new(state), lost: Notify::new(), most, nodes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let state = self.state();
        match &state.away {
            None => Standing::Redis,
            Some((shares, error)) => Standing::Share {
                away: now.duration_since(shares.since()),
                nodes: state.crowd.largest(),
                error: error.to_string(),
            },
        }
    }

    pub(super) fn times_lost(&self) -> u64 {
        self.state().lost
    }

    /// Which time with Redis this is; `None` while it is away.
    pub(super) fn era(&self) -> Option<u64> {
        let state = self.state();
        state.away.is_none().then_some(state.lost)
    }

    /// A call of that time failed. Returns whether that ends it: of many calls that fail together the first
    /// does, and a late failure of an earlier time says nothing of this one.
    pub(super) fn lost(&self, era: u64, error: &redis_link::Error, now: Instant) -> bool {
        self.count(now);
        let mut state = self.state();
        if state.away.is_some() || state.lost != era {
            return false;
        }
        state.lost += 1;
        state.away = Some((Shares::new(self.most, now), error.clone()));
        self.lost.notify_one();
        true
    }

    /// Ends once Redis is away.
    pub(super) async fn until_lost(&self) {
        while self.era().is_some() {
            self.lost.notified().await;
        }
    }

    /// Redis decides again. Returns how long it was away.
    pub(super) fn found(&self, now: Instant) -> Option<Duration> {
        self.state().away.take().map(|(shares, _)| now.duration_since(shares.since()))
    }

    /// What was taken from the shares and has not come back.
    pub(super) fn owed(&self, now: Instant) -> Vec<(Level, f64)> {
        self.state().away.as_ref().map_or_else(Vec::new, |(shares, _)| shares.deficits(now))
    }

    /// Counts the nodes.
    pub(super) fn count(&self, now: Instant) {
        // Not under the lock: whoever counts may look at us.
        let nodes = (self.nodes)();
        self.state().crowd.see(nodes, now);
    }

    /// Lets the shares decide.
    pub(super) fn share<T>(
        &self,
        now: Instant,
        decide: impl FnOnce(&mut Shares, usize, Instant) -> Result<T, Full>,
    ) -> Result<T, Error> {
        let mut state = self.state();
        let nodes = state.crowd.largest();
        // Redis came back this very moment: a share of nothing denies, and the caller comes again.
        let mut none = Shares::new(self.most, now);
        let shares = state.away.as_mut().map_or(&mut none, |(shares, _)| shares);
        decide(shares, nodes, now)
            .map_err(|Full| Error::Unavailable(format!("{} shares are in use already", self.most)))
    }
}
