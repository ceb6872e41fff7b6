//! The hot statements stay fast whatever the statistics say: on a new database, after an ANALYZE of empty
//! tables, and among many rows.

use super::{claim, open, options, server, success, task};
use callboard_backends::store::postgres::Store;
use callboard_domain::{SessionId, TaskId};
use callboard_ports::outbox::Outbox as _;
use callboard_ports::sessions::SessionStore;
use callboard_ports::store::{Claim, Fenced, TaskStore};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;
use tokio::time::Instant;

const BATCH: u128 = 500;

/// The best of a few rounds of admit, claim and finish.
async fn round(store: &Store, session: SessionId, from: u128) -> Duration {
    let mut best = Duration::MAX;
    for i in 0..4 {
        let first = from + i * BATCH;
        let tasks: Vec<_> = (first..first + BATCH).map(task).collect();
        let ids: Vec<TaskId> = tasks.iter().map(|t| t.spec.id).collect();
        let start = Instant::now();
        assert!(store.admit(tasks).await.iter().all(Result::is_ok));
        let claims = store.claim(claim(session, &ids)).await.unwrap();
        assert!(claims.iter().all(|c| matches!(c, Claim::Claimed(_))));
        let ends = ids.iter().map(|id| success(*id)).collect();
        let ended = store.finish(session, ends).await.unwrap();
        assert!(ended.iter().all(|e| matches!(e, Fenced::Recorded(_))));
        best = best.min(start.elapsed());
    }
    best
}

#[tokio::test]
async fn batches_stay_fast_whatever_the_statistics_say() {
    let url = server::fresh_database().await;
    let mut sql = PgConnection::connect(&url).await.unwrap();
    let first = open(&options(&url)).await;
    let session = SessionId::from_bytes([1; 16]);
    first.open_session(super::new_session(session)).await.unwrap();
    let fresh = round(&first, session, 0).await;

    // Statements that were planned before, and such that are planned now, on what is known of empty tables.
    sql.execute("TRUNCATE tasks, task_inputs, task_results, task_events, outbox").await.unwrap();
    sql.execute("ANALYZE").await.unwrap();
    let second = open(&options(&url)).await;
    let planned_before = round(&first, session, 10_000).await;
    let analysed_empty = round(&second, session, 20_000).await;

    // Many rows, of which the statistics know nothing.
    let fill = "INSERT INTO tasks SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') \
            || '7000a000' || lpad(to_hex(n), 12, '0'))::uuid, \
            4, 0, 1, 0, NULL, NULL, 0, 60000000, 0, 1, 0, 0, 3, 4, 1, 5, false, false, false, NULL, 'a', \
            'default', 'default', 'echo' FROM generate_series(1, 200000) n";
    sql.execute(fill).await.unwrap();
    let before: i64 = scanned(&mut sql).await;
    let many = round(&second, session, 30_000).await;
    sql.execute("ANALYZE tasks").await.unwrap();
    let many_known = round(&first, session, 40_000).await;
    for (what, took) in [
        ("planned before a truncate", planned_before),
        ("analysed while empty", analysed_empty),
        ("among many rows", many),
        ("among many rows, analysed", many_known),
    ] {
        assert!(took < 5 * fresh, "{what}: {took:?}, on a new database {fresh:?}");
    }
    // A connection tells its figures at its end.
    first.close().await;
    second.close().await;
    let after = scanned(&mut sql).await;
    assert!(after - before < 10_000, "{} rows were read one by one", after - before);
}

/// The statistics of a table that is emptied all the time say that it is empty. Each row is found for itself all the
/// same: to compare every row with every item of so large a batch takes many seconds.
#[tokio::test]
async fn a_large_batch_is_confirmed_though_the_outbox_is_taken_for_empty() {
    const ROWS: u128 = 6_000;
    let url = server::fresh_database().await;
    let store = open(&options(&url)).await;
    let mut sql = PgConnection::connect(&url).await.unwrap();
    let tasks = |from: u128| (from..from + BATCH).map(task).collect::<Vec<_>>();
    // It has pages, and the statistics say that no row is in them.
    assert!(store.admit(tasks(0)).await.iter().all(Result::is_ok));
    sql.execute("DELETE FROM outbox").await.unwrap();
    sql.execute("ANALYZE outbox").await.unwrap();
    let mut rows = Vec::new();
    for first in (BATCH..BATCH + ROWS).step_by(500) {
        let admitted = tasks(first);
        rows.extend(admitted.iter().map(|t| (t.spec.id, 1)));
        assert!(store.admit(admitted).await.iter().all(Result::is_ok));
    }
    let start = Instant::now();
    assert_eq!(store.confirm(rows).await.unwrap(), 6_000);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// How many rows of tasks were read without an index.
async fn scanned(sql: &mut PgConnection) -> i64 {
    let read = "SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'task%\\_2%'";
    sqlx::query_scalar(read).fetch_one(sql).await.unwrap()
}
