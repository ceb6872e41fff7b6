//! A scripted node: a real gRPC server on a runtime of its own, so that dropping the runtime closes its
//! sockets as a kill does.

use callboard_client::v1::{self, task_service_server::TaskService, task_service_server::TaskServiceServer};
use futures::stream::{BoxStream, StreamExt};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tonic::{Request, Response, Status};

/// What a scripted node does; every call it gets is written down.
#[derive(Default)]
pub(crate) struct Script {
    /// Refuses the next submissions, last first.
    pub(crate) submit_errors: Mutex<Vec<Status>>,
    /// Refuses the next requests of batches, last first.
    pub(crate) item_errors: Mutex<Vec<v1::SubmitError>>,
    /// Refuses the next cancels, last first.
    pub(crate) cancel_errors: Mutex<Vec<Status>>,
    /// Never answers a submission.
    pub(crate) hang: bool,
    /// How many events the watched task has.
    pub(crate) events: u64,
    /// Watches stop after the event of this seq: hang, or end.
    pub(crate) stop: Option<(u64, Stop)>,
    /// Events that watches leave out, once.
    pub(crate) left_out: Mutex<Vec<u64>>,
    pub(crate) submitted: Mutex<Vec<v1::SubmitTaskRequest>>,
    pub(crate) watched: Mutex<Vec<v1::WatchTaskRequest>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stop {
    Hang,
    End,
}

pub(crate) const ID: &str = "01939e2c-7e10-7cc3-98c4-dc0c0c07398f";

pub(crate) fn task(state: v1::TaskState, last_seq: u64) -> v1::Task {
    v1::Task { id: ID.to_owned(), state: state.into(), last_seq, ..Default::default() }
}

#[tonic::async_trait]
impl TaskService for Script {
    async fn submit_task(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::SubmitTaskResponse>, Status> {
        let request = request.into_inner();
        let existed = self.submitted.lock().unwrap().iter().any(|r| r.request_id == request.request_id);
        self.submitted.lock().unwrap().push(request);
        if self.hang {
            std::future::pending::<()>().await;
        }
        if let Some(error) = self.submit_errors.lock().unwrap().pop() {
            return Err(error);
        }
        Ok(Response::new(v1::SubmitTaskResponse { task: Some(task(v1::TaskState::Queued, 1)), existed }))
    }

    async fn batch_submit_tasks(
        &self,
        request: Request<v1::BatchSubmitTasksRequest>,
    ) -> Result<Response<v1::BatchSubmitTasksResponse>, Status> {
        use v1::batch_submit_tasks_outcome::Outcome;
        let outcomes = request.into_inner().requests.into_iter().map(|r| {
            assert!(!r.request_id.is_empty());
            let outcome = if let Some(error) = self.item_errors.lock().unwrap().pop() {
                Outcome::Error(error)
            } else if r.kind == "no.such" {
                let violation = v1::FieldViolation { field: "kind".into(), description: "is unknown".into() };
                Outcome::Error(v1::SubmitError {
                    code: 3,
                    reason: "UNKNOWN_KIND".into(),
                    message: "no such kind".into(),
                    field_violations: vec![violation],
                })
            } else {
                Outcome::Task(task(v1::TaskState::Queued, 1))
            };
            v1::BatchSubmitTasksOutcome { outcome: Some(outcome), existed: false }
        });
        Ok(Response::new(v1::BatchSubmitTasksResponse { outcomes: outcomes.collect() }))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        let full = request.into_inner().view() == v1::TaskView::Full;
        let state = if self.events == 0 { v1::TaskState::Cancelled } else { v1::TaskState::Succeeded };
        let mut task = task(state, self.events);
        if full {
            task.result = b"{\"text\":\"hello\"}"[..].into();
        }
        Ok(Response::new(v1::GetTaskResponse { task: Some(task) }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        // Three pages, the second of them empty: only an empty token is the end.
        let (count, next) = match request.into_inner().page_token.as_str() {
            "" => (2, "second"),
            "second" => (0, "third"),
            "third" => (1, ""),
            _ => return Err(Status::invalid_argument("no such page")),
        };
        let tasks = vec![task(v1::TaskState::Queued, 1); count];
        Ok(Response::new(v1::ListTasksResponse { tasks, next_page_token: next.to_owned() }))
    }

    type WatchTaskStream = BoxStream<'static, Result<v1::WatchTaskResponse, Status>>;

    async fn watch_task(
        &self,
        request: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let request = request.into_inner();
        self.watched.lock().unwrap().push(request.clone());
        let last = self.events;
        let (until, stop) = self.stop.map_or((last, None), |(until, stop)| (until, Some(stop)));
        let left_out = std::mem::take(&mut *self.left_out.lock().unwrap());
        let at = |state, seq| v1::WatchTaskResponse { task: Some(task(state, seq)), event: None };
        let mut messages = vec![at(v1::TaskState::Running, until)];
        for seq in request.after_seq.unwrap_or(0) + 1..=until {
            let event = v1::TaskEvent { seq, ..Default::default() };
            if !left_out.contains(&seq) {
                messages.push(v1::WatchTaskResponse { task: None, event: Some(event) });
            }
        }
        if stop.is_none() {
            messages.push(at(v1::TaskState::Succeeded, last));
        }
        let messages = futures::stream::iter(messages.into_iter().map(Ok));
        Ok(Response::new(match stop {
            Some(Stop::Hang) => messages.chain(futures::stream::pending()).boxed(),
            _ => messages.boxed(),
        }))
    }

    async fn cancel_task(
        &self,
        _: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::CancelTaskResponse>, Status> {
        match self.cancel_errors.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => {
                Ok(Response::new(v1::CancelTaskResponse { task: Some(task(v1::TaskState::Cancelled, 2)) }))
            }
        }
    }

    async fn retry_task(
        &self,
        _: Request<v1::RetryTaskRequest>,
    ) -> Result<Response<v1::RetryTaskResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_task_events(
        &self,
        _: Request<v1::ListTaskEventsRequest>,
    ) -> Result<Response<v1::ListTaskEventsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// A running node. Dropping it kills it.
pub(crate) struct Node {
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Script>,
}

impl Node {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script)
    }

    pub(crate) fn start_at(address: SocketAddr, script: Script) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let script = Arc::new(script);
        let service = TaskServiceServer::from_arc(Arc::clone(&script));
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        };
        // Its owner is the runtime, which ends it.
        drop(runtime.handle().spawn(serve));
        Self { runtime: Some(runtime), address, script }
    }

    /// Closes every socket at once.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.stop();
        self.address
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits for the worker, so that the port is free afterwards.
            std::thread::spawn(move || runtime.shutdown_timeout(std::time::Duration::from_secs(5)))
                .join()
                .unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address where nothing listens.
pub(crate) fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
