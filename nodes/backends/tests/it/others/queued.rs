//! A store that is only its QUEUED tasks.

use async_trait::async_trait;
use callboard_domain::{Attempt, Band, Event, KindSpec, SessionId, Task, TaskId};
use callboard_ports::handoff::Ready;
use callboard_ports::store::{Error, Filter, FullTask, QueueDepth, TaskReader};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(super) fn ready(n: u32) -> Ready {
    let id = TaskId::from_bytes(u128::from(n).to_be_bytes());
    Ready { id, handoff: 1, queue: "q".into(), band: Band::Middle, alone: false, not_before: None }
}

pub(super) fn readies(range: Range<u32>) -> Vec<Ready> {
    range.map(ready).collect()
}

/// The QUEUED tasks, by id, which is their order.
#[derive(Default)]
pub(super) struct Queued {
    tasks: Mutex<BTreeMap<TaskId, Ready>>,
    down: AtomicBool,
    reads: AtomicUsize,
}

impl Queued {
    /// A task comes into QUEUED.
    pub(super) fn queue(&self, ready: &Ready) {
        self.tasks.lock().unwrap().insert(ready.id, ready.clone());
    }

    /// A claim: whether the task was still there to take.
    pub(super) fn claim(&self, id: TaskId) -> bool {
        self.tasks.lock().unwrap().remove(&id).is_some()
    }

    pub(super) fn go_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// How often it was read.
    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

fn unused<T>() -> Result<T, Error> {
    Err(Error::Unavailable("it is only its queued tasks".into()))
}

#[async_trait]
impl TaskReader for Queued {
    async fn queued(&self, queues: &[Arc<str>], limit: usize) -> Result<Vec<Ready>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("down".into()));
        }
        let rows = {
            let mut counts: HashMap<(Arc<str>, Band), usize> = HashMap::new();
            let tasks = self.tasks.lock().unwrap();
            let mut fits = |ready: &&Ready| {
                let count = counts.entry((ready.queue.clone(), ready.band)).or_default();
                *count += 1;
                *count <= limit && (queues.is_empty() || queues.contains(&ready.queue))
            };
            tasks.values().filter(|r| fits(r)).cloned().collect()
        };
        // What is answered is old by the time it comes.
        tokio::task::yield_now().await;
        Ok(rows)
    }

    async fn get(&self, _: Vec<TaskId>) -> Result<Vec<Task>, Error> {
        unused()
    }

    async fn get_full(&self, _: TaskId) -> Result<FullTask, Error> {
        unused()
    }

    async fn find(&self, _: &str) -> Result<TaskId, Error> {
        unused()
    }

    async fn list(&self, _: Filter, _: Option<TaskId>, _: usize) -> Result<Vec<Task>, Error> {
        unused()
    }

    async fn events(&self, _: TaskId, _: u64, _: usize) -> Result<Vec<Event>, Error> {
        unused()
    }

    async fn counts(&self) -> Result<[u64; 6], Error> {
        unused()
    }

    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, Error> {
        unused()
    }

    async fn held_by(&self, _: SessionId) -> Result<Vec<Attempt>, Error> {
        unused()
    }

    async fn kinds(&self) -> Result<Vec<KindSpec>, Error> {
        unused()
    }
}
