//! What has been cleared of the caches: the generation that answers belong to.
//!
//! An answer is kept under what was asked and under the generation of its namespace and kind, on this node and in what nodes
//! share. A clear makes another generation, so what was kept is not found any more, wherever it is: no key has to be looked
//! for, and whoever holds the keys need not be there. What is left behind goes with its time.
//!
//! A call takes its generation when it begins. An answer that was asked for before a clear, and comes after it, is therefore
//! kept where nobody looks.

use super::fingerprint::{Digest, Fingerprint};
use super::{Scope, fingerprint};
use crate::accounts::DEFAULT_NAMESPACE;
use callboard_domain::ProviderRecord;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// What a clear is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// The namespace; none for all of them. Calls without one are of [`DEFAULT_NAMESPACE`].
    pub namespace: Option<String>,
    /// The kind of task; none for all of them.
    pub kind: Option<String>,
}

impl Cleared {
    /// Whether an answer is forgotten by it.
    pub(super) fn takes(&self, namespace: &str, kind: &str) -> bool {
        self.namespace.as_deref().is_none_or(|cleared| cleared == namespace_of(namespace))
            && self.kind.as_deref().is_none_or(|cleared| cleared == kind)
    }
}

/// The namespace that a call without one is of has a name too.
pub(super) fn namespace_of(namespace: &str) -> &str {
    if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace }
}

/// When a clear was: nodes that clear at the same time may name the same epoch.
type Mark = (u64, i64);

/// The clears that a node has heard of.
#[derive(Debug, Default)]
pub(super) struct Clears {
    /// By namespace and kind; empty for all.
    marks: RwLock<HashMap<String, HashMap<String, Mark>>>,
    /// Most clusters never clear.
    any: AtomicBool,
    /// Whether what was cleared before this node started is known.
    complete: AtomicBool,
}

impl Clears {
    /// Notes a clear, as it is recorded. The last one counts, in whatever order they are heard of.
    pub(super) fn note(&self, cleared: &Cleared, record: &ProviderRecord) {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        let of_namespace = marks.entry(name(&cleared.namespace)).or_default();
        let mark = (record.epoch, record.at.micros());
        of_namespace.entry(name(&cleared.kind)).and_modify(|known| *known = mark.max(*known)).or_insert(mark);
        self.any.store(true, Ordering::Release);
    }

    /// From now on all is known that was cleared before. Until then what nodes share is not asked: it may be cleared.
    pub(super) fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Where the answer to a call is kept now.
    pub(super) fn place(&self, of: Fingerprint, scope: &Scope) -> Fingerprint {
        if !self.any.load(Ordering::Acquire) {
            return of;
        }
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let [all, own] = ["", namespace_of(&scope.namespace)].map(|namespace| marks.get(namespace));
        let found = [all, own].map(|of_namespace| {
            ["", &scope.kind].map(|kind| of_namespace.and_then(|kinds| kinds.get(kind)).copied())
        });
        // A call of no kind has found those of all kinds twice, which changes nothing.
        if found.iter().flatten().all(Option::is_none) {
            return of;
        }
        let mark =
            |digest: Digest, (epoch, at): Mark| digest.bytes(&epoch.to_le_bytes()).bytes(&at.to_le_bytes());
        let digest = fingerprint::place(of);
        found.into_iter().flatten().fold(digest, |digest, found| digest.maybe(found, mark)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::Timestamp;
    use callboard_domain::provider_record::{Subject, Topic};

    fn record(epoch: u64, at: i64) -> ProviderRecord {
        ProviderRecord {
            epoch,
            ..ProviderRecord::new(Subject::of(Topic::Cache, ""), Timestamp::from_micros(at))
        }
    }

    fn cleared(namespace: &str, kind: &str) -> Cleared {
        let name = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        Cleared { namespace: name(namespace), kind: name(kind) }
    }

    fn scope(namespace: &str, kind: &str) -> Scope {
        Scope { namespace: namespace.into(), kind: kind.into(), failures: 0 }
    }

    #[test]
    fn a_clear_moves_exactly_what_it_takes() {
        let of = fingerprint::key(&Scope::default(), "a call");
        let scopes = ["", "default", "x"].map(|namespace| ["", "k", "l"].map(|kind| scope(namespace, kind)));
        for (namespace, kind) in
            [("", ""), ("x", ""), ("default", ""), ("", "k"), ("x", "k"), ("default", "l")]
        {
            let (clears, clear) = (Clears::default(), cleared(namespace, kind));
            assert!(
                scopes.iter().flatten().all(|scope| clears.place(of, scope) == of),
                "nothing is cleared yet"
            );
            clears.note(&clear, &record(1, 1));
            for scope in scopes.iter().flatten() {
                let moved = clears.place(of, scope) != of;
                assert_eq!(moved, clear.takes(&scope.namespace, &scope.kind), "{clear:?}, {scope:?}");
            }
        }
    }

    #[test]
    fn nodes_that_hear_of_clears_in_another_order_agree() {
        let (of, scope) = (fingerprint::key(&Scope::default(), "a call"), scope("x", "k"));
        let records = [record(1, 9), record(2, 1), record(2, 2)];
        let [one, two] = [(), ()].map(|()| Clears::default());
        records.iter().for_each(|record| one.note(&Cleared::default(), record));
        records.iter().rev().for_each(|record| two.note(&Cleared::default(), record));
        assert_eq!(one.place(of, &scope), two.place(of, &scope));
    }

    #[test]
    fn each_clear_is_a_place_of_its_own_and_the_same_on_every_node() {
        let (of, scope) = (fingerprint::key(&Scope::default(), "a call"), scope("x", "k"));
        let [one, two] = [(), ()].map(|()| Clears::default());
        let mut places = vec![of];
        for (clear, record) in [
            (cleared("", ""), record(1, 1)),
            (cleared("", ""), record(1, 2)),
            (cleared("", ""), record(2, 2)),
            (cleared("x", ""), record(2, 2)),
            (cleared("", "k"), record(2, 2)),
            (cleared("x", "k"), record(2, 2)),
        ] {
            one.note(&clear, &record);
            two.note(&clear, &record);
            let place = one.place(of, &scope);
            assert_eq!(two.place(of, &scope), place);
            assert!(!places.contains(&place), "{clear:?}");
            places.push(place);
        }
    }
}
