//! Follows one peer: tells it what is watched here, and hears what it commits.

use super::remote::Shared;
use super::wire;
use crate::mesh::{self, EventStream};
use crate::peers::Peers;
use callboard_contracts::mesh::v1;
use callboard_domain::{SessionId, TaskId};
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How long a peer may take to begin its stream.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// The most ids of one request.
const IDS: usize = 10_000;
/// The most tasks watched on one peer. Others are found by reading.
const WATCHED: usize = 100_000;
/// Requests that wait for the connection.
const REQUESTS: usize = 4;
/// The first wait after a stream has ended; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest such wait.
const PAUSE_CAP: Duration = Duration::from_secs(2);

/// What a peer is asked to watch, over time.
pub type Requests = ReceiverStream<v1::WatchEventsRequest>;

/// Where the events of other nodes come from.
pub trait EventSource: Send + Sync + 'static {
    /// Begins to follow what the node that holds a session commits of the tasks that the requests name.
    fn subscribe(
        &self,
        peer: SessionId,
        requests: Requests,
    ) -> BoxFuture<'static, Result<EventStream, mesh::Error>>;
}

impl EventSource for Peers {
    fn subscribe(
        &self,
        peer: SessionId,
        requests: Requests,
    ) -> BoxFuture<'static, Result<EventStream, mesh::Error>> {
        let client = self.supervisor(peer);
        Box::pin(async move {
            match client {
                Some(client) => client.watch_events(requests, BEGIN_WITHIN).await,
                None => Err(mesh::Error::DidNotRun(Status::unavailable("the session is no peer's"))),
            }
        })
    }
}

/// What a peer is still to be told.
#[derive(Default)]
pub(super) struct Changes {
    /// Tasks to watch (`true`) or not any more.
    waiting: Mutex<HashMap<TaskId, bool>>,
    some: Notify,
}

impl Changes {
    /// The peer is to watch tasks, or not any more.
    pub(super) fn note(&self, tasks: impl IntoIterator<Item = TaskId>, watch: bool) {
        self.lock().extend(tasks.into_iter().map(|task| (task, watch)));
        self.some.notify_one();
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, bool>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait(&self) {
        while self.lock().is_empty() {
            self.some.notified().await;
        }
    }

    fn take(&self, most: usize) -> Vec<(TaskId, bool)> {
        let mut waiting = self.lock();
        let ids: Vec<_> = waiting.keys().take(most).copied().collect();
        ids.into_iter().filter_map(|id| waiting.remove_entry(&id)).collect()
    }
}

/// Follows a peer until dropped.
pub(super) async fn follow(shared: Arc<Shared>, peer: SessionId, changes: Arc<Changes>) {
    let mut pause = PAUSE;
    loop {
        // Nothing is asked of a peer before somebody watches.
        changes.wait().await;
        let mut stream = Stream::default();
        if let Err(status) = stream.run(&shared, peer, &changes).await {
            tracing::debug!(session.id = %peer, status = status.message(), "cannot follow a node's events");
        }
        if stream.applied > 0 {
            pause = PAUSE;
        }
        // Whatever it committed meanwhile was not heard; nor does it know any more what to tell.
        shared.tell_anew(&changes);
        shared.read_all();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_CAP);
    }
}

/// One stream of a peer's events.
#[derive(Default)]
struct Stream {
    /// What the peer was told to watch.
    told: HashSet<TaskId>,
    /// Tasks of requests that it has not applied yet, by the number of the request.
    unapplied: VecDeque<(u64, Vec<TaskId>)>,
    sent: u64,
    applied: u64,
}

impl Stream {
    async fn run(&mut self, shared: &Shared, peer: SessionId, changes: &Changes) -> Result<(), Status> {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let subscribe = shared.source().subscribe(peer, ReceiverStream::new(requests));
        let mut answers = subscribe.await.map_err(mesh::Error::into_status)?;
        loop {
            let room = async {
                changes.wait().await;
                sender.reserve().await
            };
            tokio::select! {
                answer = answers.next() => {
                    let Some(answer) = answer else { return Ok(()) };
                    self.hear(shared, answer?);
                }
                room = room => {
                    let Ok(room) = room else { return Ok(()) };
                    if let Some(request) = self.request(changes.take(IDS)) {
                        room.send(request);
                    }
                }
            }
        }
    }

    fn request(&mut self, changes: Vec<(TaskId, bool)>) -> Option<v1::WatchEventsRequest> {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (task, watch) in changes {
            if watch && self.told.len() < WATCHED && self.told.insert(task) {
                add.push(task);
            } else if !watch && self.told.remove(&task) {
                remove.push(task);
            }
        }
        if add.is_empty() && remove.is_empty() {
            return None;
        }
        let request = v1::WatchEventsRequest {
            context: None,
            add_task_ids: add.iter().map(ToString::to_string).collect(),
            remove_task_ids: remove.iter().map(ToString::to_string).collect(),
        };
        self.sent += 1;
        self.unapplied.push_back((self.sent, add));
        Some(request)
    }

    fn hear(&mut self, shared: &Shared, answer: v1::WatchEventsResponse) {
        self.applied = answer.applied;
        // What was committed before the peer watched is not told: it is read.
        while self.unapplied.front().is_some_and(|(number, _)| *number <= self.applied) {
            if let Some((_, tasks)) = self.unapplied.pop_front() {
                shared.read_soon(&tasks);
            }
        }
        if answer.dropped {
            shared.read_all();
        }
        let events: Vec<_> = answer.events.into_iter().filter_map(wire::event).collect();
        shared.take(&events);
    }
}
