//! Watches across nodes, against a log of events and peers that do as they are told, on tokio's paused clock.

use super::{EventSource, Hub, Options, Remote, Requests, Subscription};
use crate::mesh::{self, EventStream};
use callboard_contracts::mesh::v1;
use callboard_domain::convert::event_to_proto;
use callboard_domain::{Attempt, Event, Happening, KindSpec, SessionId, State, Task, TaskId, Timestamp};
use callboard_ports::handoff::Ready;
use callboard_ports::store::{Commit, CommitObserver, Error, Filter, FullTask, QueueDepth, TaskReader};
use futures::StreamExt;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Status;

pub(super) fn event(id: u8, seq: u64) -> Event {
    Event {
        task_id: task(id),
        seq,
        at: Timestamp::default(),
        state: State::Queued,
        attempt: 0,
        node: None,
        what: Happening::Due,
    }
}

fn task(id: u8) -> TaskId {
    TaskId::from_bytes([id; 16])
}

fn peer(id: u8) -> SessionId {
    SessionId::from_bytes([id; 16])
}

/// What is committed, by whomever.
#[derive(Default)]
struct Log {
    events: Mutex<BTreeMap<(TaskId, u64), Event>>,
    /// The reads so far: for how many tasks each.
    reads: Mutex<Vec<usize>>,
    away: AtomicBool,
}

impl Log {
    fn commit(&self, events: impl IntoIterator<Item = Event>) {
        self.events.lock().unwrap().extend(events.into_iter().map(|e| ((e.task_id, e.seq), e)));
    }

    fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }
}

fn none<T>() -> Result<T, Error> {
    Err(Error::Unavailable("not in this test".into()))
}

#[tonic::async_trait]
impl TaskReader for Log {
    async fn events_after(&self, tasks: Vec<(TaskId, u64)>, limit: usize) -> Result<Vec<Event>, Error> {
        if self.away.load(Ordering::SeqCst) {
            return none();
        }
        self.reads.lock().unwrap().push(tasks.len());
        let events = self.events.lock().unwrap();
        let of = |(id, seq)| events.range((id, seq + 1)..=(id, u64::MAX)).map(|(_, e)| e.clone());
        Ok(tasks.into_iter().flat_map(of).take(limit).collect())
    }

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

/// A stream of a peer: its end here, and what it was asked.
struct Line {
    answers: mpsc::Sender<Result<v1::WatchEventsResponse, Status>>,
    requests: Requests,
}

/// Peers, each with the streams that were begun to it.
#[derive(Default)]
struct Mesh {
    begun: Mutex<HashMap<SessionId, mpsc::UnboundedSender<Line>>>,
    streams: AtomicUsize,
}

impl Mesh {
    fn peer(&self, id: u8) -> mpsc::UnboundedReceiver<Line> {
        let (begun, lines) = mpsc::unbounded_channel();
        self.begun.lock().unwrap().insert(peer(id), begun);
        lines
    }
}

impl EventSource for Mesh {
    fn subscribe(
        &self,
        peer: SessionId,
        requests: Requests,
    ) -> BoxFuture<'static, Result<EventStream, mesh::Error>> {
        let (answers, stream) = mpsc::channel(16);
        let begun = self.begun.lock().unwrap();
        let reached = begun.get(&peer).is_some_and(|begun| begun.send(Line { answers, requests }).is_ok());
        self.streams.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if reached {
                Ok(ReceiverStream::new(stream).boxed())
            } else {
                Err(mesh::Error::DidNotRun(Status::unavailable("nobody is there")))
            }
        })
    }
}

impl Line {
    /// The next request: what to watch, and what not any more. It is said to be applied, as the n-th.
    async fn asked(&mut self, n: u64) -> (Vec<TaskId>, Vec<TaskId>) {
        let request = timeout(SOON, self.requests.next()).await.unwrap().unwrap();
        let ids = |ids: &[String]| {
            let mut ids: Vec<TaskId> = ids.iter().map(|id| id.parse().unwrap()).collect();
            ids.sort();
            ids
        };
        let asked = (ids(&request.add_task_ids), ids(&request.remove_task_ids));
        self.tell_all([], n, false).await;
        asked
    }

    async fn tell(&self, events: impl IntoIterator<Item = Event>) {
        self.tell_all(events, 1, false).await;
    }

    async fn tell_all(&self, events: impl IntoIterator<Item = Event>, applied: u64, dropped: bool) {
        let events = events.into_iter().map(|event| event_to_proto(&event)).collect();
        let answer = v1::WatchEventsResponse { events, applied, dropped };
        self.answers.send(Ok(answer)).await.unwrap();
    }
}

