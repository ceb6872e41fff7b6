//! The commands as processes, against nobody and against a node that is played.

use callboard_client::v1::{self, task_service_server::TaskService, task_service_server::TaskServiceServer};
use futures::stream::{BoxStream, StreamExt};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

const ID: &str = "01939e2c-7e10-7cc3-98c4-dc0c0c07398f";

/// Plays a node. A task whose kind is `bad` fails.
#[derive(Default)]
struct Played {
    submitted: Mutex<Vec<v1::SubmitTaskRequest>>,
}

fn task(state: v1::TaskState) -> v1::Task {
    let error = (state == v1::TaskState::Failed).then(|| v1::TaskError {
        reason: "HANDLER_PANICKED".into(),
        message: "it was asked to".into(),
        retryable: false,
    });
    v1::Task {
        id: ID.into(),
        kind: "echo".into(),
        state: state.into(),
        last_seq: 2,
        error,
        ..Default::default()
    }
}

fn refused(code: Code, reason: &str, message: &str) -> Status {
    let metadata = std::collections::HashMap::new();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, "callboard", metadata))
}

impl Played {
    fn end(&self) -> v1::TaskState {
        let bad = self.submitted.lock().unwrap().iter().any(|r| r.kind == "bad");
        if bad { v1::TaskState::Failed } else { v1::TaskState::Succeeded }
    }
}

