//! A watch that survives what cuts it: it opens again with the `seq` it has seen last.

use crate::call::{Backoff, Repeat};
use crate::client::Client;
use crate::error::Error;
use crate::tasks::{is_terminal, service};
use callboard_contracts::v1;
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tonic::Streaming;

/// What a watch yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The task as it stands: first of all, and, once it has ended, last of all.
    Task(Box<v1::Task>),
    /// The next event.
    Event(Box<v1::TaskEvent>),
    /// The watch was cut and goes on by itself. Nothing is missed; this is for a person who waits.
    Interrupted(Error),
}

impl Client {
    /// Watches a task: its current state, every event after `after_seq` once and in order, its final state.
    /// Zero replays all events; none starts with the next. The id may be a unique suffix.
    ///
    /// It opens again by itself, at any of the addresses, for as long as `Options::watch_patience` after it
    /// was last open. It ends after the final state, or after an error.
    pub fn watch(
        &self,
        id: &str,
        after_seq: Option<u64>,
    ) -> impl Stream<Item = Result<Update, Error>> + Send + Unpin + use<> {
        let watch = Watch::new(self.clone(), id.to_owned(), after_seq);
        futures::stream::unfold(watch, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        })
        .boxed()
    }

    /// Waits until a task has ended, and returns it with its input and result. The id may be a unique suffix.
    ///
    /// # Errors
    /// As [`get`](Self::get), or that the node stayed away for longer than `Options::watch_patience`. That
    /// the task itself failed is not an error here.
    pub async fn wait(&self, id: &str) -> Result<v1::Task, Error> {
        let mut updates = self.watch(id, None);
        while let Some(update) = updates.next().await {
            if let Update::Task(task) = update?
                && is_terminal(task.state())
            {
                return self.get(&task.id, true).await;
            }
        }
        Err(Error::malformed("the watch ended before the task did"))
    }
}

/// What one message of the stream means.
#[derive(Debug)]
enum Accepted {
    Yield(Update),
    Last(Update),
    Skip,
    /// Something is missing before it.
    Gap,
}

/// What has been seen, apart from any connection.
#[derive(Debug, Default)]
struct Seen {
    /// The newest `seq` that was yielded, or that the caller had before.
    seq: Option<u64>,
    /// Whether the first state was yielded.
    state: bool,
}

impl Seen {
    fn accept(&mut self, message: v1::WatchTaskResponse) -> Accepted {
        match message {
            v1::WatchTaskResponse { event: Some(event), .. } => self.event(event),
            v1::WatchTaskResponse { task: Some(task), .. } => self.task(task),
            _ => Accepted::Skip,
        }
    }

    fn event(&mut self, event: v1::TaskEvent) -> Accepted {
        match self.seq {
            Some(seen) if event.seq <= seen => Accepted::Skip,
            Some(seen) if event.seq > seen + 1 => Accepted::Gap,
            _ => {
                self.seq = Some(event.seq);
                Accepted::Yield(Update::Event(Box::new(event)))
            }
        }
    }

    fn task(&mut self, task: v1::Task) -> Accepted {
        let seen = *self.seq.get_or_insert(task.last_seq);
        if is_terminal(task.state()) && task.last_seq <= seen {
            return Accepted::Last(Update::Task(Box::new(task)));
        }
        // After the watch was opened again, the state is repeated; what led to it comes as events.
        if std::mem::replace(&mut self.state, true) {
            return Accepted::Skip;
        }
        Accepted::Yield(Update::Task(Box::new(task)))
    }
}

struct Watch {
    client: Client,
    id: String,
    seen: Seen,
    stream: Option<Streaming<v1::WatchTaskResponse>>,
    /// Whether it was open once: before that there is nothing to keep up.
    opened: bool,
    /// Since when nothing new has come, after the watch was cut.
    cut: Option<Instant>,
    backoff: Backoff,
    done: bool,
}

impl Watch {
    fn new(client: Client, id: String, after_seq: Option<u64>) -> Self {
        let seen = Seen { seq: after_seq, state: false };
        Self {
            client,
            id,
            seen,
            stream: None,
            opened: false,
            cut: None,
            backoff: Backoff::new(),
            done: false,
        }
    }

