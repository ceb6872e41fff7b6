//! Single calls: fail over, repetition, deadlines, decoded errors.

use crate::node::{ID, Node, Script, nowhere};
use callboard_client::{Client, Code, Options, Origin, v1};
use futures::TryStreamExt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

fn client(addresses: &[SocketAddr], change: impl FnOnce(&mut Options)) -> Client {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let mut options = Options { addresses, timeout: Duration::from_secs(20), ..Options::default() };
    change(&mut options);
    Client::connect(options).unwrap()
}

fn echo() -> v1::SubmitTaskRequest {
    v1::SubmitTaskRequest { kind: "echo".into(), ..Default::default() }
}

fn refusal(code: Code, reason: &str) -> Status {
    Status::with_error_details(
        code,
        "no",
        ErrorDetails::with_error_info(reason, "callboard", [("a".to_owned(), "b".to_owned())]),
    )
}

fn away() -> v1::SubmitError {
    v1::SubmitError {
        code: Code::Unavailable.into(),
        reason: "STORE_UNAVAILABLE".into(),
        message: "the store is unavailable".into(),
        field_violations: Vec::new(),
    }
}

#[tokio::test]
async fn an_address_that_is_away_is_passed_over_and_then_left_alone() {
    let node = Node::start(Script::default());
    let client = client(&[nowhere(), node.address], |_| {});
    client.submit(echo()).await.unwrap();
    assert_eq!(client.address(), node.address.to_string());
    client.submit(echo()).await.unwrap();
    assert_eq!(node.script.submitted.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_node_that_is_killed_is_replaced_by_the_next() {
    let (first, second) = (Node::start(Script::default()), Node::start(Script::default()));
    let client = client(&[first.address, second.address], |_| {});
    client.submit(echo()).await.unwrap();
    assert_eq!(first.script.submitted.lock().unwrap().len(), 1);
    first.kill();
    client.submit(echo()).await.unwrap();
    assert_eq!(second.script.submitted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_node_that_stands_still_is_left_for_the_next() {
    // What a stopped process looks like: its system takes connections and bytes, and nobody answers.
    let still = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node::start(Script::default());
    let client = client(&[still.local_addr().unwrap(), node.address], |_| {});
    let began = Instant::now();
    client.submit(echo()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(client.address(), node.address.to_string());
}

#[tokio::test]
async fn a_submission_of_unknown_outcome_is_repeated_under_one_request_id() {
    let errors = vec![refusal(Code::Unknown, "COMMIT_UNKNOWN"), Status::unavailable("connection reset")];
    let node = Node::start(Script { submit_errors: errors.into(), ..Script::default() });
    let submitted = client(&[node.address], |_| {}).submit(echo()).await.unwrap();
    assert!(submitted.existed);
    let seen = node.script.submitted.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(!seen[0].request_id.is_empty());
    assert!(seen.iter().all(|r| r.request_id == seen[0].request_id));
}

#[tokio::test]
async fn a_request_id_of_the_callers_own_is_kept() {
    let node = Node::start(Script::default());
    let request = v1::SubmitTaskRequest { request_id: "mine".into(), ..echo() };
    client(&[node.address], |_| {}).submit(request).await.unwrap();
    assert_eq!(node.script.submitted.lock().unwrap()[0].request_id, "mine");
}

#[tokio::test]
async fn a_refusal_is_decoded_and_not_repeated() {
    let mut details = ErrorDetails::with_error_info(
        "INVALID_ARGUMENT",
        "callboard",
        [("kind".to_owned(), "echo".to_owned())],
    );
    details.add_bad_request_violation("priority", "must be 0 to 9");
    details.add_bad_request_violation("timeout", "must be over zero");
    let status = Status::with_error_details(Code::InvalidArgument, "two fields are wrong", details);
    let node = Node::start(Script { submit_errors: vec![status].into(), ..Script::default() });
    let error = client(&[node.address], |_| {}).submit(echo()).await.unwrap_err();
    assert_eq!(
        (error.code, error.origin, error.may_have_run),
        (Code::InvalidArgument, Origin::Server, false)
    );
    assert_eq!(error.message, "two fields are wrong");
    assert_eq!(error.metadata["kind"], "echo");
    let fields: Vec<_> = error.violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["priority", "timeout"]);
    assert_eq!(node.script.submitted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_said_once_patience_is_over_with_every_address() {
    let (a, b) = (nowhere(), nowhere());
    let started = Instant::now();
    let error = client(&[a, b], |o| o.patience = Duration::ZERO).submit(echo()).await.unwrap_err();
    assert!(error.is_unreachable() && !error.may_have_run, "{error:?}");
    assert!(error.message.contains(&a.to_string()) && error.message.contains(&b.to_string()), "{error}");
    assert!(error.message.ends_with("connection refused"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn patience_waits_for_a_node_that_comes_up() {
    let address = nowhere();
    let client = client(&[address], |o| o.patience = Duration::from_secs(15));
    let (submitted, _node) = tokio::join!(client.submit(echo()), async {
        // The first attempt is refused before this runs: `join!` polls in order.
        tokio::task::yield_now().await;
        Node::start_at(address, Script::default())
    });
    submitted.unwrap();
}

#[tokio::test]
async fn a_node_that_never_answers_is_given_up_at_the_deadline() {
    let node = Node::start(Script { hang: true, ..Script::default() });
    let client = client(&[node.address], |o| o.timeout = Duration::from_millis(300));
    let error = client.submit(echo()).await.unwrap_err();
    assert_eq!((error.code, error.origin), (Code::DeadlineExceeded, Origin::TimedOut));
    assert!(error.may_have_run);
    assert_eq!(node.script.submitted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_tells_each_outcome() {
    let node = Node::start(Script::default());
    let wrong = v1::SubmitTaskRequest { kind: "no.such".into(), ..Default::default() };
    let outcomes = client(&[node.address], |_| {}).submit_batch(vec![echo(), wrong, echo()]).await.unwrap();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument, "UNKNOWN_KIND"));
    assert_eq!(error.violations[0].field, "kind");
}

#[tokio::test]
async fn what_a_batch_could_not_take_for_now_is_submitted_again() {
    let node = Node::start(Script { item_errors: vec![away(); 4].into(), ..Script::default() });
    let outcomes = client(&[node.address], |_| {}).submit_batch(vec![echo(), echo(), echo()]).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(node.script.item_errors.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_batch_can_not_take_is_told_at_the_deadline() {
    let node = Node::start(Script { item_errors: vec![away(); 10_000].into(), ..Script::default() });
    let client = client(&[node.address], |options| options.timeout = Duration::from_secs(1));
    let outcomes = client.submit_batch(vec![echo()]).await.unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap_err().reason, "STORE_UNAVAILABLE");
}

#[tokio::test]
async fn all_pages_are_listed_also_past_an_empty_one() {
    let node = Node::start(Script::default());
    let client = client(&[node.address], |_| {});
    let tasks: Vec<_> = client.list_all(v1::TaskFilter::default()).try_collect().await.unwrap();
    assert_eq!(tasks.len(), 3);
}

#[tokio::test]
async fn a_cancel_whose_first_answer_was_lost_is_not_an_error() {
    let errors =
        || vec![refusal(Code::FailedPrecondition, "TASK_ENDED"), Status::unavailable("connection reset")];
    let node = Node::start(Script { cancel_errors: errors().into(), ..Script::default() });
    let task = client(&[node.address], |_| {}).cancel(ID).await.unwrap();
    assert_eq!(task.state(), v1::TaskState::Cancelled);
    // The same refusal at the first attempt is one.
    node.script.cancel_errors.lock().unwrap().push(refusal(Code::FailedPrecondition, "TASK_ENDED"));
    let error = client(&[node.address], |_| {}).cancel(ID).await.unwrap_err();
    assert_eq!(error.reason, "TASK_ENDED");
    // And so it is where the task ended by itself.
    let node = Node::start(Script { cancel_errors: errors().into(), events: 3, ..Script::default() });
    assert_eq!(client(&[node.address], |_| {}).cancel(ID).await.unwrap_err().reason, "TASK_ENDED");
}
