//! A store of which only the claim is real, and a hand-off.

use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::alert::Alert;
use callboard_domain::llm::{self, ErrorKind, ImageRequest, ImageResponse, TextRequest, TextResponse};
use callboard_domain::{ArtifactDigest, Attempt, Event, KindSpec, NewTask, SessionId, Task, TaskId};
use callboard_ports::alerts::AlertStore;
use callboard_ports::handoff::{self, Consumer, Delivery, Handoff, Queues, Ready, Want};
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session, SessionStore};
use callboard_ports::store::{
    Admitted, Cancelled, Claim, ClaimRequest, CommitObserver, Error, Fenced, Filter, Finish, FullTask,
    ProgressReport, QueueDepth, Released, Started, Store, TaskReader, TaskStore,
};
use callboard_sdk::{ArtifactSink, Failure, Llm};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

type Answer = Result<Vec<Claim>, Error>;

/// A claim that waits for its answer.
pub(crate) struct Asked {
    /// What it would take.
    pub(crate) take: Vec<TaskId>,
    pub(crate) answering: oneshot::Sender<Answer>,
}

/// A store that answers claims when the test says so.
pub(crate) struct Slow(pub(crate) mpsc::UnboundedSender<Asked>);

fn none<T>() -> Result<T, Error> {
    Err(Error::Unavailable("not in this test".into()))
}

#[async_trait]
impl TaskStore for Slow {
    async fn admit(&self, batch: Vec<NewTask>) -> Vec<Result<Admitted, Error>> {
        batch.iter().map(|_| none()).collect()
    }

    async fn claim(&self, request: ClaimRequest) -> Answer {
        let (answering, answer) = oneshot::channel();
        let asked = Asked { take: request.take, answering };
        // A test that has ended answers nothing.
        if self.0.send(asked).is_err() { none() } else { answer.await.unwrap_or_else(|_| none()) }
    }

    async fn start(&self, _: SessionId, _: Vec<Started>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn progress(&self, _: SessionId, _: Vec<ProgressReport>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn finish(&self, _: SessionId, _: Vec<Finish>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn give_back(&self, _: SessionId, _: Vec<Attempt>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn cancel(&self, _: TaskId) -> Result<Cancelled, Error> {
        none()
    }

    async fn release_due(&self, _: usize) -> Result<Released, Error> {
        none()
    }

    async fn register_kinds(&self, _: Vec<KindSpec>) -> Result<(), Error> {
        none()
    }
}

#[async_trait]
impl TaskReader for Slow {
    async fn get(&self, _: Vec<TaskId>) -> Result<Vec<Task>, Error> {
        none()
    }

    async fn get_full(&self, _: TaskId) -> Result<FullTask, Error> {
        none()
    }

    async fn find(&self, _: &str) -> Result<TaskId, Error> {
        none()
    }

    async fn list(&self, _: Filter, _: Option<TaskId>, _: usize) -> Result<Vec<Task>, Error> {
        none()
    }

    async fn events(&self, _: TaskId, _: u64, _: usize) -> Result<Vec<Event>, Error> {
        none()
    }

    async fn counts(&self) -> Result<[u64; 6], Error> {
        none()
    }

    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, Error> {
        none()
    }

    async fn queued(&self, _: &[Arc<str>], _: usize) -> Result<Vec<Ready>, Error> {
        none()
    }

    async fn held_by(&self, _: SessionId) -> Result<Vec<Attempt>, Error> {
        none()
    }

    async fn kinds(&self) -> Result<Vec<KindSpec>, Error> {
        none()
    }
}

#[async_trait]
impl SessionStore for Slow {
    async fn open_session(&self, _: NewSession) -> Result<(), Error> {
        none()
    }

    async fn renew_session(&self, _: SessionId) -> Result<Vec<TaskId>, Error> {
        none()
    }

    async fn end_session(&self, _: SessionId, _: &str) -> Result<EndedSession, Error> {
        none()
    }

    async fn accuse(&self, _: Accusation) -> Result<Option<EndedSession>, Error> {
        none()
    }

    async fn recover_orphans(&self, _: usize) -> Result<usize, Error> {
        none()
    }

    async fn live_sessions(&self) -> Result<Vec<Session>, Error> {
        none()
    }
}

#[async_trait]
impl AlertStore for Slow {
    async fn save_alerts(&self, _: Vec<Alert>) -> Result<(), Error> {
        none()
    }

    async fn open_alerts(&self) -> Result<Vec<Alert>, Error> {
        none()
    }

    async fn list_alerts(&self, _: bool, _: Option<String>, _: usize) -> Result<Vec<Alert>, Error> {
        none()
    }
}

impl Store for Slow {
    fn observe(&self, _: Arc<dyn CommitObserver>) {}
}

/// A hand-off of what the test delivers; also the tools of handlers, of which there are none.
pub(crate) struct Channel(Mutex<Option<mpsc::UnboundedReceiver<Delivery>>>);

impl Channel {
    pub(crate) fn new(deliveries: mpsc::UnboundedReceiver<Delivery>) -> Self {
        Self(Mutex::new(Some(deliveries)))
    }
}

struct Deliveries(mpsc::UnboundedReceiver<Delivery>);

#[async_trait]
impl Consumer for Deliveries {
    async fn next(&mut self, _: Want) -> Result<Delivery, handoff::Error> {
        self.0.recv().await.ok_or(handoff::Error::Closed)
    }
}

#[async_trait]
impl Handoff for Channel {
    async fn publish(&self, batch: Vec<Ready>) -> Vec<Result<(), handoff::Error>> {
        batch.iter().map(|_| Err(handoff::Error::Closed)).collect()
    }

    async fn consume(&self, _: Queues) -> Result<Box<dyn Consumer>, handoff::Error> {
        let deliveries = self.0.lock().unwrap().take().ok_or(handoff::Error::Closed)?;
        Ok(Box::new(Deliveries(deliveries)))
    }
}

#[async_trait]
impl Llm for Channel {
    async fn text(&self, _: TextRequest) -> Result<TextResponse, llm::Error> {
        Err(llm::Error::new(ErrorKind::Connection, "there is no model"))
    }

    async fn image(&self, _: ImageRequest) -> Result<ImageResponse, llm::Error> {
        Err(llm::Error::new(ErrorKind::Connection, "there is no model"))
    }
}

#[async_trait]
impl ArtifactSink for Channel {
    async fn put(&self, _: Bytes, _: &str) -> Result<ArtifactDigest, Failure> {
        Err(Failure::retryable("there is no shelf"))
    }
}
