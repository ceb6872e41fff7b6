//! The events of tasks, as this node commits them, for another node.

use callboard_contracts::mesh::v1;
use callboard_domain::convert::event_to_proto;
use callboard_domain::{Event, TaskId};
use callboard_runtime::mesh::EventStream;
use callboard_runtime::watch::{Hub, Subscription};
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::{BoxStream, FuturesUnordered, Stream, StreamExt};
use std::collections::HashMap;
use tonic::Status;

/// The most events of one message.
const EVENTS: usize = 1_000;
/// The most ids of one request.
const IDS: usize = 10_000;
/// The most tasks watched by one stream.
const WATCHED: usize = 100_000;

/// What a watch of one task has seen; nothing if it was taken back.
type Seen = Option<(TaskId, Subscription, Option<Event>)>;

/// Answers one node's stream of watches.
pub(crate) fn serve(
    hub: Hub,
    requests: impl Stream<Item = Result<v1::WatchEventsRequest, Status>> + Send + 'static,
) -> EventStream {
    let watcher = Watcher {
        hub,
        requests: requests.boxed(),
        watched: HashMap::new(),
        seen: FuturesUnordered::new(),
        applied: 0,
    };
    let answers = futures::stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(Some(answer)) => Some((Ok(answer), Some(watcher))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    });
    answers.boxed()
}

struct Watcher {
    hub: Hub,
    requests: BoxStream<'static, Result<v1::WatchEventsRequest, Status>>,
    watched: HashMap<TaskId, AbortHandle>,
    seen: FuturesUnordered<BoxFuture<'static, Seen>>,
    applied: u64,
}

impl Watcher {
    /// The next answer; none once the other node watches no more.
    async fn next(&mut self) -> Result<Option<v1::WatchEventsResponse>, Status> {
        loop {
            tokio::select! {
                biased;
                request = self.requests.next() => {
                    let Some(request) = request else { return Ok(None) };
                    self.apply(&request?)?;
                    return Ok(Some(self.answer(Vec::new(), false)));
                }
                Some(seen) = self.seen.next() => {
                    if let Some(answer) = self.gather(seen) {
                        return Ok(Some(answer));
                    }
                }
            }
        }
    }

    fn apply(&mut self, request: &v1::WatchEventsRequest) -> Result<(), Status> {
        if request.add_task_ids.len() > IDS || request.remove_task_ids.len() > IDS {
            return Err(Status::invalid_argument(format!("at most {IDS} ids a message")));
        }
        for id in &request.remove_task_ids {
            if let Some(watch) = self.watched.remove(&parse(id)?) {
                watch.abort();
            }
        }
        for id in &request.add_task_ids {
            let id = parse(id)?;
            if self.watched.contains_key(&id) {
                continue;
            }
            if self.watched.len() >= WATCHED {
                return Err(Status::resource_exhausted(format!("at most {WATCHED} tasks a stream")));
            }
            self.watch(id);
        }
        self.applied += 1;
        Ok(())
    }

    fn watch(&mut self, id: TaskId) {
        let subscription = self.hub.subscribe(id);
        self.wait(id, subscription);
    }

    /// Waits for the next event of a task that is watched.
    fn wait(&mut self, id: TaskId, mut subscription: Subscription) {
        let (handle, registration) = AbortHandle::new_pair();
        self.watched.insert(id, handle);
        let next = async move {
            let event = subscription.next().await;
            (id, subscription, event)
        };
        self.seen.push(Abortable::new(next, registration).map(Result::ok).boxed());
    }

    /// An answer from what was seen and what else is there already.
    fn gather(&mut self, first: Seen) -> Option<v1::WatchEventsResponse> {
        let (mut events, mut dropped) = (Vec::new(), false);
        let mut seen = Some(first);
        while let Some(one) = seen {
            if let Some((id, subscription, event)) = one
                && self.watched.contains_key(&id)
            {
                match event {
                    Some(event) => {
                        events.push(event_to_proto(&event));
                        self.wait(id, subscription);
                    }
                    // This node was too slow for its own hub: what it missed is read from the store.
                    None => {
                        dropped = true;
                        self.watch(id);
                    }
                }
            }
            seen = if events.len() < EVENTS { self.seen.next().now_or_never().flatten() } else { None };
        }
        (dropped || !events.is_empty()).then(|| self.answer(events, dropped))
    }

    fn answer(
        &self,
        events: Vec<callboard_contracts::v1::TaskEvent>,
        dropped: bool,
    ) -> v1::WatchEventsResponse {
        v1::WatchEventsResponse { events, applied: self.applied, dropped }
    }
}

fn parse(id: &str) -> Result<TaskId, Status> {
    id.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}
