//! How long the queues are, for a page that is asked for often and by many.

use callboard_domain::Timestamp;
use callboard_ports::store::{Error, QueueDepth, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How many queues the store looks at, and up to how many tasks it counts in each band.
const LOOKED_AT: usize = 100;
const COUNTED: u64 = 5_000;
/// How many queues have a name on the page.
const NAMED: usize = 20;
/// What the others are called together. No queue can be named so.
const OTHER: &str = "(other)";
/// How long what was read is good for.
const FRESH: Duration = Duration::from_secs(5);
/// The names of the bands, lowest first.
pub(super) const BANDS: [&str; 3] = ["low", "middle", "high"];

/// A queue, or those without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    /// Tasks that wait, by band, lowest first.
    pub(super) bands: [u64; 3],
    /// Since when the oldest waits.
    pub(super) since: Option<Timestamp>,
}

/// Reads the store's queues, not too often.
pub(super) struct Queues {
    store: Arc<dyn Store>,
    last: Mutex<Option<(Instant, Vec<Queue>)>>,
}

impl Queues {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, last: Mutex::default() }
    }

    pub(super) async fn read(&self) -> Result<Vec<Queue>, Error> {
        // Held while it is read: whoever asks meanwhile gets the same.
        let mut last = self.last.lock().await;
        if let Some((_, queues)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(queues.clone());
        }
        let queues = bounded(self.store.queue_depths_within(LOOKED_AT, COUNTED).await?);
        *last = Some((Instant::now(), queues.clone()));
        Ok(queues)
    }
}

/// The deepest by name, and all others as one.
fn bounded(depths: Vec<QueueDepth>) -> Vec<Queue> {
    let queue = |depth: QueueDepth| Queue {
        name: depth.queue,
        bands: depth.bands,
        since: depth.oldest.map(|(_, since)| since),
    };
    let mut queues: Vec<_> = depths.into_iter().map(queue).collect();
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.bands.iter().sum::<u64>()));
    let others = queues.split_off(queues.len().min(NAMED));
    let together = others.into_iter().reduce(|mut all, one| {
        all.bands.iter_mut().zip(one.bands).for_each(|(sum, count)| *sum += count);
        all.since = [all.since, one.since].into_iter().flatten().min();
        all
    });
    queues.extend(together.map(|all| Queue { name: OTHER.into(), ..all }));
    queues
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::TaskId;

    #[test]
    fn however_many_queues_there_are_few_have_a_name() {
        let depth = |i: u64| QueueDepth {
            queue: format!("q{i}").into(),
            bands: [i, 0, 1],
            oldest: Some((TaskId::from_bytes([0; 16]), Timestamp::from_micros(1_000 + i as i64))),
        };
        let queues = bounded((0..100).map(depth).collect());
        assert_eq!(queues.len(), NAMED + 1);
        assert_eq!(&*queues[0].name, "q99", "the deepest first");
        let other = queues.last().unwrap();
        assert_eq!((&*other.name, other.bands), (OTHER, [(0..80).sum(), 0, 80]));
        assert_eq!(other.since, Some(Timestamp::from_micros(1_000)));
        assert_eq!(bounded((0..3).map(depth).collect()).len(), 3);
    }
}
