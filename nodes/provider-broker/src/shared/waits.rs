//! The waits that providers name while they are well: what is left of a key's limits, and what a refusal asks for. The node
//! that was told tells the others, so that none sends calls into a door that is known to be closed.
//!
//! - Only waits that hold calls back are told, each once unless it has grown, and at most [`TELLINGS`] messages a second:
//!   what is noted meanwhile goes together, by key, model and kind.
//! - They are told as spans, not as moments: clocks of nodes differ. What the message takes on its way is added to the wait.
//! - They are kept nowhere: a node that starts, or was not told, finds out by a call of its own, as a node by itself does.
//! - What is heard never shortens a longer wait ([`Board::adopt_wait`](crate::breaker::Board::adopt_wait),
//!   [`Key::adopt`](crate::keys::Key::adopt)), is believed for no longer than what this node was told itself, and is not
//!   told again.

use callboard_contracts::mesh::v1 as mesh;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The most messages of waits to each node in a second.
const TELLINGS: u32 = 4;
/// The most waits that are known to have been told. Callers may name any model: beyond, more are this node's own affair.
const MOST: usize = 1_024;
/// A wait that is told is told again if it has grown by so much.
const GROWN: Duration = Duration::from_secs(1);
/// A wait that is shorter is over before anybody has heard of it.
const SHORT: Duration = Duration::from_millis(200);
/// The most bytes of the names of a wait that is told.
const NAME_BYTES: usize = 512;
/// The most waits that are heard in one message.
const HEARD: usize = 2 * MOST;

/// What a provider wants no more of for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    /// Any call: it has refused one.
    Calls,
    /// No requests are left of what it allows.
    Requests,
    /// No tokens are left.
    Tokens,
}

/// What a wait is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) provider: String,
    /// The id of the key; empty where the provider has none.
    pub(crate) key: String,
    pub(crate) model: String,
    pub(crate) of: Of,
}

/// A wait that another node was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) subject: Subject,
    pub(crate) left: Duration,
}

/// The waits that this node was told of, and what of them others have yet to hear.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    known: Mutex<HashMap<Subject, Known>>,
    untold: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    until: Instant,
    told: Option<Instant>,
}

impl Known {
    /// Whether others have yet to hear of it.
    fn is_news(&self, now: Instant) -> bool {
        self.until > now + SHORT && self.told.is_none_or(|told| self.until > told + GROWN)
    }
}

impl Waits {
    /// A provider wants nothing until then, as it has told this node.
    pub(crate) fn note(&self, subject: Subject, until: Instant) {
        let now = Instant::now();
        if subject.provider.len() + subject.key.len() + subject.model.len() > NAME_BYTES {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, of| of.until > now);
        }
        let room = known.len() < MOST;
        let news = match known.get_mut(&subject) {
            Some(of) => {
                // One that is over is no measure for the next.
                if of.until <= now {
                    of.told = None;
                }
                of.until = of.until.max(until);
                of.is_news(now)
            }
            None if room => {
                let of = Known { until, told: None };
                known.insert(subject, of);
                of.is_news(now)
            }
            None => false,
        };
        drop(known);
        if news {
            self.untold.notify_one();
        }
    }

    /// The waits of a provider are to be told no more.
    pub(crate) fn forget(&self, provider: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|subject, _| subject.provider != provider);
    }

    /// What others have yet to hear; it is told from now on.
    fn take(&self) -> Vec<mesh::ProviderWait> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let news = known.iter_mut().filter(|(_, of)| of.is_news(now)).map(|(subject, of)| {
            of.told = Some(of.until);
            to_wire(subject.clone(), of.until.saturating_duration_since(now))
        });
        news.collect()
    }

    /// Tells others what is noted, for ever.
    pub(super) async fn keep<T: Future<Output = ()>>(&self, tell: impl Fn(Vec<mesh::ProviderWait>) -> T) {
        loop {
            self.untold.notified().await;
            let news = self.take();
            if !news.is_empty() {
                // A node that does not answer holds up the next message, not calls.
                tokio::join!(tell(news), sleep(Duration::from_secs(1) / TELLINGS));
            }
        }
    }
}

