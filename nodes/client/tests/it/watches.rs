//! Watches: nothing missed and nothing twice, whatever cuts them.

use crate::node::{ID, Node, Script, Stop, nowhere};
use callboard_client::{Client, Error, Options, Update, v1};
use futures::{Stream, StreamExt};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

fn client(address: impl ToString) -> Client {
    Client::connect(Options { addresses: vec![address.to_string()], ..Options::default() }).unwrap()
}

async fn next(updates: &mut (impl Stream<Item = Result<Update, Error>> + Unpin)) -> Option<Update> {
    tokio::time::timeout(DEADLINE, updates.next()).await.expect("an update in time").map(|u| u.unwrap())
}

/// The rest of a watch: the events' seqs, the states, and how often it was cut.
async fn rest(
    updates: &mut (impl Stream<Item = Result<Update, Error>> + Unpin),
) -> (Vec<u64>, Vec<v1::TaskState>, u32) {
    let (mut seqs, mut states, mut cuts) = (Vec::new(), Vec::new(), 0);
    while let Some(update) = next(updates).await {
        match update {
            Update::Event(event) => seqs.push(event.seq),
            Update::Task(task) => states.push(task.state()),
            Update::Interrupted(_) => cuts += 1,
        }
    }
    (seqs, states, cuts)
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_after_the_node_was_killed_and_came_back() {
    let node = Node::start(Script { events: 6, stop: Some((3, Stop::Hang)), ..Script::default() });
    // A suffix may become ambiguous while the node is away: the whole id is used from then on.
    let mut updates = client(node.address).watch("0c07398f", Some(0));
    assert!(matches!(next(&mut updates).await, Some(Update::Task(t)) if t.state() == v1::TaskState::Running));
    for seq in 1..=3 {
        assert!(matches!(next(&mut updates).await, Some(Update::Event(e)) if e.seq == seq));
    }
    assert_eq!(node.script.watched.lock().unwrap()[0].id, "0c07398f");
    let address = node.kill();
    assert!(matches!(next(&mut updates).await, Some(Update::Interrupted(_))));

    let node = Node::start_at(address, Script { events: 6, ..Script::default() });
    assert_eq!(rest(&mut updates).await, (vec![4, 5, 6], vec![v1::TaskState::Succeeded], 0));
    let watched = node.script.watched.lock().unwrap();
    assert_eq!((watched[0].id.as_str(), watched[0].after_seq), (ID, Some(3)));
}

#[tokio::test]
async fn a_watch_without_a_start_goes_on_from_the_first_state() {
    let node = Node::start(Script { events: 4, stop: Some((2, Stop::Hang)), ..Script::default() });
    // The script replays from zero where the seq is unset: what the first state includes is dropped.
    let mut updates = client(node.address).watch(ID, None);
    assert!(matches!(next(&mut updates).await, Some(Update::Task(_))));
    let address = node.kill();
    let node = Node::start_at(address, Script { events: 4, ..Script::default() });
    let (seqs, states, _) = rest(&mut updates).await;
    assert_eq!((seqs, states), (vec![3, 4], vec![v1::TaskState::Succeeded]));
    assert_eq!(node.script.watched.lock().unwrap()[0].after_seq, Some(2));
}

#[tokio::test]
async fn a_stream_that_ends_early_is_opened_again() {
    let node = Node::start(Script { events: 3, left_out: vec![2].into(), ..Script::default() });
    let mut updates = client(node.address).watch(ID, Some(0));
    let (seqs, states, cuts) = rest(&mut updates).await;
    assert_eq!(seqs, [1, 2, 3], "the one that was left out came the second time, in its place");
    assert_eq!(states, [v1::TaskState::Running, v1::TaskState::Succeeded]);
    assert_eq!(cuts, 1);
    assert_eq!(node.script.watched.lock().unwrap()[1].after_seq, Some(1));
}

#[tokio::test]
async fn a_node_that_keeps_ending_the_stream_is_given_up() {
    let node = Node::start(Script { events: 3, stop: Some((1, Stop::End)), ..Script::default() });
    let options = Options {
        addresses: vec![node.address.to_string()],
        watch_patience: Duration::from_millis(300),
        ..Options::default()
    };
    let mut updates = Client::connect(options).unwrap().watch(ID, Some(0));
    let mut last = None;
    while let Some(update) = tokio::time::timeout(DEADLINE, updates.next()).await.expect("an end in time") {
        last = Some(update);
    }
    assert!(last.unwrap().unwrap_err().message.contains("ended early"));
}

#[tokio::test]
async fn a_watch_that_never_opened_fails_as_a_call_does() {
    let options =
        Options { addresses: vec![nowhere().to_string()], patience: Duration::ZERO, ..Options::default() };
    let mut updates = Client::connect(options).unwrap().watch(ID, None);
    let first = tokio::time::timeout(DEADLINE, updates.next()).await.expect("an end in time");
    assert!(first.unwrap().unwrap_err().is_unreachable());
    assert!(updates.next().await.is_none());
}

#[tokio::test]
async fn waiting_returns_the_task_with_its_result() {
    let node = Node::start(Script { events: 2, ..Script::default() });
    let task = tokio::time::timeout(DEADLINE, client(node.address).wait("398f")).await.unwrap().unwrap();
    assert_eq!(task.state(), v1::TaskState::Succeeded);
    assert_eq!(&task.result[..], b"{\"text\":\"hello\"}");
}
