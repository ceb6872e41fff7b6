//! Partitions: made ahead of time, dropped when their tasks are past retention.

use super::fault::Fault;
use super::line::{connect, within};
use super::rows;
use super::tx::Day;
use callboard_domain::TaskId;
use callboard_ports::store::Error;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;

/// How many days are made ahead.
const AHEAD: i64 = 7;
const DAY: Duration = Duration::from_secs(86_400);
/// How long all of it may take. What was not done then is done the next time.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a try may take to make days before anything is served, and the wait before the next.
const PREPARE: Duration = Duration::from_secs(10);
const PREPARE_AGAIN: Duration = Duration::from_millis(100);
/// How many request ids are forgotten in one statement.
const FORGOTTEN: i64 = 10_000;
/// Only one node at a time: any number, the same in all of them.
const LOCK: &str = "SELECT pg_try_advisory_lock(4909062530165047378)";
const TODAY: &str = "SELECT extract(epoch FROM clock_timestamp())::bigint / 86400";
const MAKE: &str = "SELECT callboard_make_day($1)";
/// The days there are partitions of, counted from 1970-01-01, that end before a day.
const OLD: &str = "SELECT (to_date(right(relname, 8), 'YYYYMMDD') - date '1970-01-01')::bigint AS day \
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
    WHERE inhparent = 'tasks'::regclass AND relname ~ '^tasks_[0-9]{8}$' \
        AND to_date(right(relname, 8), 'YYYYMMDD') - date '1970-01-01' < $1 \
    ORDER BY day";
/// All days there are partitions of.
const DAYS: &str = "SELECT (to_date(right(relname, 8), 'YYYYMMDD') - date '1970-01-01')::bigint, right(relname, 9) \
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
    WHERE inhparent = 'tasks'::regclass AND relname ~ '^tasks_[0-9]{8}$'";
const SUFFIX: &str = "SELECT to_char(date '1970-01-01' + $1::int, 'YYYYMMDD')";
const TALLY: &str = "SELECT state, count(*) FROM tasks \
    WHERE id >= callboard_day_start($1) AND id < callboard_day_start($1 + 1) GROUP BY state";
const FORGET: &str = "DELETE FROM task_requests WHERE task_id IN (SELECT task_id FROM task_requests \
    WHERE task_id >= callboard_day_start($1) AND task_id < callboard_day_start($1 + 1) LIMIT $2)";

/// What [`maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Days that were made.
    pub made: usize,
    /// Days that were dropped, with all of their tasks.
    pub dropped: usize,
    /// Days past retention that stay for now: they hold tasks that have not ended, or were in use.
    pub held_back: usize,
}

/// The partitions that are known to be there, by their day. A statement that names its partition has nothing to
/// choose: its plan holds for all values, and is made once.
#[derive(Debug, Default)]
pub(super) struct Days(RwLock<HashMap<u64, Arc<str>>>);

impl Days {
    /// What a table's name ends in for a day: nothing if no partition of that day is known.
    pub(super) fn suffix(&self, day: u64) -> Arc<str> {
        let days = self.0.read().unwrap_or_else(PoisonError::into_inner);
        days.get(&day).cloned().unwrap_or_default()
    }

    /// As [`Self::suffix`], for the day that all of these tasks are of: nothing if they are of several.
    pub(super) fn of_all(&self, ids: impl Iterator<Item = TaskId>) -> Arc<str> {
        let mut days = ids.map(Day::of);
        match days.next() {
            Some(first) if days.all(|day| day == first) => self.suffix(first),
            _ => Arc::default(),
        }
    }

