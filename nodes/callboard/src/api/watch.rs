//! Watch streams: the current state, every event, the final state. Events come from the hub as they are
//! committed; the store is read only for what came before, and for a gap.

use super::{Deps, errors};
use callboard_contracts::v1::WatchTaskResponse;
use callboard_domain::convert::{event_to_proto, task_to_proto};
use callboard_domain::{Code, Error, Event, Task, TaskId};
use callboard_ports::Store;
use callboard_ports::store;
use callboard_runtime::watch::Subscription;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages that wait for the client beside those of the hub.
const BUFFER: usize = 16;
/// Events read at once.
const PAGE: usize = 500;

type Sender = mpsc::Sender<Result<WatchTaskResponse, Status>>;

/// Opens a watch.
pub(super) async fn stream(
    deps: &Arc<Deps>,
    id: TaskId,
    after_seq: Option<u64>,
) -> Result<BoxStream<'static, Result<WatchTaskResponse, Status>>, Error> {
    // Before the read, so that nothing falls between.
    let events = deps.hub.subscribe(id);
    let task = read(&*deps.store, id).await?;
    // What another node commits between the two is found by reading on from here.
    events.known(task.life.seq);
    let (sender, messages) = mpsc::channel(BUFFER);
    let mut watch =
        Watch { store: Arc::clone(&deps.store), id, seen: after_seq.unwrap_or(task.life.seq), sender };
    let stopping = deps.stopping.clone();
    deps.tracker.spawn(async move {
        let sender = watch.sender.clone();
        let error = tokio::select! {
            end = watch.run(task, events) => end.err(),
            () = stopping.cancelled() => Some(End::Failed(draining())),
            // The client has gone.
            () = sender.closed() => None,
        };
        if let Some(End::Failed(error)) = error {
            let _ = sender.send(Err(error.into())).await;
        }
    });
    Ok(ReceiverStream::new(messages).boxed())
}

fn draining() -> Error {
    Error::new(Code::Draining, "the node is shutting down: watch again from the last seq")
        .retry_after(std::time::Duration::from_millis(500))
}

async fn read(store: &dyn Store, id: TaskId) -> Result<Task, Error> {
    let about = |error| errors::about_task(error, &id.to_string());
    store.get(vec![id]).await.map_err(about)?.pop().ok_or_else(|| about(store::Error::NotFound))
}

/// Why a watch ends before its task does.
enum End {
    Gone,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Watch {
    store: Arc<dyn Store>,
    id: TaskId,
    seen: u64,
    sender: Sender,
}

impl Watch {
    async fn run(&mut self, task: Task, mut events: Subscription) -> Result<(), End> {
        self.send_task(&task).await?;
        let mut ended = task.life.state.is_terminal();
        self.catch_up(task.life.seq).await?;
        while !ended {
            let Some(event) = events.next().await else { return Err(self.too_slow().into()) };
            if event.seq <= self.seen {
                continue;
            }
            self.catch_up(event.seq - 1).await?;
            ended = event.state.is_terminal();
            self.send_event(&event).await?;
        }
        let task = read(&*self.store, self.id).await?;
        self.send_task(&task).await
    }

    /// Sends what lies between what was seen and `until`, from the store.
    async fn catch_up(&mut self, until: u64) -> Result<(), End> {
        while self.seen < until {
            let page = self.store.events(self.id, self.seen, PAGE).await.map_err(errors::of_store)?;
            if page.is_empty() {
                let message = format!("the events of task {} after {} are missing", self.id, self.seen);
                return Err(Error::new(Code::Internal, message).into());
            }
            for event in page.iter().take_while(|event| event.seq <= until) {
                self.send_event(event).await?;
            }
        }
        Ok(())
    }

    async fn send_task(&self, task: &Task) -> Result<(), End> {
        self.send(WatchTaskResponse { task: Some(task_to_proto(task)), event: None }).await
    }

    async fn send_event(&mut self, event: &Event) -> Result<(), End> {
        self.send(WatchTaskResponse { task: None, event: Some(event_to_proto(event)) }).await?;
        self.seen = event.seq;
        Ok(())
    }

    async fn send(&self, message: WatchTaskResponse) -> Result<(), End> {
        self.sender.send(Ok(message)).await.map_err(|_| End::Gone)
    }

    fn too_slow(&self) -> Error {
        let message = format!("the watcher fell behind: watch again with after_seq {}", self.seen);
        Error::new(Code::WatchTooSlow, message).with("resume_seq", self.seen.to_string())
    }
}
