//! The merge of what nodes tell of providers: whoever heard of the same records knows the same.

use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use proptest::prelude::*;
use std::time::Duration;

/// Few values of each part, so that parts are often equal.
fn record() -> impl Strategy<Value = ProviderRecord> {
    (0u64..3, 0i64..3, 0i64..3, 0u64..2, "[ab]?", "[ab]?", "[ab]?").prop_map(
        |(epoch, until, at, cool_down, value, note, author)| ProviderRecord {
            epoch,
            until: Timestamp::from_micros(until),
            cool_down: Duration::from_secs(cool_down),
            value,
            note,
            author,
            ..ProviderRecord::new(Subject::of(Topic::Breaker, "a"), Timestamp::from_micros(at))
        },
    )
}

proptest! {
    #[test]
    fn a_merge_is_commutative_associative_and_idempotent(a in record(), b in record(), c in record()) {
        prop_assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
        prop_assert_eq!(a.clone().merge(b.clone()).merge(c.clone()), a.clone().merge(b.merge(c)));
        prop_assert_eq!(a.clone().merge(a.clone()), a);
    }

    #[test]
    fn a_later_failure_never_shortens_a_cool_down(records in prop::collection::vec(record(), 1..8)) {
        let mut known = records[0].clone();
        for next in records {
            let before = known.clone();
            known = known.merge(next);
            prop_assert!(known.epoch >= before.epoch);
            prop_assert!(known.epoch > before.epoch || known.until >= before.until);
        }
    }
}