const SOON: Duration = Duration::from_secs(60);

struct Node {
    log: Arc<Log>,
    mesh: Arc<Mesh>,
    hub: Hub,
    remote: Arc<Remote>,
}

impl Node {
    fn new() -> Self {
        let (log, mesh, hub) = (Arc::new(Log::default()), Arc::new(Mesh::default()), Hub::new());
        let remote = Remote::start(Options {
            hub: hub.clone(),
            reader: log.clone(),
            source: mesh.clone(),
            tracker: TaskTracker::new(),
        });
        Self { log, mesh, hub, remote }
    }

    /// A watch, once all its reads are done.
    async fn watch(&self, id: u8, known: u64) -> Subscription {
        let watch = self.hub.subscribe(task(id));
        watch.known(known);
        watch
    }

    fn commit_here(&self, events: Vec<Event>) {
        self.log.commit(events.clone());
        self.remote.committed(&Commit { events, ..Commit::default() });
    }
}

/// The seqs of the next events of a watch.
async fn seqs(watch: &mut Subscription, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for _ in 0..count {
        seqs.push(timeout(SOON, watch.next()).await.unwrap().unwrap().seq);
    }
    seqs
}

async fn silent(watch: &mut Subscription) {
    assert!(timeout(Duration::from_secs(5), watch.next()).await.is_err(), "an event too many");
}

