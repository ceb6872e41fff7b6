//! Admission.

use super::Fixture;
use super::kit::{Kit, is_refusal};
use crate::store::Error;
use bytes::Bytes;
use callboard_domain::{NewTask, Priority, State};
use std::collections::HashSet;
use std::time::Duration;

/// Gives a task a request id.
fn with_request(mut task: NewTask, request_id: &str) -> NewTask {
    task.spec.request_id = Some(request_id.into());
    task
}

/// A new task is stored as it was given, stands where the state machine says, and is handed off.
pub async fn admits_a_new_task(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut new = with_request(kit.task(), "r-1");
    new.spec.namespace = "shop".into();
    new.spec.queue = "slow".into();
    new.spec.priority = Priority::new(9).expect("nine is a priority");
    new.spec.max_attempts = 7;
    new.spec.timeout = Duration::from_millis(1_500);
    new.spec.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    new.spec.retry_of = Some(kit.admit_one().await);
    let answer = kit.store.admit(vec![new.clone()]).await.remove(0).expect("a sound task is admitted");
    let task = kit.note(answer.task);
    assert!(!answer.existed);
    assert_eq!(task.spec, new.spec, "the clock stands still, so created_at is the same too");
    assert_eq!((task.life.state, task.life.attempt, task.life.seq), (State::Queued, 0, 1));
    assert_eq!(kit.get(new.spec.id).await, task);
    let full = kit.other.get_full(new.spec.id).await.expect("a task is read");
    assert_eq!((full.task, full.input, full.result), (task, new.input, None));
    let ready = kit.nth_ready(new.spec.id, 1).await;
    assert_eq!((&*ready.queue, ready.band), ("slow", new.spec.priority.band()));
    assert!(!ready.alone && ready.not_before.is_none(), "{ready:?}");
    kit.audit().await;
}

/// When a task was admitted is told by the store's clock, not by the caller's.
pub async fn stamps_admission_with_its_own_clock(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (mut new, before) = (kit.task(), kit.fixture.now());
    new.spec.created_at = before.after(Duration::from_secs(3_600));
    let task = kit.admit(vec![new]).await.remove(0);
    let span = before..=kit.fixture.now();
    assert!(span.contains(&task.spec.created_at), "{} is not within {span:?}", task.spec.created_at);
    kit.audit().await;
}

/// A task that must wait is SCHEDULED, is not handed off, and its time is told to the observers. A time
/// that has passed is no wait.
pub async fn admits_a_task_for_later(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (later, last) = (kit.later(Duration::from_secs(60)), kit.later(Duration::from_secs(90)));
    let mut past = kit.task();
    past.run_at = Some(later.spec.created_at);
    kit.fixture.advance(Duration::from_secs(1)).await;
    let run_at = later.run_at.expect("it waits");
    let tasks = kit.admit(vec![last, later, past]).await;
    assert_eq!((tasks[1].life.state, tasks[1].life.run_at), (State::Scheduled, run_at));
    assert_eq!(tasks[2].life.state, State::Queued);
    kit.nth_ready(tasks[2].spec.id, 1).await;
    assert_eq!(kit.told.ready(tasks[1].spec.id), [], "a task that waits is not handed off");
    assert!(kit.told.due().contains(&run_at), "the earliest time is told: {:?}", kit.told.due());
    kit.audit().await;
}

/// Outcomes come back in the order of the batch.
pub async fn answers_a_batch_in_order(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut batch: Vec<_> = (0..100).map(|_| kit.task()).collect();
    batch.reverse();
    let wanted: Vec<_> = batch.iter().map(|t| t.spec.id).collect();
    let got: Vec<_> = kit.admit(batch).await.iter().map(|t| t.spec.id).collect();
    assert_eq!(got, wanted);
    assert!(kit.store.admit(Vec::new()).await.is_empty());
    kit.audit().await;
}

/// The same request again is the task it made, wherever that stands by now.
pub async fn a_request_id_makes_admission_idempotent(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let first = with_request(kit.task(), "r-1");
    let id = kit.admit(vec![first.clone()]).await.remove(0).spec.id;
    let session = kit.session("a").await;
    kit.claim_one(session, id).await;
    let again = NewTask { input: first.input.clone(), ..with_request(kit.task(), "r-1") };
    let answer = kit.other.admit(vec![again]).await.remove(0).expect("the same request is no error");
    assert!(answer.existed);
    assert_eq!((answer.task.spec.id, answer.task.life.state), (id, State::Running));
    // A request id belongs to its namespace.
    let mut elsewhere = NewTask { input: first.input.clone(), ..with_request(kit.task(), "r-1") };
    elsewhere.spec.namespace = "elsewhere".into();
    let there = kit.admit(vec![elsewhere.clone()]).await.remove(0).spec.id;
    assert_eq!(there, elsewhere.spec.id, "it is a new task there");
    let again = |new: &NewTask| {
        let mut again = new.clone();
        again.spec.id = kit.task().spec.id;
        again
    };
    for (answer, id) in
        kit.store.admit(vec![again(&elsewhere), again(&first)]).await.into_iter().zip([there, id])
    {
        assert_eq!(answer.map(|a| (a.task.spec.id, a.existed)), Ok((id, true)));
    }
    kit.audit().await;
}

