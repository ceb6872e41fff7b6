//! The contract of [`ProviderRecords`].

use crate::ProviderRecords;
use async_trait::async_trait;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// A store without records.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The store, as one node sees it.
    fn records(&self) -> Arc<dyn ProviderRecords>;

    /// The same store, as a second node sees it.
    fn other(&self) -> Arc<dyn ProviderRecords>;
}

fn record(topic: Topic, provider: &str, epoch: u64, until: i64) -> ProviderRecord {
    ProviderRecord {
        epoch,
        until: Timestamp::from_micros(until),
        cool_down: Duration::from_micros(7),
        value: "Ä value's".into(),
        note: "why: \"so\"".into(),
        author: "ops".into(),
        ..ProviderRecord::new(Subject::of(topic, provider), Timestamp::from_micros(5))
    }
}

async fn all(records: &dyn ProviderRecords) -> Vec<ProviderRecord> {
    let mut all = records.provider_records().await.expect("records are read");
    all.sort_by(|a, b| a.subject.cmp(&b.subject));
    all
}

/// What one node saves another reads, whole; each key and model of a provider has records of its own.
pub async fn what_one_node_saves_another_reads(fixture: impl Fixture) {
    let (records, other) = (fixture.records(), fixture.other());
    assert_eq!(other.provider_records().await, Ok(vec![]));
    assert_eq!(records.save_provider_records(vec![]).await, Ok(()), "nothing may be saved");
    let mut saved = vec![record(Topic::Breaker, "a", 1, 9), record(Topic::Switch, "a", 1, 0)];
    for (key, model) in [("", "m"), ("k", ""), ("k", "m")] {
        let mut of_key = record(Topic::Breaker, "a", 1, 9);
        (of_key.subject.key, of_key.subject.model) = (key.into(), model.into());
        saved.push(of_key);
    }
    // Of clears the epoch is a time, in microseconds.
    for (namespace, kind) in [("", ""), ("n", ""), ("", "k"), ("n", "k")] {
        let mut clear = record(Topic::Cache, "", 2_000_000_000_000_000, 0);
        (clear.subject.key, clear.subject.model) = (namespace.into(), kind.into());
        saved.push(clear);
    }
    saved.sort_by(|a, b| a.subject.cmp(&b.subject));
    records.save_provider_records(saved.clone()).await.expect("records are saved");
    assert_eq!(all(&*other).await, saved);
}

/// Of two records the one that outdoes the other is kept, in whichever order they are saved, by whichever part it does.
pub async fn the_greater_record_is_kept_in_whichever_order_they_come(fixture: impl Fixture) {
    let (records, other) = (fixture.records(), fixture.other());
    let base = record(Topic::Breaker, "a", 2, 10);
    let greater = [
        ProviderRecord { epoch: 3, until: Timestamp::from_micros(1), ..base.clone() },
        ProviderRecord { until: Timestamp::from_micros(11), at: Timestamp::from_micros(1), ..base.clone() },
        ProviderRecord { at: Timestamp::from_micros(6), ..base.clone() },
        ProviderRecord { cool_down: Duration::from_micros(8), value: "A".into(), ..base.clone() },
        // Compared by their bytes, not as a language has it.
        ProviderRecord { value: "ä value's".into(), note: "a".into(), ..base.clone() },
        ProviderRecord { note: "why: _".into(), ..base.clone() },
        ProviderRecord { author: "other".into(), ..base.clone() },
    ];
    for (i, greater) in greater.into_iter().enumerate() {
        assert!(greater.outdoes(&base), "{i}");
        let named = |record: &ProviderRecord, order: &str| {
            let mut record = record.clone();
            record.subject.provider = format!("{i}-{order}");
            record
        };
        for (order, both) in [("up", [&base, &greater]), ("down", [&greater, &base])] {
            records.save_provider_records(vec![named(both[0], order)]).await.expect("a record is saved");
            other.save_provider_records(vec![named(both[1], order)]).await.expect("a record is saved");
            let kept =
                all(&*records).await.into_iter().find(|r| r.subject.provider == format!("{i}-{order}"));
            assert_eq!(kept, Some(named(&greater, order)), "{i}, {order}");
        }
    }
}

/// Breakers that hold no more are forgotten, if they were written before the time too; nothing else is.
pub async fn only_old_breakers_are_forgotten(fixture: impl Fixture) {
    let (records, other) = (fixture.records(), fixture.other());
    let written = |provider: &str, at: i64, until: i64| ProviderRecord {
        at: Timestamp::from_micros(at),
        ..record(Topic::Breaker, provider, 1, until)
    };
    let saved = vec![
        written("gone", 5, 9),
        written("holds", 5, 20),
        written("new", 20, 0),
        record(Topic::Switch, "s", 1, 0),
    ];
    records.save_provider_records(saved.clone()).await.expect("records are saved");
    other.forget_breakers(Timestamp::from_micros(10)).await.expect("old ones are forgotten");
    assert_eq!(all(&*records).await, saved[1..]);
}

/// Expands to the tests of the contract of [`ProviderRecords`].
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::provider_records::Fixture).
#[macro_export]
macro_rules! provider_records_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            provider_records,
            [
                what_one_node_saves_another_reads,
                the_greater_record_is_kept_in_whichever_order_they_come,
                only_old_breakers_are_forgotten,
            ]
        );
    };
}
