//! The records that a node knows.

use super::Waits;
use callboard_domain::ProviderRecord;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{Timestamp, llm::ErrorKind};
use callboard_ports::Clock;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The most records. Callers may name any model: beyond, breakers of more are this node's own affair.
const MOST: usize = 4_096;
/// The most bytes of the names in a record that is shared.
pub(crate) const SUBJECT_BYTES: usize = 512;
/// For how long what a breaker was is remembered after it held: so that whoever tells of it late is not believed.
pub(super) const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// What a node knows, and what of it others have yet to hear.
pub(crate) struct Records {
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    untold: Notify,
    unsaved: Notify,
    waits: Waits,
}

#[derive(Debug, Default)]
struct Known {
    all: HashMap<Subject, ProviderRecord>,
    untold: BTreeSet<Subject>,
    unsaved: BTreeSet<Subject>,
}

impl Known {
    /// Keeps the greater of a record and what is known. Returns whether that is the record, and new.
    fn merge(&mut self, record: ProviderRecord) -> bool {
        match self.all.get_mut(&record.subject) {
            Some(known) if record.outdoes(known) => *known = record,
            Some(_) => return false,
            None => {
                let breaker = record.subject.topic == Topic::Breaker;
                if record.subject.bytes() > SUBJECT_BYTES || (breaker && self.all.len() >= MOST) {
                    return false;
                }
                self.all.insert(record.subject.clone(), record);
            }
        }
        true
    }

    fn take(&mut self, which: fn(&mut Self) -> &mut BTreeSet<Subject>) -> Vec<ProviderRecord> {
        let subjects = std::mem::take(which(self));
        subjects.iter().filter_map(|subject| self.all.get(subject).cloned()).collect()
    }
}

impl Records {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let (untold, unsaved, waits) = (Notify::new(), Notify::new(), Waits::default());
        Arc::new(Self { clock, known: Mutex::default(), untold, unsaved, waits })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The waits that providers have named to this node.
    pub(crate) const fn waits(&self) -> &Waits {
        &self.waits
    }

    /// What is known of a subject.
    pub(crate) fn get(&self, subject: &Subject) -> Option<ProviderRecord> {
        self.known().all.get(subject).cloned()
    }

    /// All that is known of a topic, by subject.
    pub(crate) fn of(&self, topic: Topic) -> Vec<ProviderRecord> {
        let mut of: Vec<_> =
            self.known().all.values().filter(|record| record.subject.topic == topic).cloned().collect();
        of.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        of
    }

    /// A breaker opened here, until then.
    pub(crate) fn opened(&self, subject: Subject, cause: ErrorKind, until: Timestamp, cool_down: Duration) {
        self.change(subject, |known| ProviderRecord {
            // Nodes that find out at once tell of the same epoch, in which the longest counts.
            epoch: if known.epoch % 2 == 1 { known.epoch } else { known.epoch.saturating_add(1) },
            until,
            cool_down,
            value: cause.reason().to_owned(),
            ..known
        });
    }

    /// A breaker closed here.
    pub(crate) fn closed(&self, subject: &Subject) {
        if self.get(subject).is_some_and(|known| known.epoch % 2 == 1) {
            self.change(subject.clone(), |known| ProviderRecord {
                epoch: known.epoch.saturating_add(known.epoch % 2),
                until: Timestamp::default(),
                cool_down: Duration::ZERO,
                value: String::new(),
                ..known
            });
        }
    }

    /// What a record would be that says something else of a subject, now.
    pub(crate) fn next(&self, subject: Subject) -> ProviderRecord {
        let known = self.get(&subject).map_or(0, |known| known.epoch);
        ProviderRecord { epoch: known.saturating_add(1), ..ProviderRecord::new(subject, self.clock.now()) }
    }

    fn change(&self, subject: Subject, next: impl FnOnce(ProviderRecord) -> ProviderRecord) {
        let now = self.clock.now();
        let mut known = self.known();
        let before = known.all.get(&subject).cloned();
        let before = before.unwrap_or_else(|| ProviderRecord::new(subject, now));
        let next = ProviderRecord { at: now, ..next(before) };
        self.note(&mut known, next);
    }

    /// Notes what this node has learned, to be told and saved.
    pub(crate) fn learn(&self, record: ProviderRecord) {
        self.note(&mut self.known(), record);
    }

    fn note(&self, known: &mut Known, record: ProviderRecord) {
        let subject = record.subject.clone();
        if known.merge(record) {
            known.untold.insert(subject.clone());
            known.unsaved.insert(subject);
            self.untold.notify_one();
            self.unsaved.notify_one();
        }
    }

    /// Takes what others know. Returns of what that is news.
    pub(crate) fn hear(&self, records: Vec<ProviderRecord>) -> Vec<Subject> {
        let now = self.clock.now();
        let mut known = self.known();
        let fresh = records.into_iter().filter(|record| !record.is_stale(now, REMEMBERED));
        fresh.filter_map(|record| known.merge(record.clone()).then_some(record.subject)).collect()
    }

    /// Waits until there may be something to tell, and takes it.
    pub(super) async fn untold(&self) -> Vec<ProviderRecord> {
        self.untold.notified().await;
        self.known().take(|known| &mut known.untold)
    }

    /// Waits until there may be something to save, and takes it.
    pub(super) async fn unsaved(&self) -> Vec<ProviderRecord> {
        self.unsaved.notified().await;
        self.known().take(|known| &mut known.unsaved)
    }

    /// What was to be saved, and was not.
    pub(super) fn not_saved(&self, records: Vec<ProviderRecord>) {
        self.known().unsaved.extend(records.into_iter().map(|record| record.subject));
        self.unsaved.notify_one();
    }

    /// Forgets what nobody needs any more.
    pub(super) fn forget(&self) -> Timestamp {
        let now = self.clock.now();
        self.known().all.retain(|_, record| !record.is_stale(now, REMEMBERED));
        let ago = i64::try_from(REMEMBERED.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.micros().saturating_sub(ago))
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("known", &self.known).finish_non_exhaustive()
    }
}
