//! Tasks: submit, look up, list, cancel, retry.

use crate::call::{Backoff, Repeat};
use crate::client::{ANSWER_BYTES, Client};
use crate::error::Error;
use callboard_contracts::v1::{self, task_service_client::TaskServiceClient};
use futures::Stream;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// The task.
    pub task: v1::Task,
    /// Whether it had been submitted before under the same `request_id`.
    pub existed: bool,
}

/// A new key that makes a submission idempotent: a UUIDv7.
#[must_use]
pub fn new_request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Whether a task has reached its end.
#[must_use]
pub fn is_terminal(state: v1::TaskState) -> bool {
    matches!(state, v1::TaskState::Succeeded | v1::TaskState::Failed | v1::TaskState::Cancelled)
}

pub(crate) fn service(channel: Channel) -> TaskServiceClient<Channel> {
    TaskServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES)
}

fn some(task: Option<v1::Task>) -> Result<v1::Task, Error> {
    task.ok_or_else(|| Error::malformed("the answer holds no task"))
}

impl Client {
    /// Submits a task. Without a `request_id` it gets one, so that it can be repeated after an unknown
    /// outcome.
    ///
    /// # Errors
    /// The server's refusals, or that it could not be reached in time.
    pub async fn submit(&self, mut request: v1::SubmitTaskRequest) -> Result<Submitted, Error> {
        if request.request_id.is_empty() {
            request.request_id = new_request_id();
        }
        let response = self
            .call(Repeat::Safe, request, async |channel, request| service(channel).submit_task(request).await)
            .await?;
        Ok(Submitted { task: some(response.task)?, existed: response.existed })
    }

    /// Submits up to 1,000 tasks at once, of at most 3 MiB together. The outcomes come in the order of the
    /// requests; each request without a `request_id` gets one. Those that could not be taken for now, as while the
    /// store is away, are submitted again until the timeout.
    ///
    /// # Errors
    /// That the call as a whole failed. What is wrong with one request is its own outcome.
    pub async fn submit_batch(
        &self,
        mut requests: Vec<v1::SubmitTaskRequest>,
    ) -> Result<Vec<Result<Submitted, Error>>, Error> {
        for request in &mut requests {
            if request.request_id.is_empty() {
                request.request_id = new_request_id();
            }
        }
        let began = Instant::now();
        let mut backoff = Backoff::new();
        let mut outcomes = self.submit_once(requests.clone(), self.options().timeout).await?;
        loop {
            let passing = |outcome: &Result<_, Error>| outcome.as_ref().is_err_and(Error::is_passing);
            let again: Vec<usize> = (0..outcomes.len()).filter(|i| passing(&outcomes[*i])).collect();
            let left = self.options().timeout.saturating_sub(began.elapsed());
            let pause = backoff.next();
            if again.is_empty() || pause >= left {
                return Ok(outcomes);
            }
            tokio::time::sleep(pause).await;
            let requests = again.iter().map(|i| requests[*i].clone()).collect();
            // What was refused before is as good an answer as that the call fails now.
            let Ok(told) = self.submit_once(requests, left - pause).await else { return Ok(outcomes) };
            for (i, outcome) in again.into_iter().zip(told) {
                outcomes[i] = outcome;
            }
        }
    }

    /// One call for a batch, and an outcome for each request.
    async fn submit_once(
        &self,
        requests: Vec<v1::SubmitTaskRequest>,
        within: Duration,
    ) -> Result<Vec<Result<Submitted, Error>>, Error> {
        let expected = requests.len();
        let message = v1::BatchSubmitTasksRequest { requests };
        let called = self.call_within(within, Repeat::Safe, message, async |channel, request| {
            service(channel).batch_submit_tasks(request).await
        });
        let response = called.await.result?;
        if response.outcomes.len() != expected {
            let got = response.outcomes.len();
            return Err(Error::malformed(format!("{got} outcomes came for {expected} requests")));
        }
        Ok(response.outcomes.into_iter().map(outcome).collect())
    }

    /// One task. The id may be a unique suffix. `full` adds its input and result.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`, `AMBIGUOUS_ID`, or that the server could not be reached in time.
    pub async fn get(&self, id: &str, full: bool) -> Result<v1::Task, Error> {
        let view = if full { v1::TaskView::Full } else { v1::TaskView::Basic };
        let message = v1::GetTaskRequest { id: id.to_owned(), view: view.into() };
        let response = self
            .call(Repeat::Safe, message, async |channel, request| service(channel).get_task(request).await)
            .await?;
        some(response.task)
    }

    /// One page of tasks, newest first.
    ///
    /// # Errors
    /// The server's refusals, or that it could not be reached in time.
    pub async fn list(&self, request: v1::ListTasksRequest) -> Result<v1::ListTasksResponse, Error> {
        self.call(Repeat::Safe, request, async |channel, request| service(channel).list_tasks(request).await)
            .await
    }