    async fn next(&mut self) -> Option<Result<Update, Error>> {
        while !self.done {
            let error = match self.step().await {
                Ok(Some(update)) => return Some(Ok(update)),
                Ok(None) => continue,
                Err(error) => error,
            };
            self.stream = None;
            if !self.goes_on(&error) {
                self.done = true;
                return Some(Err(error));
            }
            // Only the first cut is worth a line; while it lasts, attempts follow each other at a pace.
            if self.cut.is_none() {
                self.cut = Some(Instant::now());
                return Some(Ok(Update::Interrupted(error)));
            }
            let pause = self.backoff.next();
            tokio::time::sleep(error.retry_after.map_or(pause, |after| after.max(pause))).await;
        }
        None
    }

    async fn step(&mut self) -> Result<Option<Update>, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = self.open().await?;
                self.opened = true;
                self.stream.insert(stream)
            }
        };
        let message = stream.message().await?.ok_or_else(|| Error::lost("the stream ended early"))?;
        if let Some(task) = &message.task {
            // What was a unique suffix need not stay one.
            self.id.clone_from(&task.id);
        }
        let update = match self.seen.accept(message) {
            Accepted::Skip => return Ok(None),
            Accepted::Gap => return Err(Error::lost("an event is missing from the stream")),
            Accepted::Yield(update) => update,
            Accepted::Last(update) => {
                self.done = true;
                update
            }
        };
        self.cut = None;
        self.backoff = Backoff::new();
        Ok(Some(update))
    }

    async fn open(&self) -> Result<Streaming<v1::WatchTaskResponse>, Error> {
        let options = self.client.options();
        let patience = match self.cut {
            Some(since) => options.watch_patience.saturating_sub(since.elapsed()),
            None => options.patience,
        };
        let message = v1::WatchTaskRequest { id: self.id.clone(), after_seq: self.seen.seq };
        self.client
            .open(patience, Repeat::Safe, message, async |channel, request| {
                service(channel).watch_task(request).await
            })
            .await
    }

    /// Whether the watch outlives an error.
    fn goes_on(&self, error: &Error) -> bool {
        let in_time = self.cut.is_none_or(|since| since.elapsed() < self.client.options().watch_patience);
        self.opened && in_time && (error.is_passing() || error.reason == "WATCH_TOO_SLOW")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> v1::WatchTaskResponse {
        v1::WatchTaskResponse { task: None, event: Some(v1::TaskEvent { seq, ..Default::default() }) }
    }

    fn task(state: v1::TaskState, last_seq: u64) -> v1::WatchTaskResponse {
        let task = v1::Task { state: state.into(), last_seq, ..Default::default() };
        v1::WatchTaskResponse { task: Some(task), event: None }
    }

    #[test]
    fn a_gap_is_seen_and_a_repetition_is_dropped() {
        let mut seen = Seen { seq: Some(4), state: true };
        assert!(matches!(seen.accept(event(4)), Accepted::Skip));
        assert!(matches!(seen.accept(event(6)), Accepted::Gap));
        assert!(matches!(seen.accept(event(5)), Accepted::Yield(Update::Event(_))));
        assert!(matches!(seen.accept(event(6)), Accepted::Yield(Update::Event(_))));
    }

    #[test]
    fn a_task_that_has_ended_is_last_only_once_its_events_are_out() {
        let mut replay = Seen { seq: Some(0), state: false };
        assert!(matches!(replay.accept(task(v1::TaskState::Succeeded, 1)), Accepted::Yield(_)));
        assert!(matches!(replay.accept(event(1)), Accepted::Yield(_)));
        assert!(matches!(replay.accept(task(v1::TaskState::Succeeded, 1)), Accepted::Last(_)));
        let mut fresh = Seen::default();
        assert!(matches!(fresh.accept(task(v1::TaskState::Succeeded, 9)), Accepted::Last(_)));
    }

    #[test]
    fn the_state_is_not_repeated_when_the_watch_opens_again() {
        let mut seen = Seen::default();
        assert!(matches!(seen.accept(task(v1::TaskState::Running, 3)), Accepted::Yield(_)));
        assert!(matches!(seen.accept(task(v1::TaskState::Running, 5)), Accepted::Skip));
        assert!(matches!(seen.accept(event(4)), Accepted::Yield(_)), "nothing was skipped with it");
    }
}
