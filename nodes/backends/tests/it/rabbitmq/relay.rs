//! The relay, before a real broker and an outbox in memory.

use super::rows::Rows;
use super::support::{
    Operator, blocking, later, many, options, queues_are_saved, ready, server, take, until,
};
use callboard_backends::handoff::rabbitmq::{self, Handoff};
use callboard_backends::handoff::relay::{Options, Relay};
use callboard_domain::Band;
use callboard_ports::handoff::{Queues, Ready};
use callboard_ports::store::{Commit, CommitObserver as _};
use callboard_ports::{Handoff as _, SystemClock};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn relay(rows: &Arc<Rows>, handoff: &Arc<Handoff>) -> Arc<Relay> {
    Relay::start(Options {
        outbox: rows.clone(),
        handoff: handoff.clone(),
        clock: Arc::new(SystemClock),
        jitter: Arc::new(|| 0.5),
    })
}

fn commit(relay: &Relay, rows: &Rows, batch: &[Ready]) {
    rows.queue(batch);
    relay.committed(&Commit { ready: batch.to_vec(), ..Commit::default() });
}

#[tokio::test]
async fn what_is_committed_is_published_at_once_and_its_rows_go() {
    let handoff = super::support::handoff().await;
    let (rows, tasks) = (Arc::new(Rows::default()), many("q", 500));
    let relay = relay(&rows, &handoff);
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    commit(&relay, &rows, &tasks);
    let got: HashSet<_> = take(&mut consumer, 500).await.into_iter().map(|r| r.id).collect();
    assert_eq!(got.len(), 500);
    until("the rows are gone", async || rows.rows() == 0).await;
    relay.close().await;
}

#[tokio::test]
async fn rows_of_a_node_that_died_are_published_by_another() {
    let handoff = super::support::handoff().await;
    let (rows, tasks) = (Arc::new(Rows::default()), many("q", 3_000));
    rows.queue(&tasks);
    let relay = relay(&rows, &handoff);
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    // They are not known before they are published.
    handoff.add_queues(&["q".into()]).unwrap();
    take(&mut consumer, 3_000).await;
    until("the rows are gone", async || rows.rows() == 0).await;
    relay.close().await;
}

#[tokio::test]
async fn a_task_whose_time_has_not_come_stays_in_the_outbox() {
    let handoff = super::support::handoff().await;
    let rows = Arc::new(Rows::default());
    let relay = relay(&rows, &handoff);
    let mut waits = ready("q", Band::High);
    waits.not_before = Some(later(Duration::from_secs(3600)));
    commit(&relay, &rows, &[waits]);
    commit(&relay, &rows, &many("q", 1));
    until("only the other one is published", async || rows.rows() == 1).await;
    assert_eq!(handoff.stats().confirmed, 1);
}

#[tokio::test]
async fn a_full_queue_backs_off_alone() {
    let options = rabbitmq::Options { max_length: 50, ..options().await };
    let handoff = Handoff::new(options).unwrap();
    let rows = Arc::new(Rows::default());
    let relay = relay(&rows, &handoff);
    commit(&relay, &rows, &many("full", 2_000));
    until("it refuses", async || handoff.stats().refused > 0).await;
    let left = rows.rows();
    commit(&relay, &rows, &many("free", 40));
    let began = Instant::now();
    until("the other lane moves", async || rows.rows() <= left).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Once it is consumed, the rest follows.
    let mut consumer = handoff.consume(Queues::Only(vec!["full".into()])).await.unwrap();
    let mut got = HashSet::new();
    while got.len() < 2_000 {
        got.extend(take(&mut consumer, 1).await.into_iter().map(|r| r.id));
    }
    relay.close().await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_used_backs_off_alone() {
    let options = options().await;
    // Another connection has a queue of that name for itself.
    let operator = Operator::new(&options.url).await;
    operator.keep_for_itself(&format!("{}.locked.middle", options.prefix)).await;
    let handoff = Handoff::new(options).unwrap();
    let rows = Arc::new(Rows::default());
    let relay = relay(&rows, &handoff);
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    commit(&relay, &rows, &many("locked", 5));
    for _ in 0..5 {
        commit(&relay, &rows, &many("free", 40));
        let began = Instant::now();
        take(&mut consumer, 40).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(relay.standing().away, None);
    }
    until("the free ones are confirmed", async || rows.rows() == 5).await;
    // Once the other has gone, it is declared as it should be.
    drop(operator);
    take(&mut consumer, 5).await;
    until("the rows are gone", async || rows.rows() == 0).await;
    relay.close().await;
}

#[tokio::test]
async fn while_the_broker_is_down_tasks_wait_in_the_outbox_and_flow_when_it_is_back() {
    let mut server = server().await;
    let handoff = Handoff::new(rabbitmq::Options::new(server.url(), "t")).unwrap();
    let rows = Arc::new(Rows::default());
    let relay = relay(&rows, &handoff);
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    commit(&relay, &rows, &many("q", 10));
    take(&mut consumer, 10).await;
    queues_are_saved().await;
    server = blocking(move || server.kill().map(|()| server)).await;
    let tasks = many("q", 400);
    commit(&relay, &rows, &tasks);
    until("it is noticed", async || relay.standing().away.is_some()).await;
    assert_eq!(relay.standing().waiting, 0, "nothing is kept in memory");
    let leases = rows.state().leases;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(rows.state().leases, leases, "nothing is leased meanwhile");
    assert_eq!(rows.rows(), 400);
    let _server = blocking(move || server.restart().map(|()| server)).await;
    let back = Instant::now();
    let mut got = HashSet::new();
    while got.len() < 400 {
        got.extend(take(&mut consumer, 1).await.into_iter().map(|r| r.id));
    }
    assert!(back.elapsed() < Duration::from_secs(15), "{:?}", back.elapsed());
    until("the rows are gone", async || rows.rows() == 0).await;
    assert_eq!(relay.standing().away, None);
    relay.close().await;
}