    pub(super) fn forget(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn learn(&self, conn: &mut PgConnection) -> Result<(), Fault> {
        let mut days = HashMap::new();
        for sql in sqlx::query(DAYS).fetch_all(&mut *conn).await? {
            days.insert(rows::count(&sql, 0)?, rows::get::<&str>(&sql, 1)?.into());
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = days;
        Ok(())
    }
}

/// Makes the days ahead and drops those past retention, unless another node is at it.
pub(super) async fn maintain(
    options: &PgConnectOptions,
    retention: Option<Duration>,
    days: &Days,
) -> Result<Maintained, Error> {
    let run = async {
        let mut conn = connect(options).await?;
        let mut done = Maintained::default();
        if let Some(ahead) = make_ahead(&mut conn).await? {
            done.made = ahead.made;
            if let Some(retention) = retention {
                drop_old(&mut conn, ahead.today, retention, &mut done).await?;
            }
        }
        days.learn(&mut conn).await?;
        // The lock goes with the connection.
        let _ = conn.close().await;
        Ok(done)
    };
    within(PATIENCE, run).await.and_then(|done| done).map_err(|fault| Error::from(&fault))
}

/// Makes the days ahead before anything is served: nobody may have been there to do it for long. Without it
/// tasks are refused for now, so whoever cannot do it goes on.
pub(super) async fn prepare(options: &PgConnectOptions, patience: Duration, days: &Days) {
    let deadline = Instant::now() + patience;
    loop {
        let run = async {
            let mut conn = connect(options).await?;
            let ahead = make_ahead(&mut conn).await?;
            days.learn(&mut conn).await?;
            let _ = conn.close().await;
            Ok(ahead.is_some())
        };
        let failed = match within(PREPARE, run).await.and_then(|done| done) {
            Ok(true) => return,
            Ok(false) => None,
            Err(fault) => Some(fault),
        };
        if Instant::now() >= deadline {
            match failed {
                Some(error) => tracing::warn!(%error, "cannot make the partitions of the days ahead"),
                None => tracing::info!("another node is making the partitions of the days ahead"),
            }
            return;
        }
        tokio::time::sleep(PREPARE_AGAIN).await;
    }
}

/// What [`make_ahead`] found and did.
struct Ahead {
    /// Counted from 1970-01-01.
    today: i64,
    /// How many days it made.
    made: usize,
}

/// Makes the days ahead; none if another node is at it. The connection keeps others from it from now on.
async fn make_ahead(conn: &mut PgConnection) -> Result<Option<Ahead>, Fault> {
    let mine: bool = sqlx::query_scalar(LOCK).fetch_one(&mut *conn).await?;
    if !mine {
        return Ok(None);
    }
    let today: i64 = sqlx::query_scalar(TODAY).fetch_one(&mut *conn).await?;
    let mut made = 0;
    for day in today - 1..=today + AHEAD {
        let is_new: bool = sqlx::query_scalar(MAKE).bind(day).fetch_one(&mut *conn).await?;
        made += usize::from(is_new);
    }
    Ok(Some(Ahead { today, made }))
}

async fn drop_old(
    conn: &mut PgConnection,
    today: i64,
    retention: Duration,
    done: &mut Maintained,
) -> Result<(), Fault> {
    let days = i64::try_from(retention.as_secs().div_ceil(DAY.as_secs())).unwrap_or(i64::MAX);
    let old: Vec<i64> =
        sqlx::query_scalar(OLD).bind(today.saturating_sub(days)).fetch_all(&mut *conn).await?;
    for day in old {
        match drop_day(conn, day).await {
            Ok(true) => done.dropped += 1,
            Ok(false) => done.held_back += 1,
            Err(Fault::Sql(sqlx::Error::Database(e))) if e.code().as_deref() == Some("55P03") => {
                tracing::info!(day, "a partition past retention is in use, it is dropped later");
                done.held_back += 1;
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Drops a day, unless one of its tasks has not ended.
async fn drop_day(conn: &mut PgConnection, day: i64) -> Result<bool, Fault> {
    // Once all have ended nothing changes there any more: counted without a lock, that stays true.
    let mut totals = [0_i64; 6];
    for sql in sqlx::query(TALLY).bind(day).fetch_all(&mut *conn).await? {
        let state = rows::state(&sql, 0)?;
        if !state.is_terminal() {
            tracing::info!(day, "a partition past retention holds tasks that have not ended, it stays");
            return Ok(false);
        }
        if let Some(total) = totals.get_mut(state as usize) {
            *total = sql.try_get(1)?;
        }
    }
    while sqlx::query(FORGET).bind(day).bind(FORGOTTEN).execute(&mut *conn).await?.rows_affected() > 0 {}
    let suffix: String =
        sqlx::query_scalar(SUFFIX).bind(i32::try_from(day).unwrap_or_default()).fetch_one(&mut *conn).await?;
    let [_, _, _, succeeded, failed, cancelled] = totals;
    let drop = format!(
        "BEGIN; \
         DROP TABLE tasks_{suffix}, task_inputs_{suffix}, task_results_{suffix}, task_events_{suffix}; \
         UPDATE task_totals SET succeeded = succeeded - {succeeded}, failed = failed - {failed}, \
         cancelled = cancelled - {cancelled} WHERE shard = 0; COMMIT"
    );
    let dropped = conn.execute(sqlx::raw_sql(AssertSqlSafe(drop))).await;
    if let Err(error) = dropped {
        conn.execute("ROLLBACK").await?;
        return Err(error.into());
    }
    Ok(true)
}
