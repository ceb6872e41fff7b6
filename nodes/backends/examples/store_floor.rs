//! How fast the SQLite store alone is: tasks a second for admit, claim and finish, on one thread of
//! callers beside the writer.
//! `cargo run --release -p callboard-backends --example store_floor -- [FOLDER] [PER CENT]`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for a person")]

use bytes::Bytes;
use callboard_backends::store::sqlite::{Options, Store};
use callboard_domain::{Attempt, NewTask, Outcome, Priority, SessionId, Spec, TaskId, Timestamp};
use callboard_ports::sessions::{NewSession, SessionStore};
use callboard_ports::store::{ClaimRequest, Finish, TaskReader, TaskStore};
use callboard_ports::{Clock, SystemClock};
use futures::stream::{self, StreamExt};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

const SESSION: SessionId = SessionId::new(Uuid::nil());

fn task() -> NewTask {
    NewTask {
        spec: Spec {
            id: TaskId::new(Uuid::now_v7()),
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

/// What one kind of call has cost.
#[derive(Default)]
struct Cost {
    seconds: f64,
    cpu: f64,
    commits: u64,
}

impl Cost {
    async fn add(&mut self, store: &Store, calls: impl Future<Output = ()>) {
        let (start, cpu, commits) = (Instant::now(), writer_cpu(), store.stats().commits);
        calls.await;
        self.seconds += start.elapsed().as_secs_f64();
        self.cpu += writer_cpu() - cpu;
        self.commits += store.stats().commits - commits;
    }

    fn print(&self, label: &str, what: &str, count: usize) {
        let (rate, each) = (count as f64 / self.seconds, self.cpu * 1e6 / count as f64);
        let commits = self.commits;
        println!(
            "{label:<28} {what:<7} {rate:>9.0} tasks/s  writer {each:>5.1} us/task  {commits:>6} commits"
        );
    }
}

/// Admits, claims and finishes `count` tasks in batches, so many batches in flight. In waves, as tasks
/// come and go on a node that keeps up.
async fn measure(store: &Store, label: &str, count: usize, batch: usize, in_flight: usize) {
    let (hosted, node) = (Arc::new(HashSet::from(["echo".to_owned()])), Arc::from("node-1"));
    let (mut admit, mut claim, mut end) = (Cost::default(), Cost::default(), Cost::default());
    let mut left = count;
    while left > 0 {
        let tasks: Vec<_> = (0..left.min(2_000)).map(|_| task()).collect();
        left -= tasks.len();
        let ids: Vec<_> = tasks.iter().map(|t| t.spec.id).collect();
        let batches: Vec<_> = tasks.chunks(batch).map(<[_]>::to_vec).collect();
        let calls = stream::iter(batches).map(|b| store.admit(b)).buffer_unordered(in_flight);
        let calls = calls.for_each(async |answers| assert!(answers.iter().all(Result::is_ok)));
        admit.add(store, calls).await;

        let calls = stream::iter(ids.chunks(batch).map(<[_]>::to_vec)).map(|take| {
            let (hosted, node) = (Arc::clone(&hosted), Arc::clone(&node));
            store.claim(ClaimRequest { session: SESSION, node, hosted, take, give_back: Vec::new() })
        });
        let calls = calls.buffer_unordered(in_flight).for_each(async |claims| assert!(claims.is_ok()));
        claim.add(store, calls).await;

        let batches = stream::iter(ids.chunks(batch));
        let calls = batches.map(|ids| store.finish(SESSION, ids.iter().copied().map(finish).collect()));
        let calls = calls.buffer_unordered(in_flight).for_each(async |answers| assert!(answers.is_ok()));
        end.add(store, calls).await;
    }
    for (cost, what) in [(admit, "admit"), (claim, "claim"), (end, "finish")] {
        cost.print(label, what, count);
    }
}

/// The processor time of the writer's thread so far, in seconds. Zero where there is no `/proc`.
fn writer_cpu() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let mut spent = 0;
    for thread in threads.flatten() {
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if name.trim() == "store-writer" {
            let times = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            spent += times.split(' ').next().and_then(|t| t.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    spent as f64 / 1e9
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let per_cent: usize = std::env::args().nth(2).map_or(100, |share| share.parse().unwrap());
    let path = folder.join(format!("store-floor-{}.db", std::process::id()));
    let store = Store::open(Options::new(&path, Arc::new(SystemClock), || 0.5)).unwrap();
    let session = NewSession {
        id: SESSION,
        node: "node-1".into(),
        version: "0".into(),
        roles: Vec::new(),
        addresses: Default::default(),
        revival: false,
    };
    store.open_session(session).await.unwrap();
    measure(&store, "one at a time", 2_000 * per_cent / 100, 1, 1).await;
    measure(&store, "64 in flight, one each", 40_000 * per_cent / 100, 1, 64).await;
    measure(&store, "batches of 64, 2 in flight", 60_000 * per_cent / 100, 64, 2).await;
    measure(&store, "batches of 500, 2 in flight", 100_000 * per_cent / 100, 500, 2).await;

    let (start, id) = (Instant::now(), TaskId::new(Uuid::nil()));
    assert!(store.find(&id.short()).await.is_err());
    println!(
        "a look for the end of an id among {:?} tasks: {:?}",
        store.counts().await.unwrap(),
        start.elapsed()
    );
    store.close().await;
    std::fs::remove_file(path).unwrap();
}
