//! Rows that a test holds locked, and writes that wait for them.

use async_trait::async_trait;
use callboard_domain::TaskId;
use callboard_ports::contract::store::Held;
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// A transaction that has locked a task's row, and a connection that looks who waits.
pub(super) struct Row {
    holder: PgConnection,
    looker: PgConnection,
}

impl Row {
    pub(super) async fn hold(url: &str, id: TaskId) -> Self {
        let mut holder = PgConnection::connect(url).await.unwrap();
        holder.execute("BEGIN").await.unwrap();
        let lock = sqlx::query("SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE");
        lock.bind(Uuid::from_bytes(*id.as_bytes())).fetch_one(&mut holder).await.unwrap();
        Self { holder, looker: PgConnection::connect(url).await.unwrap() }
    }
}

#[async_trait]
impl Held for Row {
    async fn until_waiting(&mut self, count: usize) {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let deadline = Instant::now() + Duration::from_secs(10);
        let count = i64::try_from(count).unwrap();
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut self.looker).await.unwrap() < count {
            assert!(Instant::now() < deadline, "{count} wait for a lock");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn let_go(mut self: Box<Self>) {
        self.holder.execute("COMMIT").await.unwrap();
    }
}
