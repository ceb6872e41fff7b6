//! The contract of [`Answers`].

use super::{DEADLINE, soon};
use crate::answers::{Answers, BYTES};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fresh answers: there are none.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The answers, as one node sees them.
    fn answers(&self) -> Arc<dyn Answers>;

    /// The same answers, as a second node sees them.
    fn other(&self) -> Arc<dyn Answers>;
}

/// Longer than any property takes.
const LONG: Duration = Duration::from_secs(60);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);

/// What one node keeps, another gets, byte for byte; each key is an answer of its own, and the last one counts.
pub async fn what_one_node_keeps_another_gets(fixture: impl Fixture) {
    let (answers, other) = (fixture.answers(), fixture.other());
    assert_eq!(other.get("a").await, Ok(None));
    let bytes = Bytes::from((0..=255).collect::<Vec<u8>>());
    assert_eq!(answers.put("a", bytes.clone(), LONG).await, Ok(()));
    assert_eq!(other.get("a").await, Ok(Some(bytes)));
    assert_eq!(other.get("b").await, Ok(None));
    assert_eq!(other.put("a", Bytes::new(), LONG).await, Ok(()));
    assert_eq!(answers.get("a").await, Ok(Some(Bytes::new())), "an empty one is one");
}

/// An answer is gone after its time; that of the last one counts.
pub async fn an_answer_is_gone_after_its_time(fixture: impl Fixture) {
    let (answers, other) = (fixture.answers(), fixture.other());
    let put = Instant::now();
    assert_eq!(answers.put("a", "one".into(), SHORT).await, Ok(()));
    assert_eq!(answers.put("b", "one".into(), SHORT).await, Ok(()));
    assert_eq!(answers.put("b", "two".into(), LONG).await, Ok(()));
    let gone = async {
        while other.get("a").await != Ok(None) {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    soon("the answer is gone", gone).await;
    assert!(put.elapsed() >= SHORT, "not before its time");
    assert!(put.elapsed() < DEADLINE, "and soon after it");
    assert_eq!(other.get("b").await, Ok(Some("two".into())));
}

/// What is too large is not kept, and is no error.
pub async fn what_is_too_large_is_not_kept(fixture: impl Fixture) {
    let answers = fixture.answers();
    assert_eq!(answers.put("a", "one".into(), LONG).await, Ok(()));
    assert_eq!(answers.put("a", Bytes::from(vec![0; BYTES + 1]), LONG).await, Ok(()));
    assert_eq!(answers.get("a").await, Ok(Some("one".into())));
}

/// Of those who put first, one counts for all, until its time is over.
pub async fn the_first_answer_counts(fixture: impl Fixture) {
    let (answers, other) = (fixture.answers(), fixture.other());
    let bytes = Bytes::from((0..=255).collect::<Vec<u8>>());
    assert_eq!(answers.put_first("a", bytes.clone(), SHORT).await, Ok(None));
    assert_eq!(other.put_first("a", "two".into(), LONG).await, Ok(Some(bytes.clone())));
    let large = Bytes::from(vec![0; BYTES + 1]);
    assert_eq!(other.put_first("a", large.clone(), LONG).await, Ok(Some(bytes)), "nor does it last longer");
    let gone = async {
        while other.put_first("a", large.clone(), LONG).await != Ok(None) {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    soon("the answer is gone", gone).await;
    assert_eq!(other.put_first("a", "two".into(), LONG).await, Ok(None));
    for _ in 0..2 {
        assert_eq!(
            answers.put_first("c", "one".into(), LONG).await,
            Ok(None),
            "who asks twice is first twice"
        );
    }
    assert_eq!(other.put_first("c", "two".into(), LONG).await, Ok(Some("one".into())));
    let both =
        futures::join!(answers.put_first("b", "one".into(), LONG), other.put_first("b", "two".into(), LONG));
    let kept = answers.get("b").await.expect("answers are there").expect("one is kept");
    let one = matches!(&both, (Ok(None), Ok(Some(lost))) | (Ok(Some(lost)), Ok(None)) if *lost == kept);
    assert!(one, "{both:?} for {kept:?}");
}

/// Expands to the tests of the contract of [`Answers`].
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::answers::Fixture).
#[macro_export]
macro_rules! answers_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            answers,
            [
                what_one_node_keeps_another_gets,
                an_answer_is_gone_after_its_time,
                what_is_too_large_is_not_kept,
                the_first_answer_counts,
            ]
        );
    };
}
