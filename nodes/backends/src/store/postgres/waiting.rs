//! Tasks that wait: releasing those whose time has come, and cancelling.

use super::fault::Fault;
use super::line::Work;
use super::rows::{self, task_columns};
use super::tx::Tx;
use callboard_domain::{Command, TaskId, Timestamp};
use callboard_ports::store::{Cancelled, Error, Released};
use uuid::Uuid;

/// What another node is just releasing is passed over.
const DUE: &str = "SELECT id FROM tasks WHERE state = 1 AND run_at <= $1 ORDER BY run_at, id LIMIT $2 \
                   FOR UPDATE SKIP LOCKED";
const NEXT_DUE: &str = "SELECT min(run_at) FROM tasks WHERE state = 1";
const TASK: &str = concat!("SELECT ", task_columns!(), " FROM tasks t WHERE t.id = $1");

/// Queues up to so many tasks whose time has come.
pub(super) struct ReleaseDue(pub(super) usize);

impl Work for ReleaseDue {
    type Out = Released;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Released, Fault> {
        let now = tx.now();
        let due: Vec<Uuid> = sqlx::query_scalar(DUE)
            .bind(now.micros())
            .bind(rows::limit(self.0))
            .fetch_all(&mut *tx.conn)
            .await?;
        let due: Vec<TaskId> = due.into_iter().map(TaskId::new).collect();
        tx.load(due.iter().copied()).await?;
        let mut count = 0;
        for id in due {
            let Some(row) = tx.draft.rows.get(&id) else { continue };
            let Ok(what) = row.life.decide(Command::Release { now }) else { continue };
            tx.draft.happen(id, what)?;
            count += 1;
        }
        tx.flush().await?;
        let next: Option<i64> = sqlx::query_scalar(NEXT_DUE).fetch_one(&mut *tx.conn).await?;
        Ok(Released { count, next_due: next.map(Timestamp::from_micros) })
    }
}

/// Cancels a task, or asks the one who runs it to.
pub(super) struct Cancel(pub(super) TaskId);

impl Work for Cancel {
    type Out = Result<Cancelled, Error>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Result<Cancelled, Error>, Fault> {
        let id = self.0;
        tx.load([id]).await?;
        let Some(row) = tx.draft.rows.get(&id) else { return Ok(Err(Error::NotFound)) };
        let decided = row.life.decide(Command::Cancel);
        let changed = decided.is_ok();
        if let Ok(what) = decided {
            tx.draft.happen(id, what)?;
            tx.flush().await?;
        }
        let stored = sqlx::query(TASK).bind(rows::uuid(id)).fetch_one(&mut *tx.conn).await?;
        let task = rows::task(&stored, &mut tx.names)?;
        let running_under = task.life.session;
        Ok(Ok(Cancelled { task, changed, running_under }))
    }
}
