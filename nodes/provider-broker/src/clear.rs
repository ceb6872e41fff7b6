//! Clearing the caches of all nodes, and what they share.
//!
//! A clear is a record as what an admin switches is: told to every node, written to the store, and known again after a
//! restart. What nodes share need not be there for it, as answers of before are not looked for any more: see
//! `stages::clears`. Unlike a switch it is done though the store is away: a wrong answer is not to be given any longer.

use crate::admin::Said;
use crate::broker::Broker;
use crate::shared::SUBJECT_BYTES;
use crate::stages::Cleared;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{Code, Error, ProviderRecord};
use callboard_ports::store;
use std::time::Duration;
use tokio::time::timeout;

/// The most records of clears. They are kept for ever: whoever clears one namespace or kind after the other, of any name, has
/// to clear all.
const MOST: usize = 1_024;
/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Broker {
    /// Forgets answers of the exact and the similar cache, on every node and in what nodes share. Returns whether that is
    /// written down too. If it is not, as the store is away, it is in force on every node that could be told, and is written
    /// as soon as the store answers; a node that starts before that knows nothing of it.
    ///
    /// # Errors
    /// The names are too long, or there are too many that were cleared by themselves.
    pub async fn clear_caches(&self, cleared: &Cleared, said: Said<'_>) -> Result<bool, Error> {
        let subject = subject(cleared);
        let _one = self.changing.lock().await;
        // It has to outdo what another node has written.
        let read = timeout(PATIENCE, self.refresh()).await;
        self.check_clear(&subject)?;
        let next = self.records.next(subject);
        // A clear that this node has not heard of, and cannot read, was before this one: so the time decides.
        let now = u64::try_from(next.at.micros()).unwrap_or_default();
        let record = ProviderRecord { epoch: next.epoch.max(now), author: said.author.to_owned(), ..next };
        self.records.learn(record.clone());
        self.stages.clear(cleared, &record);
        let (namespace, kind) = (cleared.namespace.as_deref(), cleared.kind.as_deref());
        tracing::warn!(namespace, kind, author = said.author, "an admin cleared the caches");
        let Some(sharing) = &self.deps.sharing else { return Ok(true) };
        if !matches!(read, Ok(Ok(()))) {
            return Ok(false);
        }
        let saved: Result<Result<(), store::Error>, _> =
            timeout(PATIENCE, sharing.store.save_provider_records(vec![record])).await;
        Ok(matches!(saved, Ok(Ok(()))))
    }

    /// Does what a record of a clear says.
    pub(crate) fn adopt_clear(&self, subject: &Subject) {
        if let Some(record) = self.records.get(subject) {
            let name = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
            let cleared = Cleared { namespace: name(&subject.key), kind: name(&subject.model) };
            self.stages.clear(&cleared, &record);
        }
    }

    fn check_clear(&self, subject: &Subject) -> Result<(), Error> {
        if subject.bytes() > SUBJECT_BYTES {
            let text = format!("the namespace and the kind may have {SUBJECT_BYTES} bytes together");
            return Err(Error::field(Code::InvalidArgument, "kind", text));
        }
        let fresh = self.records.get(subject).is_none();
        if fresh && *subject != Subject::of(Topic::Cache, "") && self.records.of(Topic::Cache).len() >= MOST {
            let text =
                format!("{MOST} namespaces and kinds have been cleared by themselves already: clear all");
            return Err(Error::field(Code::InvalidArgument, "kind", text));
        }
        Ok(())
    }
}

/// The record of a clear is about a kind, by the name of the model, and a namespace, by that of the key.
fn subject(cleared: &Cleared) -> Subject {
    let Cleared { namespace, kind } = cleared.clone();
    Subject {
        key: namespace.unwrap_or_default(),
        model: kind.unwrap_or_default(),
        ..Subject::of(Topic::Cache, "")
    }
}
