use crate::stage::{Record, TASK, context, context_until};
use callboard_sdk::llm::{self, ErrorKind, TextRequest};
use callboard_sdk::{Failure, limits};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_steps_key_is_the_same_on_every_attempt_and_another_for_another_step() {
    let (first, second) = (context(1, Arc::default()), context(2, Arc::default()));
    assert_eq!(first.idempotency_key("pay"), format!("{TASK}/pay"));
    assert_eq!(first.idempotency_key("pay"), second.idempotency_key("pay"));
    assert_ne!(first.idempotency_key("pay"), first.idempotency_key("ship"));
}

#[tokio::test]
async fn progress_is_kept_within_its_limits() {
    let record = Arc::new(Record::default());
    let ctx = context(1, record.clone());
    ctx.progress(30, "on the way");
    ctx.progress(200, "ä".repeat(limits::MESSAGE_BYTES));
    let seen = record.0.lock().unwrap();
    assert_eq!((seen[0].percent, seen[0].message.as_str()), (30, "on the way"));
    assert_eq!(seen[1].percent, 100);
    assert!(seen[1].message.len() <= limits::MESSAGE_BYTES && seen[1].message.ends_with('…'));
}

#[test]
fn the_time_that_is_left_ends_at_zero() {
    let minute = Duration::from_secs(60);
    let left = context(1, Arc::default()).remaining();
    assert!(left <= minute && left > minute / 2, "{left:?}");
    let over = context_until(Instant::now(), 1, Arc::default());
    assert_eq!(over.remaining(), Duration::ZERO);
}

#[tokio::test]
async fn a_providers_error_becomes_a_failure_with_a_question_mark() {
    async fn handler(ctx: &callboard_sdk::TaskContext) -> Result<String, Failure> {
        Ok(ctx.llm().text(TextRequest::prompt("?")).await?.text)
    }
    let failure = handler(&context(1, Arc::default())).await.unwrap_err();
    assert_eq!(failure.error.reason, "PROVIDER_CONNECTION");
    assert!(failure.error.retryable);
    assert_eq!(failure.to_string(), "there is no model");
}

#[test]
fn a_failure_is_retryable_as_its_providers_error_is_and_keeps_the_wait() {
    for kind in ErrorKind::ALL {
        let wait = Some(Duration::from_secs(3));
        let failure = Failure::from(llm::Error { retry_after: wait, ..llm::Error::new(*kind, "no") });
        assert_eq!((failure.error.retryable, failure.retry_after), (kind.is_retryable(), wait), "{kind:?}");
    }
}

#[test]
fn a_failures_message_is_cut_and_its_reason_replaced() {
    let failure = Failure::permanent("x".repeat(1 << 20)).reason("TOO_MUCH");
    assert!(failure.error.message.len() <= limits::MESSAGE_BYTES);
    assert_eq!((failure.error.reason.as_str(), failure.error.retryable), ("TOO_MUCH", false));
    assert!(Failure::retryable("later").error.retryable);
}
