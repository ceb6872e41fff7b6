//! An outbox in memory, with what a test wants to know of it.

use async_trait::async_trait;
use callboard_domain::TaskId;
use callboard_ports::epochs::Epoch;
use callboard_ports::handoff::Ready;
use callboard_ports::outbox::{Lane, Lease, Outbox, Suspect};
use callboard_ports::store::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// How long a fresh row is hidden.
const BORN_LEASED: Duration = Duration::from_millis(300);

struct Row {
    ready: Ready,
    next_try: Instant,
}

#[derive(Default)]
pub(super) struct State {
    rows: BTreeMap<(TaskId, u64), Row>,
    /// QUEUED tasks, with or without a row.
    queued: BTreeMap<TaskId, Ready>,
    newest: u64,
    pub(super) leases: usize,
    pub(super) repaired: usize,
}

#[derive(Default)]
pub(super) struct Rows(Mutex<State>);

impl Rows {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What admitting these does.
    pub(super) fn queue(&self, batch: &[Ready]) {
        let mut state = self.state();
        for ready in batch {
            let row = Row { ready: ready.clone(), next_try: Instant::now() + BORN_LEASED };
            state.rows.insert((ready.id, ready.handoff), row);
            state.queued.insert(ready.id, ready.clone());
        }
    }

    /// What claiming these does.
    pub(super) fn claim(&self, batch: &[Ready]) -> Vec<TaskId> {
        let mut state = self.state();
        batch.iter().filter(|r| state.queued.remove(&r.id).is_some()).map(|r| r.id).collect()
    }

    pub(super) fn rows(&self) -> usize {
        self.state().rows.len()
    }

    pub(super) fn queued(&self) -> usize {
        self.state().queued.len()
    }

    /// A newer epoch than all before.
    pub(super) fn epoch(&self) -> Epoch {
        let mut state = self.state();
        state.newest += 1;
        Epoch { name: "repair".into(), number: state.newest }
    }
}

#[async_trait]
impl Outbox for Rows {
    async fn lease(&self, lease: Lease) -> Result<Vec<Ready>, Error> {
        let (mut state, now) = (self.state(), Instant::now());
        state.leases += 1;
        let (mut leased, mut counts) = (Vec::new(), BTreeMap::<Lane, usize>::new());
        for row in state.rows.values_mut().filter(|row| row.next_try <= now) {
            let lane = (row.ready.queue.clone(), row.ready.band);
            let count = counts.entry(lane.clone()).or_default();
            if *count < lease.limit && !lease.except.contains(&lane) {
                *count += 1;
                row.next_try = now + lease.hide;
                leased.push(row.ready.clone());
            }
        }
        Ok(leased)
    }

    async fn confirm(&self, batch: Vec<(TaskId, u64)>) -> Result<usize, Error> {
        let mut state = self.state();
        Ok(batch.iter().filter(|row| state.rows.remove(row).is_some()).count())
    }

    async fn postpone(&self, batch: Vec<(TaskId, u64)>, hide: Duration) -> Result<(), Error> {
        let mut state = self.state();
        for row in batch {
            if let Some(row) = state.rows.get_mut(&row) {
                row.next_try = Instant::now() + hide;
            }
        }
        Ok(())
    }

    async fn backlog(&self) -> Result<u64, Error> {
        Ok(self.rows() as u64)
    }

    async fn suspect_lanes(&self) -> Result<Vec<Lane>, Error> {
        let state = self.state();
        let suspect = |r: &&Ready| !state.rows.contains_key(&(r.id, r.handoff));
        let lanes = state.queued.values().filter(suspect).map(|r| (r.queue.clone(), r.band));
        Ok(lanes.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn suspects(&self, (queue, band): &Lane, limit: usize) -> Result<Vec<Suspect>, Error> {
        let state = self.state();
        let of_lane = state.queued.values().filter(|r| r.queue == *queue && r.band == *band);
        let suspect = of_lane.filter(|r| !state.rows.contains_key(&(r.id, r.handoff)));
        Ok(suspect.map(|r| Suspect { id: r.id, handoff: r.handoff }).take(limit).collect())
    }

    async fn repair(&self, suspects: Vec<Suspect>, fence: &Epoch) -> Result<usize, Error> {
        let mut state = self.state();
        if fence.number != state.newest {
            return Err(Error::Fenced);
        }
        let mut count = 0;
        for suspect in suspects {
            let Some(ready) = state.queued.get_mut(&suspect.id) else { continue };
            if ready.handoff != suspect.handoff {
                continue;
            }
            ready.handoff += 1;
            let (key, row) = ((ready.id, ready.handoff), ready.clone());
            state.rows.insert(key, Row { ready: row, next_try: Instant::now() });
            count += 1;
        }
        state.repaired += count;
        Ok(count)
    }
}