#[tokio::test(start_paused = true)]
async fn events_of_this_node_and_of_a_peer_come_once_and_in_order() {
    let node = Node::new();
    let mut lines = node.mesh.peer(1);
    node.remote.set_peers([peer(1)]);
    let mut watch = node.watch(1, 1).await;
    let mut line = lines.recv().await.unwrap();
    assert_eq!(line.asked(1).await, (vec![task(1)], vec![]));
    node.commit_here(vec![event(1, 2)]);
    assert_eq!(seqs(&mut watch, 1).await, [2]);
    // The peer's next event overtakes the one before it, and both are told twice.
    node.log.commit([event(1, 3), event(1, 4)]);
    line.tell([event(1, 4), event(1, 2)]).await;
    line.tell([event(1, 3), event(1, 4), event(1, 3)]).await;
    assert_eq!(seqs(&mut watch, 2).await, [3, 4]);
    silent(&mut watch).await;
    assert_eq!(node.mesh.streams.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_seen_within_two_seconds_though_its_node_dies_before_it_tells() {
    let node = Node::new();
    let mut lines = node.mesh.peer(1);
    node.remote.set_peers([peer(1)]);
    let mut watch = node.watch(1, 1).await;
    let mut line = lines.recv().await.unwrap();
    line.asked(1).await;
    sleep(Duration::from_secs(3)).await;
    // Its connection hangs, as that of a node whose cable was cut does.
    let began = Instant::now();
    node.log.commit([Event { state: State::Succeeded, ..event(1, 2) }]);
    assert_eq!(seqs(&mut watch, 1).await, [2]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Nothing is read of a task that has ended.
    let reads = node.log.reads();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(node.log.reads(), reads);
    drop(line);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_leads_to_a_read_at_once_and_is_begun_again() {
    let node = Node::new();
    let mut lines = node.mesh.peer(1);
    node.remote.set_peers([peer(1)]);
    let (mut one, mut two) = (node.watch(1, 1).await, node.watch(2, 7).await);
    let mut line = lines.recv().await.unwrap();
    line.asked(1).await;
    sleep(Duration::from_millis(1_500)).await;
    let (reads, began) = (node.log.reads(), Instant::now());
    node.log.commit([event(1, 2), event(2, 8)]);
    drop(line);
    assert_eq!((seqs(&mut one, 1).await, seqs(&mut two, 1).await), (vec![2], vec![8]));
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    assert_eq!(node.log.reads(), reads + 1, "one read for both");
    let mut line = lines.recv().await.unwrap();
    assert_eq!(line.asked(1).await.0, [task(1), task(2)]);
    line.tell([event(1, 3)]).await;
    assert_eq!(seqs(&mut one, 1).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_before_a_peer_knew_of_the_watch_is_read() {
    let node = Node::new();
    let mut lines = node.mesh.peer(1);
    node.remote.set_peers([peer(1)]);
    let mut watch = node.watch(1, 1).await;
    let mut line = lines.recv().await.unwrap();
    let request = line.requests.next().await.unwrap();
    assert_eq!(request.add_task_ids, [task(1).to_string()]);
    // After the read that the watch itself led to.
    sleep(Duration::from_millis(100)).await;
    node.log.commit([event(1, 2)]);
    let began = Instant::now();
    line.tell_all([], 1, false).await;
    assert_eq!(seqs(&mut watch, 1).await, [2]);
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_fell_behind_says_so_and_the_store_is_read() {
    let node = Node::new();
    let mut lines = node.mesh.peer(1);
    node.remote.set_peers([peer(1)]);
    let mut watch = node.watch(1, 1).await;
    let mut line = lines.recv().await.unwrap();
    line.asked(1).await;
    sleep(Duration::from_millis(100)).await;
    node.log.commit([event(1, 2), event(1, 3)]);
    let began = Instant::now();
    line.tell_all([], 1, true).await;
    assert_eq!(seqs(&mut watch, 2).await, [2, 3]);
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_read_and_what_waited_behind_it_follows() {
    let node = Node::new();
    let mut watch = node.watch(1, 1).await;
    node.log.commit([event(1, 2), event(1, 3)]);
    let began = Instant::now();
    node.commit_here(vec![event(1, 4)]);
    assert_eq!(seqs(&mut watch, 3).await, [2, 3, 4]);
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_watched_tasks_cost_one_read_a_second_and_none_once_nobody_watches() {
    let node = Node::new();
    let mut lines = node.mesh.peer(1);
    node.remote.set_peers([peer(1)]);
    let id = |n: u16| TaskId::from_bytes([n.to_be_bytes(); 8].concat().try_into().unwrap());
    let watches: Vec<_> = (0..1_000).map(|n| node.hub.subscribe(id(n))).collect();
    watches.iter().for_each(|watch| watch.known(1));
    let mut line = lines.recv().await.unwrap();
    assert_eq!(line.asked(1).await.0.len(), 1_000, "one request for all");
    sleep(Duration::from_millis(500)).await;
    let before = node.log.reads();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(node.log.reads() - before, 10);
    assert_eq!(node.log.reads.lock().unwrap().last(), Some(&1_000));
    drop(watches);
    let mut gone = 0;
    while gone < 1_000 {
        gone += line.asked(2).await.1.len();
    }
    let before = node.log.reads();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(node.log.reads(), before);
}

#[tokio::test(start_paused = true)]
async fn more_events_than_one_read_holds_all_come() {
    let node = Node::new();
    let mut watches = Vec::new();
    for id in 1..=100 {
        node.log.commit((2..=200).map(|seq| event(id, seq)));
        watches.push(node.watch(id, 1).await);
    }
    // More than 5,000 events in all; each watch holds 256.
    sleep(Duration::from_secs(2)).await;
    for watch in &mut watches {
        assert_eq!(seqs(watch, 199).await, (2..=200).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_again_and_nothing_is_missed() {
    let node = Node::new();
    let mut watch = node.watch(1, 1).await;
    node.log.away.store(true, Ordering::SeqCst);
    node.log.commit([event(1, 2)]);
    node.commit_here(vec![event(1, 3)]);
    silent(&mut watch).await;
    node.log.away.store(false, Ordering::SeqCst);
    let began = Instant::now();
    assert_eq!(seqs(&mut watch, 2).await, [2, 3]);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_is_read_after_and_one_that_comes_is_told_what_is_watched() {
    let node = Node::new();
    let (mut first, mut second) = (node.mesh.peer(1), node.mesh.peer(2));
    node.remote.set_peers([peer(1)]);
    let mut watch = node.watch(1, 1).await;
    let mut line = first.recv().await.unwrap();
    line.asked(1).await;
    sleep(Duration::from_millis(1_500)).await;
    let began = Instant::now();
    node.log.commit([event(1, 2)]);
    node.remote.set_peers([peer(2)]);
    assert_eq!(seqs(&mut watch, 1).await, [2]);
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    assert!(line.requests.next().await.is_none(), "it is followed no more");
    let mut line = second.recv().await.unwrap();
    assert_eq!(line.asked(1).await.0, [task(1)]);
    line.tell([event(1, 3)]).await;
    assert_eq!(seqs(&mut watch, 1).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_reached_is_tried_at_a_calm_pace() {
    let node = Node::new();
    node.remote.set_peers([peer(9)]);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(node.mesh.streams.load(Ordering::SeqCst), 0, "nobody watches");
    let _watch = node.watch(1, 1).await;
    sleep(Duration::from_secs(60)).await;
    let tries = node.mesh.streams.load(Ordering::SeqCst);
    assert!((20..=40).contains(&tries), "{tries}");
}