#[tonic::async_trait]
impl TaskService for Played {
    async fn submit_task(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::SubmitTaskResponse>, Status> {
        let request = request.into_inner();
        if request.kind == "no.such" {
            let mut details = ErrorDetails::new();
            details.set_error_info("UNKNOWN_KIND", "callboard", std::collections::HashMap::new());
            details.add_bad_request_violation("kind", "`no.such` is unknown");
            return Err(Status::with_error_details(Code::InvalidArgument, "no such kind", details));
        }
        self.submitted.lock().unwrap().push(request);
        let task = Some(task(v1::TaskState::Queued));
        Ok(Response::new(v1::SubmitTaskResponse { task, existed: false }))
    }

    async fn batch_submit_tasks(
        &self,
        request: Request<v1::BatchSubmitTasksRequest>,
    ) -> Result<Response<v1::BatchSubmitTasksResponse>, Status> {
        use v1::batch_submit_tasks_outcome::Outcome;
        let requests = request.into_inner().requests;
        let outcomes = requests.iter().map(|r| {
            let outcome = match r.input.as_ref() {
                b"{\"no\":1}" => {
                    let field =
                        v1::FieldViolation { field: "input.no".into(), description: "is unknown".into() };
                    Outcome::Error(v1::SubmitError {
                        code: 3,
                        field_violations: vec![field],
                        ..Default::default()
                    })
                }
                _ => Outcome::Task(task(v1::TaskState::Queued)),
            };
            v1::BatchSubmitTasksOutcome { outcome: Some(outcome), existed: false }
        });
        let outcomes = outcomes.collect();
        self.submitted.lock().unwrap().extend(requests);
        Ok(Response::new(v1::BatchSubmitTasksResponse { outcomes }))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        match request.into_inner().id.as_str() {
            ID | "0c07398f" => {
                let result = b"{\"text\":\"tea\",\"n\":1.50}"[..].into();
                let task = v1::Task { result, ..task(self.end()) };
                Ok(Response::new(v1::GetTaskResponse { task: Some(task) }))
            }
            _ => Err(refused(Code::NotFound, "TASK_NOT_FOUND", "no task has that id")),
        }
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let count = request.into_inner().page_size as usize;
        let tasks = vec![task(v1::TaskState::Running); count];
        Ok(Response::new(v1::ListTasksResponse { tasks, next_page_token: "more".into() }))
    }

    type WatchTaskStream = BoxStream<'static, Result<v1::WatchTaskResponse, Status>>;

    async fn watch_task(
        &self,
        request: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let request = request.into_inner();
        let at = |task| v1::WatchTaskResponse { task: Some(task), event: None };
        if request.id == "dead" {
            // Never ends.
            let first = at(task(v1::TaskState::Running));
            let updates = futures::stream::iter([Ok(first)]).chain(futures::stream::pending());
            return Ok(Response::new(updates.boxed()));
        }
        let event = |seq, kind: v1::TaskEventType, state: v1::TaskState| v1::WatchTaskResponse {
            task: None,
            event: Some(v1::TaskEvent {
                seq,
                r#type: kind.into(),
                state: state.into(),
                ..Default::default()
            }),
        };
        let mut updates = vec![at(task(v1::TaskState::Running))];
        if request.after_seq == Some(0) {
            updates.push(event(1, v1::TaskEventType::Submitted, v1::TaskState::Queued));
            updates.push(event(2, v1::TaskEventType::Claimed, v1::TaskState::Running));
        }
        updates.push(at(task(self.end())));
        Ok(Response::new(futures::stream::iter(updates.into_iter().map(Ok)).boxed()))
    }

    async fn cancel_task(
        &self,
        _: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::CancelTaskResponse>, Status> {
        Err(refused(Code::FailedPrecondition, "TASK_ENDED", "the task has ended"))
    }

    async fn retry_task(
        &self,
        _: Request<v1::RetryTaskRequest>,
    ) -> Result<Response<v1::RetryTaskResponse>, Status> {
        Ok(Response::new(v1::RetryTaskResponse { task: Some(task(v1::TaskState::Queued)) }))
    }

    async fn list_task_events(
        &self,
        _: Request<v1::ListTaskEventsRequest>,
    ) -> Result<Response<v1::ListTaskEventsResponse>, Status> {
        Ok(Response::new(v1::ListTaskEventsResponse::default()))
    }
}

/// A played node on a runtime of its own. Dropping it ends it.
struct Node {
    played: Arc<Played>,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn node() -> Node {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let played = Arc::new(Played::default());
    let service = TaskServiceServer::from_arc(Arc::clone(&played));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    drop(runtime.handle().spawn(server));
    Node { played, address, _runtime: runtime }
}

fn command(address: &SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    command.args(args).env("CALLBOARD_ADDR", address.to_string()).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Node {
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        parts(command(&self.address, args).output().unwrap())
    }

    fn run_with(&self, args: &[&str], input: &str) -> (i32, String, String) {
        let mut child = command(&self.address, args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        parts(child.wait_with_output().unwrap())
    }
}

fn parts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn without_a_node_it_says_how_to_start_one() {
    let address = nowhere();
    let (code, stdout, stderr) = parts(command(&address, &["list"]).output().unwrap());
    assert_eq!((code, stdout.as_str()), (4, ""));
    assert!(stderr.contains(&format!("error: cannot reach {address}: connection refused")), "{stderr}");
    assert!(stderr.contains("is a node running? start one with `"), "{stderr}");
    assert!(stderr.contains(" up`"), "{stderr}");
}

#[test]
fn wrong_usage_is_told_before_anything_is_asked() {
    let nobody = nowhere();
    for args in [
        &["list", "--state", "sleeping"][..],
        &["submit", "echo", "--input", "{"],
        &["submit", "echo", "--input", "@no-such-file"],
        &["list", "--output", "table.txt"],
        &["list", "--addr", "https://x:1"],
        &["nonsense"],
    ] {
        let (code, _, stderr) = parts(command(&nobody, args).output().unwrap());
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.starts_with("error:"), "{stderr}");
    }
}

#[test]
fn a_task_is_submitted_and_waited_for() {
    let node = node();
    let (code, stdout, stderr) = node.run(&["submit", "echo", "--input", "{\"a\":1.50}", "--delay", "1h30m"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout, format!("submitted 0c07398f ({ID}), queued\n"));
    {
        let submitted = node.played.submitted.lock().unwrap();
        assert_eq!(&submitted[0].input[..], b"{\"a\":1.50}");
        assert_eq!(submitted[0].delay.unwrap().seconds, 5_400);
        assert!(!submitted[0].request_id.is_empty());
    }
    let (code, stdout, _) = node.run_with(&["submit", "echo", "--wait"], " {\"from\":\"stdin\"}\n");
    assert_eq!((code, stdout.as_str()), (0, "{\n  \"text\": \"tea\",\n  \"n\": 1.50\n}\n"));
    assert_eq!(&node.played.submitted.lock().unwrap()[1].input[..], b"{\"from\":\"stdin\"}");
}

#[test]
fn a_task_that_fails_is_exit_code_one() {
    let node = node();
    let (code, stdout, stderr) = node.run(&["submit", "bad", "--wait"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr, "error: task 0c07398f failed: HANDLER_PANICKED: it was asked to\n");
}

#[test]
fn refusals_have_their_exit_codes_and_advice() {
    let node = node();
    let (code, _, stderr) = node.run(&["submit", "no.such"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("\n  kind: `no.such` is unknown\n"), "{stderr}");
    assert!(stderr.contains("kinds` lists the kinds that exist"), "{stderr}");
    let (code, _, stderr) = node.run(&["get", "ffff"]);
    assert_eq!(code, 3);
    assert!(stderr.starts_with("error: no task has that id\n"), "{stderr}");
    let (code, _, stderr) = node.run(&["cancel", "0c07398f"]);
    assert_eq!((code, stderr.lines().next()), (5, Some("error: the task has ended")));
}

#[test]
fn a_watch_prints_each_event_on_its_line() {
    let node = node();
    let (code, stdout, _) = node.run(&["watch", "0c07398f", "--from-start", "--output", "json"]);
    let lines: Vec<serde_json::Value> = stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(code, 0);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["task"]["state"], "running");
    assert_eq!((&lines[1]["event"]["seq"], &lines[2]["event"]["type"]), (&1.into(), &"claimed".into()));
    assert_eq!(lines[3]["task"]["state"], "succeeded");
    let (_, stdout, _) = node.run(&["watch", "0c07398f", "--from-start"]);
    assert!(stdout.lines().nth(1).unwrap().trim_end().ends_with("claimed"), "{stdout}");
    assert!(stdout.ends_with("task 0c07398f succeeded\n"), "{stdout}");
}

#[test]
fn a_batch_tells_which_lines_are_wrong() {
    let node = node();
    let lines = "{\"a\":1}\n\nnonsense\n{\"no\":1}\n{\"a\":2}\n";
    let (code, stdout, stderr) =
        node.run_with(&["submit", "echo", "--batch", "-", "--request-id", "job"], lines);
    assert_eq!((code, stdout.as_str()), (1, "submitted 2 of 4 tasks\n"));
    assert!(stderr.contains("line 3: no JSON"), "{stderr}");
    assert!(stderr.contains("line 4: input.no: is unknown\n"), "{stderr}");
    assert!(stderr.ends_with("error: 2 lines could not be submitted\n"), "{stderr}");
    let ids: Vec<_> = node.played.submitted.lock().unwrap().iter().map(|r| r.request_id.clone()).collect();
    assert_eq!(ids, ["job/1", "job/4", "job/5"]);

    let own = "{\"kind\":\"echo\",\"input\":{\"a\":1}}\n{\"kind\":\"echo\",\"prio\":1}\n";
    let (code, stdout, _) = node.run_with(&["submit", "--batch", "-", "--output", "json"], own);
    let lines: Vec<serde_json::Value> = stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(code, 1);
    // The second line is known to be wrong before the first is sent.
    assert_eq!((&lines[0]["line"], &lines[0]["error"]["reason"]), (&2.into(), &"UNREADABLE_LINE".into()));
    assert_eq!((&lines[1]["line"], &lines[1]["id"]), (&1.into(), &ID.into()));
}

#[test]
fn a_result_is_written_to_a_file_or_as_it_is() {
    let node = node();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    let (code, stdout, stderr) = node.run(&["result", "0c07398f", "--output", path.to_str().unwrap()]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert_eq!(std::fs::read(&path).unwrap(), b"{\"text\":\"tea\",\"n\":1.50}");
    let (_, stdout, _) = node.run(&["result", "0c07398f"]);
    assert_eq!(stdout, "{\"text\":\"tea\",\"n\":1.50}\n");
}

#[test]
fn a_list_goes_over_pages_and_ends_at_its_limit() {
    let node = node();
    let (code, stdout, _) = node.run(&["list", "--limit", "700", "--output", "json"]);
    let list: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, list["tasks"].as_array().unwrap().len()), (0, 700));
    assert_eq!(list["next_page_token"], "more");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let node = node();
    for args in [&["list", "--limit", "20000"][..], &["completions", "bash"]] {
        let mut child = command(&node.address, args).spawn().unwrap();
        drop(child.stdout.take());
        let (code, _, stderr) = parts(child.wait_with_output().unwrap());
        assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn a_wait_that_runs_out_says_that_the_task_goes_on() {
    let node = node();
    let (code, _, stderr) = node.run(&["wait", "dead", "--timeout", "200ms"]);
    assert_eq!(code, 124);
    assert!(stderr.contains("has not ended within 200 ms; it goes on"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_wait_says_how_to_come_back() {
    use std::io::{BufRead, BufReader};
    let node = node();
    let mut child = command(&node.address, &["watch", "dead", "--output", "json"]).spawn().unwrap();
    // Once the first state is printed, the task is known.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("running"), "{line}");
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let (code, _, stderr) = parts(child.wait_with_output().unwrap());
    assert_eq!(code, 130);
    assert!(stderr.contains("task 0c07398f goes on; come back with `"), "{stderr}");
    assert!(stderr.contains(" watch 0c07398f`"), "{stderr}");
}
