//! The events of one node, as another watches them.

use crate::events::serve;
use callboard_contracts::mesh::v1::{WatchEventsRequest, WatchEventsResponse};
use callboard_domain::{Event, Happening, State, TaskId, Timestamp};
use callboard_ports::store::{Commit, CommitObserver};
use callboard_runtime::mesh::EventStream;
use callboard_runtime::watch::Hub;
use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use tonic::{Code, Status};

fn id(n: u8) -> TaskId {
    TaskId::from_bytes([n; 16])
}

fn commit(events: impl IntoIterator<Item = (u8, u64)>) -> Commit {
    let event = |(n, seq)| Event {
        task_id: id(n),
        seq,
        at: Timestamp::default(),
        state: State::Queued,
        attempt: 0,
        node: None,
        what: Happening::Due,
    };
    Commit { events: events.into_iter().map(event).collect(), ..Commit::default() }
}

fn change(add: &[u8], remove: &[u8]) -> WatchEventsRequest {
    let text = |ids: &[u8]| ids.iter().map(|n| id(*n).to_string()).collect();
    WatchEventsRequest { context: None, add_task_ids: text(add), remove_task_ids: text(remove) }
}

struct Stream {
    hub: Hub,
    requests: mpsc::UnboundedSender<Result<WatchEventsRequest, Status>>,
    answers: EventStream,
}

impl Stream {
    fn new() -> Self {
        let (requests, taken) = mpsc::unbounded();
        let hub = Hub::new();
        Self { hub: hub.clone(), requests, answers: serve(hub, taken) }
    }

    async fn ask(&mut self, request: WatchEventsRequest) -> Result<u64, Status> {
        self.requests.unbounded_send(Ok(request)).unwrap();
        let answer = self.next().await?;
        assert!(answer.events.is_empty() && !answer.dropped);
        Ok(answer.applied)
    }

    async fn next(&mut self) -> Result<WatchEventsResponse, Status> {
        self.answers.next().await.unwrap()
    }
}

fn told(answer: &WatchEventsResponse) -> Vec<(String, u64)> {
    answer.events.iter().map(|event| (event.task_id.clone(), event.seq)).collect()
}

#[tokio::test]
async fn watched_tasks_are_told_in_order_and_others_are_not() {
    let mut stream = Stream::new();
    assert_eq!(stream.ask(change(&[1, 2], &[])).await.unwrap(), 1);
    stream.hub.committed(&commit([(1, 1), (3, 1), (2, 1), (1, 2)]));
    let mut answer = told(&stream.next().await.unwrap());
    answer.sort();
    let name = |n| id(n).to_string();
    assert_eq!(answer, [(name(1), 1), (name(1), 2), (name(2), 1)]);
    assert_eq!(stream.ask(change(&[3, 2], &[1])).await.unwrap(), 2);
    stream.hub.committed(&commit([(1, 3), (2, 2), (3, 2)]));
    let mut answer = told(&stream.next().await.unwrap());
    answer.sort();
    assert_eq!(answer, [(name(2), 2), (name(3), 2)]);
    assert!(stream.answers.next().now_or_never().is_none(), "nothing more");
    // Taken back and watched again: told once.
    assert_eq!(stream.ask(change(&[], &[2])).await.unwrap(), 3);
    assert_eq!(stream.ask(change(&[2], &[])).await.unwrap(), 4);
    stream.hub.committed(&commit([(2, 3)]));
    assert_eq!(told(&stream.next().await.unwrap()), [(name(2), 3)]);
    assert_eq!(stream.hub.watchers(), 2);
    drop(stream.requests);
    assert!(stream.answers.next().await.is_none(), "it ends with the requests");
    drop(stream.answers);
    assert_eq!(stream.hub.watchers(), 0);
}

#[tokio::test]
async fn a_node_that_is_too_slow_says_that_it_dropped_events_and_goes_on() {
    let mut stream = Stream::new();
    stream.ask(change(&[1], &[])).await.unwrap();
    stream.hub.committed(&commit((1..=400).map(|seq| (1, seq))));
    let mut seqs = Vec::new();
    loop {
        let answer = stream.next().await.unwrap();
        seqs.extend(told(&answer).into_iter().map(|(_, seq)| seq));
        if answer.dropped {
            break;
        }
    }
    let kept = u64::try_from(seqs.len()).unwrap();
    assert!(kept < 400 && seqs == (1..=kept).collect::<Vec<_>>(), "{seqs:?}");
    stream.hub.committed(&commit([(1, 401)]));
    let answer = stream.next().await.unwrap();
    assert_eq!((answer.dropped, told(&answer)), (false, vec![(id(1).to_string(), 401)]));
}

#[tokio::test]
async fn answers_are_bounded_and_lose_nothing() {
    let mut stream = Stream::new();
    let tasks: Vec<u8> = (1..=10).collect();
    stream.ask(change(&tasks, &[])).await.unwrap();
    for n in &tasks {
        stream.hub.committed(&commit((1..=200).map(|seq| (*n, seq))));
    }
    let mut all = Vec::new();
    while all.len() < 2_000 {
        let answer = stream.next().await.unwrap();
        assert!(!answer.events.is_empty() && answer.events.len() <= 1_000, "{}", answer.events.len());
        all.extend(told(&answer));
    }
    for n in tasks {
        let name = id(n).to_string();
        let seqs: Vec<u64> = all.iter().filter(|(task, _)| *task == name).map(|(_, seq)| *seq).collect();
        assert_eq!(seqs, (1..=200).collect::<Vec<_>>(), "in order");
    }
}

#[tokio::test]
async fn bad_requests_end_the_stream_with_a_reason() {
    let mut stream = Stream::new();
    let bad = WatchEventsRequest { add_task_ids: vec!["x".into()], ..change(&[], &[]) };
    assert_eq!(stream.ask(bad).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(stream.answers.next().await.is_none());
    let mut stream = Stream::new();
    let many = WatchEventsRequest { add_task_ids: vec![id(1).to_string(); 10_001], ..change(&[], &[]) };
    assert_eq!(stream.ask(many).await.unwrap_err().code(), Code::InvalidArgument);
}