/// A request id with another kind or input is refused, and the answer names the task it was used for.
pub async fn a_request_id_cannot_be_used_for_another_request(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let first = with_request(kit.task(), "r-1");
    let id = kit.admit(vec![first.clone()]).await.remove(0).spec.id;
    let other_input = NewTask { input: Bytes::from_static(b"{}"), ..with_request(kit.task(), "r-1") };
    let mut other_kind = NewTask { input: first.input, ..with_request(kit.task(), "r-1") };
    other_kind.spec.kind = "text.generate".into();
    for answer in kit.store.admit(vec![other_input, other_kind]).await {
        assert_eq!(answer.err(), Some(Error::RequestIdReused(id)));
    }
    kit.audit().await;
}

/// A request id that comes twice in one batch is one task, or a reuse.
pub async fn a_request_id_counts_within_one_batch(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let first = with_request(kit.task(), "r-1");
    let again = NewTask { input: first.input.clone(), ..with_request(kit.task(), "r-1") };
    let other_input = NewTask { input: Bytes::from_static(b"{}"), ..with_request(kit.task(), "r-1") };
    let id = first.spec.id;
    let mut answers = kit.store.admit(vec![first, again, other_input]).await.into_iter();
    let mut next = || answers.next().expect("an outcome for each item");
    let admitted = next().expect("a sound task is admitted");
    assert_eq!((kit.note(admitted.task).spec.id, admitted.existed), (id, false));
    let again = next().expect("the same request is no error");
    assert_eq!((again.task.spec.id, again.existed), (id, true));
    assert_eq!(next().err(), Some(Error::RequestIdReused(id)));
    kit.audit().await;
}

/// The same request sent many times at once, to two nodes, makes one task.
pub async fn a_request_sent_at_once_makes_one_task(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let input = Bytes::from_static(b"{}");
    let requests = (0..32).map(|i| {
        let task = NewTask { input: input.clone(), ..with_request(kit.task(), "r-1") };
        let store = if i % 2 == 0 { kit.store.clone() } else { kit.other.clone() };
        async move { store.admit(vec![task]).await.remove(0).expect("the same request is no error") }
    });
    let answers = futures::future::join_all(requests).await;
    let ids: HashSet<_> = answers.iter().map(|a| a.task.spec.id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(answers.iter().filter(|a| !a.existed).count(), 1, "one of them made it");
    kit.note(answers[0].task.clone());
    kit.audit().await;
}

/// An id that is taken is refused for that item alone, and the task that has it is unharmed.
pub async fn an_id_that_is_taken_harms_nobody(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (first, second, third) = (kit.task(), kit.task(), kit.task());
    let before = kit.admit(vec![first.clone()]).await.remove(0);
    let twin = NewTask { input: Bytes::from_static(b"\"another\""), ..first.clone() };
    let answers = kit.store.admit(vec![second, twin, third]).await;
    assert!(matches!(&answers[1], Err(error) if is_refusal(error)), "{:?}", answers[1]);
    for sound in [&answers[0], &answers[2]] {
        kit.note(sound.as_ref().expect("the others of the batch are admitted").task.clone());
    }
    let after = kit.store.get_full(before.spec.id).await.expect("a task is read");
    assert_eq!((after.task, after.input), (before, first.input));
    kit.audit().await;
}

/// Data that an engine may refuse (a NUL in a text, bytes that are no text) is either refused for that
/// item alone or kept to the byte.
pub async fn data_that_is_refused_harms_no_other(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut batch: Vec<_> = (0..5).map(|_| kit.task()).collect();
    batch[1].input = Bytes::from_static(b"\"a\\u0000b\"");
    batch[2].input = Bytes::from_static(b"\x00\xff\xfe");
    batch[3].spec.request_id = Some("r\0".into());
    let answers = kit.store.admit(batch.clone()).await;
    assert_eq!(answers.len(), batch.len());
    for (i, (answer, new)) in answers.into_iter().zip(batch).enumerate() {
        match answer {
            Ok(admitted) => {
                kit.note(admitted.task);
                let full = kit.store.get_full(new.spec.id).await.expect("a task is read");
                assert_eq!((full.task.spec, full.input), (new.spec, new.input));
            }
            Err(error) => assert!(is_refusal(&error) && (1..4).contains(&i), "item {i}: {error}"),
        }
    }
    kit.audit().await;
}

/// Tasks admitted by many callers at once are all there, each with its own input.
pub async fn admissions_at_once_do_not_mix(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let batches = (0..64).map(|i| {
        let batch: Vec<_> = (0..=i % 4).map(|_| kit.task()).collect();
        let store = if i % 2 == 0 { kit.store.clone() } else { kit.other.clone() };
        async move { (store.admit(batch.clone()).await, batch) }
    });
    for (answers, batch) in futures::future::join_all(batches).await {
        for (answer, new) in answers.into_iter().zip(batch) {
            let task = kit.note(answer.expect("a sound task is admitted").task);
            assert_eq!(task.spec.id, new.spec.id);
            let full = kit.store.get_full(new.spec.id).await.expect("a task is read");
            assert_eq!(full.input, new.input);
        }
    }
    kit.audit().await;
}
