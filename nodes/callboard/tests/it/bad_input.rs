//! What a node refuses: with every wrong field named, and before anything is stored.

use crate::node::{InProcess, request, submit_all};
use callboard_client::{Code, Error, v1};
use prost_types::{Duration, Timestamp};
use std::collections::HashMap;

const HOUR: i64 = 3_600;

/// A request that is right, to be made wrong.
fn echo(change: impl FnOnce(&mut v1::SubmitTaskRequest)) -> v1::SubmitTaskRequest {
    let mut request = request("echo", "{}");
    change(&mut request);
    request
}

fn input(kind: &str, input: impl AsRef<[u8]>) -> v1::SubmitTaskRequest {
    request(kind, input)
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

async fn stored(node: &InProcess) -> u64 {
    let counts = node.counts().await;
    counts.scheduled + counts.queued + counts.running + counts.succeeded + counts.failed + counts.cancelled
}

/// It is an error of the caller that names these fields, each with a description, and no other.
#[track_caller]
fn names(error: &Error, reason: &str, fields: &[&str]) {
    assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument, reason), "{error:?}");
    let mut named: Vec<_> = error.violations.iter().map(|v| v.field.as_str()).collect();
    let mut fields = fields.to_vec();
    named.sort_unstable();
    fields.sort_unstable();
    assert_eq!(named, fields, "{error:?}");
    for violation in &error.violations {
        assert!(!violation.description.is_empty(), "{error:?}");
        assert!(error.message.contains(&violation.description), "{error:?}");
    }
}

