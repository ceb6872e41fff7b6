//! How fast the PostgreSQL store alone is: tasks a second for admit, claim and finish, and for all three
//! at once, as on a node that keeps up. The database should be empty and is left full.
//! `cargo run --release -p callboard-backends --example postgres_floor -- URL [PER CENT]`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for a person")]

use bytes::Bytes;
use callboard_backends::store::postgres::{Options, Store};
use callboard_domain::{Attempt, NewTask, Outcome, Priority, SessionId, Spec, TaskId, Timestamp};
use callboard_ports::outbox::Outbox;
use callboard_ports::sessions::{NewSession, SessionStore};
use callboard_ports::store::{Claim, ClaimRequest, Fenced, Finish, TaskStore};
use callboard_ports::{Clock, SystemClock};
use futures::stream::{self, StreamExt};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

const SESSION: SessionId = SessionId::new(Uuid::nil());

fn task(id: TaskId) -> NewTask {
    NewTask {
        spec: Spec {
            id,
            namespace: "default".into(),
            kind: "echo".into(),
            queue: "default".into(),
            priority: Priority::DEFAULT,
            max_attempts: 3,
            timeout: std::time::Duration::from_secs(60),
            created_at: Timestamp::default(),
            request_id: Some(Uuid::now_v7().to_string().into()),
            traceparent: None,
            retry_of: None,
        },
        run_at: None,
        input: Bytes::from_static(br#"{"message":"hello, callboard","sleep_ms":0}"#),
    }
}

fn finish(task_id: TaskId) -> Finish {
    Finish {
        attempt: Attempt { task_id, number: 1 },
        started_at: Some(SystemClock.now()),
        outcome: Outcome::Succeeded,
        result: Some(Bytes::from_static(br#"{"message":"hello, callboard"}"#)),
    }
}

/// How many batches of a phase are in flight, and how many tasks each has.
#[derive(Clone, Copy)]
struct Load {
    batch: usize,
    in_flight: usize,
}

/// Calls `call` for each batch of ids, so many at a time; tells how long all took.
async fn phase<F: Future<Output = ()>>(ids: &[TaskId], load: Load, call: impl Fn(Vec<TaskId>) -> F) -> f64 {
    let start = Instant::now();
    let calls = stream::iter(ids.chunks(load.batch).map(<[_]>::to_vec)).map(&call);
    calls.buffer_unordered(load.in_flight).for_each(async |()| {}).await;
    start.elapsed().as_secs_f64()
}

async fn admit(store: &Store, ids: Vec<TaskId>) {
    let answers = store.admit(ids.into_iter().map(task).collect()).await;
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.into_iter().find(Result::is_err));
}

async fn claim(store: &Store, take: Vec<TaskId>) {
    let hosted = Arc::new(HashSet::from(["echo".to_owned()]));
    let request =
        ClaimRequest { session: SESSION, node: "node-1".into(), hosted, take, give_back: Vec::new() };
    let claims = store.claim(request).await.unwrap();
    assert!(claims.iter().all(|claim| matches!(claim, Claim::Claimed(_))));
}

async fn end(store: &Store, ids: Vec<TaskId>) {
    let answers = store.finish(SESSION, ids.into_iter().map(finish).collect()).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Fenced::Recorded(_))));
}

/// One kind of call after the other, then all of them for each batch.
async fn measure(store: &Store, label: &str, count: usize, load: Load) {
    let ids: Vec<_> = (0..count).map(|_| TaskId::new(Uuid::now_v7())).collect();
    let phases = [
        ("admit", phase(&ids, load, |ids| admit(store, ids)).await),
        ("claim", phase(&ids, load, |ids| claim(store, ids)).await),
        ("finish", phase(&ids, load, |ids| end(store, ids)).await),
    ];
    let rows: Vec<_> = ids.iter().map(|id| (*id, 1)).collect();
    store.confirm(rows).await.unwrap();
    for (what, seconds) in phases {
        println!("{label:<28} {what:<7} {:>9.0} tasks/s", count as f64 / seconds);
    }
    let ids: Vec<_> = (0..count).map(|_| TaskId::new(Uuid::now_v7())).collect();
    let commits = store.commits();
    let seconds = phase(&ids, load, |ids| async {
        admit(store, ids.clone()).await;
        claim(store, ids.clone()).await;
        end(store, ids).await;
    })
    .await;
    let commits = store.commits() - commits;
    println!("{label:<28} all     {:>9.0} tasks/s  {commits:>6} commits", count as f64 / seconds);
    store.confirm(ids.into_iter().map(|id| (id, 1)).collect()).await.unwrap();
}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).unwrap();
    let per_cent: usize = std::env::args().nth(2).map_or(100, |share| share.parse().unwrap());
    let store = Store::open(Options::new(url, || 0.5)).await.unwrap();
    let session = NewSession {
        id: SESSION,
        node: "node-1".into(),
        version: "0".into(),
        roles: Vec::new(),
        addresses: Default::default(),
        revival: false,
    };
    store.open_session(session).await.unwrap();
    let load = |batch, in_flight| Load { batch, in_flight };
    measure(&store, "one at a time", 2_000 * per_cent / 100, load(1, 1)).await;
    measure(&store, "64 in flight, one each", 40_000 * per_cent / 100, load(1, 64)).await;
    measure(&store, "256 in flight, one each", 80_000 * per_cent / 100, load(1, 256)).await;
    measure(&store, "batches of 500, 2 in flight", 100_000 * per_cent / 100, load(500, 2)).await;
    measure(&store, "batches of 500, 4 in flight", 100_000 * per_cent / 100, load(500, 4)).await;
    store.close().await;
}
