//! `TaskService`.

use super::admission::request_id_violation;
use super::cause::of_tasks;
use super::{Api, errors, reads, watch};
use callboard_contracts::mesh;
use callboard_contracts::v1::task_service_server::TaskService;
use callboard_contracts::v1::{self, batch_submit_tasks_outcome::Outcome};
use callboard_domain::convert::task_to_proto;
use callboard_domain::{Code, Error, TaskId, limits};
use callboard_ports::store::{Admitted, Cancelled};
use futures::stream::BoxStream;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How long the owner of a task may take to hear of a cancel. The store has it; this is for speed.
const CANCEL_DEADLINE: Duration = Duration::from_secs(1);

fn no_outcome() -> Error {
    Error::new(Code::Internal, "admission gave no outcome")
}

#[tonic::async_trait]
impl TaskService for Api {
    type WatchTaskStream = BoxStream<'static, Result<v1::WatchTaskResponse, Status>>;

    async fn submit_task(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::SubmitTaskResponse>, Status> {
        let cause = of_tasks(&request, false);
        let mut outcomes = self.admission.admit(vec![request.into_inner()], cause).await;
        let Admitted { task, existed } = outcomes.pop().ok_or_else(no_outcome)??;
        Ok(Response::new(v1::SubmitTaskResponse { task: Some(task_to_proto(&task)), existed }))
    }

    async fn batch_submit_tasks(
        &self,
        request: Request<v1::BatchSubmitTasksRequest>,
    ) -> Result<Response<v1::BatchSubmitTasksResponse>, Status> {
        let cause = of_tasks(&request, true);
        let requests = request.into_inner().requests;
        let bytes: usize = requests.iter().map(|r| r.input.len()).sum();
        if requests.len() > limits::BATCH_TASKS || bytes > limits::BATCH_BYTES {
            let (tasks, most) = (limits::BATCH_TASKS, limits::BATCH_BYTES);
            let (n, what) =
                (requests.len(), format!("must be at most {tasks} tasks of at most {most} bytes together"));
            let description = format!("{what}, not {n} of {bytes}: split the batch");
            return Err(Error::field(Code::InvalidArgument, "requests", description).into());
        }
        let outcomes = self.admission.admit(requests, cause).await;
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Ok(Admitted { task, existed }) => v1::BatchSubmitTasksOutcome {
                    outcome: Some(Outcome::Task(task_to_proto(&task))),
                    existed,
                },
                Err(error) => v1::BatchSubmitTasksOutcome {
                    outcome: Some(Outcome::Error(submit_error(error))),
                    existed: false,
                },
            })
            .collect();
        Ok(Response::new(v1::BatchSubmitTasksResponse { outcomes }))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        let request = request.into_inner();
        let id = self.resolve(&request.id).await?;
        let full = request.view() == v1::TaskView::Full;
        let task = reads::task(&*self.deps.store, id, full).await?;
        Ok(Response::new(v1::GetTaskResponse { task: Some(task) }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        Ok(Response::new(reads::list(&*self.deps.store, request.into_inner()).await?))
    }

    async fn watch_task(
        &self,
        request: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let request = request.into_inner();
        let id = self.resolve(&request.id).await?;
        Ok(Response::new(watch::stream(&self.deps, id, request.after_seq).await?))
    }

    async fn cancel_task(
        &self,
        request: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::CancelTaskResponse>, Status> {
        let named = request.into_inner().id;
        let id = self.resolve(&named).await?;
        let cancelled = self.deps.store.cancel(id).await.map_err(|e| errors::about_task(e, &named))?;
        self.tell_owner(id, &cancelled).await;
        let task = cancelled.task;
        let state = task.life.state;
        if state.is_terminal() && state != callboard_domain::State::Cancelled {
            let message = format!("task {id} has ended: it {} and cannot be cancelled", past(state));
            return Err(Error::new(Code::TaskEnded, message).with("id", id.to_string()).into());
        }
        Ok(Response::new(v1::CancelTaskResponse { task: Some(task_to_proto(&task)) }))
    }

    async fn retry_task(
        &self,
        request: Request<v1::RetryTaskRequest>,
    ) -> Result<Response<v1::RetryTaskResponse>, Status> {
        let cause = of_tasks(&request, false);
        let request = request.into_inner();
        if let Some(violation) = request_id_violation(&request.request_id) {
            return Err(Error::invalid(vec![violation]).into());
        }
        let id = self.resolve(&request.id).await?;
        let old = self.deps.store.get_full(id).await.map_err(|e| errors::about_task(e, &request.id))?;
        if !old.task.life.state.is_terminal() {
            let message = format!("task {id} has not ended: `callboard cancel {}` ends it", id.short());
            return Err(Error::new(Code::TaskNotEnded, message).with("id", id.to_string()).into());
        }
        let request_id = (!request.request_id.is_empty()).then(|| request.request_id.as_str().into());
        let admitted = self.admission.admit_again(&old.task.spec, old.input, request_id, cause).await?;
        Ok(Response::new(v1::RetryTaskResponse { task: Some(task_to_proto(&admitted.task)) }))
    }

    async fn list_task_events(
        &self,
        request: Request<v1::ListTaskEventsRequest>,
    ) -> Result<Response<v1::ListTaskEventsResponse>, Status> {
        let request = request.into_inner();
        let id = self.resolve(&request.id).await?;
        Ok(Response::new(reads::events(&*self.deps.store, id, &request).await?))
    }
}

impl Api {
    /// Passes a cancel on to the worker that runs the task. If that fails, the worker sees it in the store.
    async fn tell_owner(&self, id: TaskId, cancelled: &Cancelled) {
        let Some(session) = cancelled.running_under else { return };
        let fence = mesh::v1::Fence {
            session_id: session.to_string(),
            task_id: id.to_string(),
            attempt: cancelled.task.life.attempt,
        };
        let request = mesh::v1::CancelTasksRequest { context: None, tasks: vec![fence] };
        let Some(worker) = (self.deps.workers)(session) else { return };
        if let Err(error) = worker.cancel_tasks(request, CANCEL_DEADLINE).await {
            tracing::warn!(%error, task.id = %id, "cannot pass a cancel on to the worker");
        }
    }
}

fn past(state: callboard_domain::State) -> &'static str {
    if state == callboard_domain::State::Succeeded { "succeeded" } else { "failed" }
}

fn submit_error(error: Error) -> v1::SubmitError {
    let error = error.bounded();
    v1::SubmitError {
        code: i32::from(error.code.grpc()),
        reason: error.code.reason().into(),
        message: error.message,
        field_violations: error
            .violations
            .into_iter()
            .map(|v| v1::FieldViolation { field: v.field, description: v.description })
            .collect(),
    }
}