/// Submits what must be refused with these fields named; nothing may be stored.
async fn refused(cases: Vec<(v1::SubmitTaskRequest, &str, &[&str])>) {
    let node = InProcess::start().await;
    for (request, reason, fields) in cases {
        let case = format!("{:.200}", format!("{request:?}"));
        match node.client.submit(request).await {
            Ok(submitted) => unreachable!("{case} was taken: {submitted:?}"),
            Err(error) => names(&error, reason, fields),
        }
    }
    assert_eq!(stored(&node).await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_wrong_is_refused() {
    let deep = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let text = |json: &str| input("text.generate", json);
    refused(vec![
        (input("echo", large), "INPUT_TOO_LARGE", &["input"]),
        (
            input("echo", r#"{"a":["ok","x\u0000"],"b\u0000":1}"#),
            "INVALID_ARGUMENT",
            &["input.a[1]", "input.b\\u0000"],
        ),
        (input("echo", "{"), "INVALID_ARGUMENT", &["input"]),
        (input("echo", "{} x"), "INVALID_ARGUMENT", &["input"]),
        (input("echo", "[]"), "INVALID_ARGUMENT", &["input"]),
        (input("echo", b"{\"a\":\"\xff\"}"), "INVALID_ARGUMENT", &["input"]),
        (input("echo", deep(110)), "INVALID_ARGUMENT", &["input"]),
        (input("echo", deep(200)), "INVALID_ARGUMENT", &["input"]),
        (input("echo", deep(100_000)), "INVALID_ARGUMENT", &["input"]),
        (text(r#"{"prompt":"","max_tokens":0}"#), "INVALID_ARGUMENT", &["input.prompt", "input.max_tokens"]),
        (
            text(r#"{"prompt":3,"temperature":"warm"}"#),
            "INVALID_ARGUMENT",
            &["input.prompt", "input.temperature"],
        ),
        (text(r#"{"promt":"tea"}"#), "INVALID_ARGUMENT", &["input", "input"]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_out_of_their_range_are_refused() {
    type Change = fn(&mut v1::SubmitTaskRequest);
    let wrong = |change: Change, field: &'static [&'static str]| (echo(change), "INVALID_ARGUMENT", field);
    refused(vec![
        wrong(|r| r.priority = Some(10), &["priority"]),
        wrong(|r| r.timeout = seconds(0), &["timeout"]),
        wrong(|r| r.timeout = seconds(-1), &["timeout"]),
        wrong(|r| r.timeout = seconds(24 * HOUR + 1), &["timeout"]),
        wrong(|r| r.queue = "Bad Queue".into(), &["queue"]),
        wrong(|r| r.queue = "q".repeat(65), &["queue"]),
        wrong(|r| r.max_attempts = Some(0), &["max_attempts"]),
        wrong(|r| r.max_attempts = Some(101), &["max_attempts"]),
        wrong(|r| r.delay = seconds(-1), &["delay"]),
        wrong(|r| r.delay = seconds(367 * 24 * HOUR), &["delay"]),
        wrong(|r| r.run_at = Some(Timestamp { seconds: 1 << 40, nanos: 0 }), &["run_at"]),
        wrong(
            |r| {
                r.delay = seconds(1);
                r.run_at = Some(Timestamp { seconds: 1, nanos: 0 });
            },
            &["delay"],
        ),
        wrong(|r| r.request_id = "r".repeat(129), &["request_id"]),
        wrong(|r| r.request_id = "clé".into(), &["request_id"]),
        wrong(|r| r.request_id = "line\n".into(), &["request_id"]),
        (input("no.such", "{}"), "UNKNOWN_KIND", &["kind"]),
        (input("", "{}"), "UNKNOWN_KIND", &["kind"]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_field_is_named_at_once() {
    let all_wrong = |kind: &str, input: String| v1::SubmitTaskRequest {
        priority: Some(11),
        queue: "Bad Queue".into(),
        timeout: seconds(0),
        max_attempts: Some(0),
        delay: seconds(-1),
        request_id: "é".into(),
        ..request(kind, input)
    };
    let fields = ["priority", "queue", "timeout", "max_attempts", "delay", "request_id"];
    let and = |more: &[&'static str]| [&fields[..], more].concat();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    refused(vec![
        (
            all_wrong("text.generate", r#"{"prompt":"","max_tokens":0}"#.into()),
            "INVALID_ARGUMENT",
            &and(&["input.prompt", "input.max_tokens"]),
        ),
        (all_wrong("echo", large.clone()), "INPUT_TOO_LARGE", &and(&["input"])),
        (all_wrong("no.such", "{}".into()), "UNKNOWN_KIND", &and(&["kind"])),
        (all_wrong("no.such", large), "UNKNOWN_KIND", &and(&["kind", "input"])),
    ])
    .await;
}

/// A refusal quotes what is wrong, and it travels in headers, which clients bound: at 16 KiB, most of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_the_caller_however_large_what_it_is_about() {
    let node = InProcess::start().await;
    let long = "é".repeat(30_000);
    let fields: Vec<_> = (0..40).map(|n| format!("\"{n}{long:.2000}\":\"{long:.3000}\"")).collect();
    for (kind, input) in [
        ("text.generate", format!(r#"{{"prompt":{{"a":"{long}"}},"max_tokens":"{long}"}}"#)),
        ("text.generate", format!("{{{}}}", fields.join(","))),
        ("echo", format!(r#"{{"{long}":"\u0000","{long}":1}}"#)),
        (
            "echo",
            format!(
                "{{{}}}",
                ["sleep_ms", "fail_times", "panic"].map(|f| format!("\"{f}\":\"{long}\"")).join(",")
            ),
        ),
        (long.as_str(), "{}".into()),
    ] {
        let error = node.client.submit(request(kind, input)).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error:?}");
        assert!(!error.reason.is_empty() && !error.violations.is_empty(), "{error:?}");
    }
    let error = node.client.get(&long, false).await.unwrap_err();
    names(&error, "INVALID_ARGUMENT", &["id"]);
    assert_eq!(stored(&node).await, 0);
}

/// A reader takes the first of them, another the last, and the handler refuses both: too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_stands_twice_is_refused_at_once_and_not_when_it_runs() {
    refused(vec![
        (input("echo", r#"{"sleep_ms":1,"sleep_ms":2}"#), "INVALID_ARGUMENT", &["input.sleep_ms"]),
        (input("echo", r#"{"a":{"b":[{"c":1,"c":1}]}}"#), "INVALID_ARGUMENT", &["input.a.b[0].c"]),
        (input("text.generate", r#"{"prompt":"a","prompt":"b"}"#), "INVALID_ARGUMENT", &["input.prompt"]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_request_does_not_harm_those_batched_with_it() {
    let node = InProcess::start().await;
    let mut requests: Vec<_> = (0..10).map(|n| request("echo", format!("{{\"n\":{n}}}"))).collect();
    requests[4].input = r#"{"n":"\u0000"}"#.into();
    let outcomes = node.client.submit_batch(requests).await.unwrap();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(error) => {
                assert_eq!(n, 4);
                names(&error, "INVALID_ARGUMENT", &["input.n"]);
            }
            Ok(submitted) => {
                let done = node.wait(&submitted.task.id).await;
                assert_eq!(done.input, format!("{{\"n\":{n}}}"));
                assert_eq!(done.state(), v1::TaskState::Succeeded);
            }
        }
    }
    assert_eq!(stored(&node).await, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_over_its_limits_is_refused_as_a_whole() {
    let node = InProcess::start().await;
    let error = node.client.submit_batch(vec![request("echo", "{}"); 1_001]).await.unwrap_err();
    names(&error, "INVALID_ARGUMENT", &["requests"]);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000));
    let error = node.client.submit_batch(vec![request("echo", large); 4]).await.unwrap_err();
    names(&error, "INVALID_ARGUMENT", &["requests"]);
    assert_eq!(stored(&node).await, 0);
}

/// The answers to an id, from every call that takes one.
async fn with_id(node: &InProcess, id: &str) -> [Error; 5] {
    use futures::StreamExt;
    let events = v1::ListTaskEventsRequest { id: id.into(), ..Default::default() };
    [
        node.client.get(id, true).await.unwrap_err(),
        node.client.watch(id, None).next().await.unwrap().unwrap_err(),
        node.client.cancel(id).await.unwrap_err(),
        node.client.retry(id, "").await.unwrap_err(),
        node.client.events(events).await.unwrap_err(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_must_be_one_that_exists() {
    let node = InProcess::start().await;
    for id in ["", "abc", "xyzzy", "01939e2c-7e10-7cc3-98c4-dc0c0c07398f00"] {
        for error in with_id(&node, id).await {
            names(&error, "INVALID_ARGUMENT", &["id"]);
        }
    }
    for id in ["01939e2c-7e10-7cc3-98c4-dc0c0c07398f", "0c07398f"] {
        for error in with_id(&node, id).await {
            assert_eq!((error.code, error.reason.as_str()), (Code::NotFound, "TASK_NOT_FOUND"), "{error:?}");
            assert_eq!(error.metadata["id"], id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suffix_must_fit_one_task() {
    let node = InProcess::start().await;
    // So many that two of them surely end in the same four digits.
    let mut ends: HashMap<String, String> = HashMap::new();
    let (end, one, other) = 'found: loop {
        let later = echo(|r| r.delay = seconds(HOUR));
        for task in submit_all(&node.client, vec![later; 500]).await {
            let end = task.id[task.id.len() - 4..].to_owned();
            if let Some(one) = ends.insert(end.clone(), task.id.clone()) {
                break 'found (end, one, task.id);
            }
        }
    };
    for error in with_id(&node, &end).await {
        assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument, "AMBIGUOUS_ID"), "{error:?}");
    }
    for id in [one, other] {
        let suffix = id.replace('-', "")[8..].to_owned();
        assert_eq!(node.client.get(&suffix, false).await.unwrap().id, id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_must_be_one_of_the_list() {
    let node = InProcess::start().await;
    let tasks = submit_all(&node.client, vec![echo(|r| r.delay = seconds(HOUR)); 3]).await;
    let list = |page_size, page_token: &str, kind: &str| {
        let filter = Some(v1::TaskFilter { kind: kind.into(), ..Default::default() });
        node.client.list(v1::ListTasksRequest { page_size, page_token: page_token.into(), filter })
    };
    let token = list(1, "", "echo").await.unwrap().next_page_token;
    assert!(list(1, &token, "echo").await.is_ok());
    names(&list(1_001, "", "echo").await.unwrap_err(), "INVALID_ARGUMENT", &["page_size"]);
    for (token, kind) in [("nonsense", "echo"), ("1.2.3", "echo"), (&token, "text.generate")] {
        names(&list(1, token, kind).await.unwrap_err(), "INVALID_PAGE_TOKEN", &["page_token"]);
    }
    let states = v1::TaskFilter { states: vec![1, 0, 77], ..Default::default() };
    let wrong = v1::ListTasksRequest { filter: Some(states), ..Default::default() };
    let error = node.client.list(wrong).await.unwrap_err();
    names(&error, "INVALID_ARGUMENT", &["filter.states[1]", "filter.states[2]"]);

    node.client.cancel(&tasks[0].id).await.unwrap();
    let events = |id: &str, page_size, page_token: &str| {
        node.client.events(v1::ListTaskEventsRequest {
            id: id.into(),
            page_size,
            page_token: page_token.into(),
        })
    };
    let token = events(&tasks[0].id, 1, "").await.unwrap().next_page_token;
    assert!(!token.is_empty());
    for (id, token) in [(&tasks[0].id, "x"), (&tasks[1].id, &token)] {
        names(&events(id, 1, token).await.unwrap_err(), "INVALID_PAGE_TOKEN", &["page_token"]);
    }
    names(&events(&tasks[0].id, 1_001, "").await.unwrap_err(), "INVALID_ARGUMENT", &["page_size"]);
    let alerts = |page_size, page_token: &str| v1::ListAlertsRequest {
        page_size,
        page_token: page_token.into(),
        active_only: false,
    };
    let error = node.client.alerts(alerts(1_001, "")).await.unwrap_err();
    names(&error, "INVALID_ARGUMENT", &["page_size"]);
    let error = node.client.alerts(alerts(1, "x")).await.unwrap_err();
    names(&error, "INVALID_PAGE_TOKEN", &["page_token"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_stands_for_one_request() {
    let node = InProcess::start().await;
    let first = request("echo", r#"{"n":1}"#);
    let first = v1::SubmitTaskRequest { request_id: "order 17".into(), ..first };
    let task = node.client.submit(first.clone()).await.unwrap().task;
    for other in [
        v1::SubmitTaskRequest { input: r#"{"n":2}"#.into(), ..first.clone() },
        v1::SubmitTaskRequest { kind: "text.generate".into(), input: r#"{"prompt":"x"}"#.into(), ..first },
    ] {
        let error = node.client.submit(other).await.unwrap_err();
        let reason = error.reason.as_str();
        assert_eq!((error.code, reason), (Code::AlreadyExists, "REQUEST_ID_REUSED"), "{error:?}");
        assert_eq!(error.metadata["task_id"], task.id);
    }
    assert_eq!(stored(&node).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tasks_state_forbids_is_refused() {
    let node = InProcess::start().await;
    let running = node.submit("echo", r#"{"sleep_ms":60000}"#).await;
    node.reaches(&running.id, v1::TaskState::Running).await;
    let error = node.client.retry(&running.id, "").await.unwrap_err();
    let failed = |reason| (Code::FailedPrecondition, reason);
    assert_eq!((error.code, error.reason.as_str()), failed("TASK_NOT_ENDED"), "{error:?}");

    let done = node.run("echo", "{}").await;
    let error = node.client.cancel(&done.id).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), failed("TASK_ENDED"), "{error:?}");
    assert_eq!(node.client.get(&done.id, false).await.unwrap().state(), v1::TaskState::Succeeded);

    for key in ["k".repeat(129), "é".into()] {
        let error = node.client.retry(&done.id, &key).await.unwrap_err();
        names(&error, "INVALID_ARGUMENT", &["request_id"]);
    }
    assert_eq!(stored(&node).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_call_and_an_artifact_are_checked_too() {
    let node = InProcess::start().await;
    let wrong = v1::GenerateRequest {
        temperature: Some(2.5),
        max_tokens: Some(0),
        timeout: seconds(0),
        ..Default::default()
    };
    let error = node.client.generate(wrong).await.unwrap_err();
    names(&error, "INVALID_ARGUMENT", &["messages", "temperature", "max_tokens", "timeout"]);
    let error = node.client.artifact("sha256:abc").await.unwrap_err();
    names(&error, "INVALID_ARGUMENT", &["digest"]);
    let unknown = format!("sha256:{}", "0".repeat(64));
    let error = node.client.artifact(&unknown).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (Code::NotFound, "ARTIFACT_NOT_FOUND"), "{error:?}");
}