fn to_wire(subject: Subject, left: Duration) -> mesh::ProviderWait {
    let Subject { provider, key, model, of } = subject;
    let of = match of {
        Of::Calls => mesh::ProviderWaitOf::Calls,
        Of::Requests => mesh::ProviderWaitOf::Requests,
        Of::Tokens => mesh::ProviderWaitOf::Tokens,
    };
    let left_us = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
    mesh::ProviderWait { provider, key, model, of: of.into(), left_us }
}

/// The waits that were sent; those that a later version knows are left out.
pub(crate) fn heard(waits: Vec<mesh::ProviderWait>) -> impl Iterator<Item = Wait> {
    waits.into_iter().take(HEARD).filter_map(|wait| {
        let of = match wait.of() {
            mesh::ProviderWaitOf::Calls => Of::Calls,
            mesh::ProviderWaitOf::Requests => Of::Requests,
            mesh::ProviderWaitOf::Tokens => Of::Tokens,
            mesh::ProviderWaitOf::Unspecified => return None,
        };
        let mesh::ProviderWait { provider, key, model, left_us, .. } = wait;
        let subject = Subject { provider, key, model, of };
        Some(Wait { subject, left: Duration::from_micros(left_us) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn subject(model: &str) -> Subject {
        Subject { provider: "p".into(), key: "k".into(), model: model.into(), of: Of::Requests }
    }

    /// What was told, and when.
    type Told = Arc<Mutex<Vec<(Instant, Vec<mesh::ProviderWait>)>>>;

    fn keeping() -> (Arc<Waits>, Told, tokio::task::JoinSet<()>) {
        let (waits, told) = (Arc::new(Waits::default()), Told::default());
        let mut keeps = tokio::task::JoinSet::new();
        let (kept, log) = (Arc::clone(&waits), Arc::clone(&told));
        keeps.spawn(async move {
            kept.keep(|news| {
                log.lock().unwrap().push((Instant::now(), news));
                std::future::ready(())
            })
            .await;
        });
        (waits, told, keeps)
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_waits_is_a_few_messages_a_second_and_the_longest_wait_of_each() {
        let (waits, told, _keeps) = keeping();
        let began = Instant::now();
        for i in 0..2_000_u64 {
            for model in ["a", "b"] {
                waits.note(subject(model), began + secs(10) + Duration::from_millis(10 * i));
            }
            sleep(Duration::from_millis(1)).await;
        }
        sleep(secs(1)).await;
        let told = told.lock().unwrap();
        let spent = began.elapsed().as_secs_f64();
        assert!((told.len() as f64) < spent * f64::from(TELLINGS) + 2.0, "{} in {spent} s", told.len());
        assert!(told.iter().all(|(_, waits)| waits.len() <= 2));
        // Told with what is left then.
        let (at, last) = told.last().unwrap();
        let until = *at + Duration::from_micros(last[0].left_us);
        assert!(until + GROWN >= began + secs(10) + Duration::from_millis(19_990), "{until:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_is_not_told_again_and_what_is_over_is_forgotten() {
        let (waits, told, _keeps) = keeping();
        let began = Instant::now();
        waits.note(subject("a"), began + Duration::from_millis(100));
        sleep(secs(1)).await;
        assert!(told.lock().unwrap().is_empty(), "it is over before anybody has heard of it");
        let until = Instant::now() + secs(5);
        for _ in 0..10 {
            waits.note(subject("a"), until);
            sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(told.lock().unwrap().len(), 1);
        // Over, and named again: that is news though it is no longer.
        sleep(secs(5)).await;
        waits.note(subject("a"), Instant::now() + secs(5));
        sleep(secs(1)).await;
        assert_eq!(told.lock().unwrap().len(), 2);
        for i in 0..2 * MOST {
            waits.note(subject(&format!("{i}")), Instant::now() + secs(5));
        }
        assert!(waits.known.lock().unwrap().len() <= MOST);
    }

    #[test]
    fn a_wait_is_the_same_after_its_way_and_one_of_a_later_version_is_left_out() {
        let all = [Of::Calls, Of::Requests, Of::Tokens];
        let waits = all.map(|of| Wait { subject: Subject { of, ..subject("m") }, left: secs(7) });
        let mut sent: Vec<_> = waits.iter().map(|wait| to_wire(wait.subject.clone(), wait.left)).collect();
        assert_eq!(heard(sent.clone()).collect::<Vec<_>>(), waits);
        sent[0].of = 99;
        sent[1].of = 0;
        assert_eq!(heard(sent).count(), 1);
    }
}