    /// All tasks that fit a filter, newest first, page by page. It ends after an error.
    pub fn list_all(
        &self,
        filter: v1::TaskFilter,
    ) -> impl Stream<Item = Result<v1::Task, Error>> + Send + use<> {
        let request =
            v1::ListTasksRequest { page_size: 200, page_token: String::new(), filter: Some(filter) };
        let client = self.clone();
        pages(request, move |mut request, token| {
            let client = client.clone();
            async move {
                request.page_token = token;
                let page = client.list(request).await?;
                Ok((page.tasks, page.next_page_token))
            }
        })
    }

    /// Cancels a task: a waiting one is CANCELLED at once, a running one has `cancel_requested` set.
    ///
    /// # Errors
    /// `TASK_ENDED`, `TASK_NOT_FOUND`, `AMBIGUOUS_ID`, or that the server could not be reached in time.
    pub async fn cancel(&self, id: &str) -> Result<v1::Task, Error> {
        let message = v1::CancelTaskRequest { id: id.to_owned() };
        let outcome = self
            .call_within(self.options().timeout, Repeat::Safe, message, async |channel, request| {
                service(channel).cancel_task(request).await
            })
            .await;
        match outcome.result {
            Ok(response) => some(response.task),
            // An earlier attempt, whose answer was lost, may be what ended it.
            Err(error) if outcome.ambiguous && error.reason == "TASK_ENDED" => {
                let task = self.get(id, false).await?;
                if task.state() == v1::TaskState::Cancelled { Ok(task) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Submits a new task with the input of one that has ended. An empty `request_id` is filled in.
    ///
    /// # Errors
    /// `TASK_NOT_ENDED`, `TASK_NOT_FOUND`, `AMBIGUOUS_ID`, or that the server could not be reached in time.
    pub async fn retry(&self, id: &str, request_id: &str) -> Result<v1::Task, Error> {
        let request_id = if request_id.is_empty() { new_request_id() } else { request_id.to_owned() };
        let message = v1::RetryTaskRequest { id: id.to_owned(), request_id };
        let response = self
            .call(Repeat::Safe, message, async |channel, request| service(channel).retry_task(request).await)
            .await?;
        some(response.task)
    }

    /// One page of a task's events, oldest first.
    ///
    /// # Errors
    /// `TASK_NOT_FOUND`, `AMBIGUOUS_ID`, or that the server could not be reached in time.
    pub async fn events(
        &self,
        request: v1::ListTaskEventsRequest,
    ) -> Result<v1::ListTaskEventsResponse, Error> {
        self.call(Repeat::Safe, request, async |channel, request| {
            service(channel).list_task_events(request).await
        })
        .await
    }

    /// All events of a task, oldest first, page by page. It ends after an error.
    pub fn events_all(&self, id: &str) -> impl Stream<Item = Result<v1::TaskEvent, Error>> + Send + use<> {
        let request =
            v1::ListTaskEventsRequest { id: id.to_owned(), page_size: 500, page_token: String::new() };
        let client = self.clone();
        pages(request, move |mut request, token| {
            let client = client.clone();
            async move {
                request.page_token = token;
                let page = client.events(request).await?;
                Ok((page.events, page.next_page_token))
            }
        })
    }
}

fn outcome(outcome: v1::BatchSubmitTasksOutcome) -> Result<Submitted, Error> {
    use v1::batch_submit_tasks_outcome::Outcome;
    match outcome.outcome {
        Some(Outcome::Task(task)) => Ok(Submitted { task, existed: outcome.existed }),
        Some(Outcome::Error(error)) => Err(error.into()),
        None => Err(Error { code: Code::Internal, ..Error::malformed("an outcome of the batch is empty") }),
    }
}

/// The items of all pages, one after the other.
fn pages<Q, T, F, R>(request: Q, fetch: F) -> impl Stream<Item = Result<T, Error>> + Send
where
    Q: Clone + Send + 'static,
    T: Send + 'static,
    F: Fn(Q, String) -> R + Send + 'static,
    R: Future<Output = Result<(Vec<T>, String), Error>> + Send,
{
    // The state is the items at hand and the token of the next page, if there is one.
    let start = (Vec::new().into_iter(), Some(String::new()), request, fetch);
    futures::stream::try_unfold(start, |(mut items, mut next, request, fetch)| async move {
        loop {
            if let Some(item) = items.next() {
                return Ok(Some((item, (items, next, request, fetch))));
            }
            let Some(token) = next else { return Ok(None) };
            let (page, following): (Vec<T>, _) = fetch(request.clone(), token).await?;
            items = page.into_iter();
            next = (!following.is_empty()).then_some(following);
        }
    })
}
