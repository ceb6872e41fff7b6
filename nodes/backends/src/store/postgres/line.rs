//! A connection that writes, and the one way a transaction is run on it.
//!
//! - A connection is opened when it is needed and dropped once it has failed.
//! - Work that clashed with another's, or whose connection was found dead before anything was committed,
//!   is run again; so it must start from nothing each time.
//! - Every wait has an end: a server that does not answer is as good as gone.

use super::draft::Draft;
use super::fault::{Blame, Fault};
use super::partitions::Days;
use super::rows;
use super::teller::Teller;
use super::tx::{Recent, Tx};
use crate::store::names::Names;
use callboard_domain::{SessionId, Timestamp};
use callboard_ports::Clock;
use callboard_ports::planted::Bug;
use callboard_ports::store::{Commit, Error};
use callboard_ports::taker::Taker;
use callboard_ports::trace::Tracer;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a connection may take to open.
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// How often work that clashes is run.
const TRIES: u32 = 8;

/// A table that was empty when it was looked at is taken for empty: then each of its rows is compared with every
/// item of a batch, and 500 rows take 80 ms instead of 2. Said here and not to the connection, so that it holds
/// through a pooler too. The second column is that of the sessions that may follow, see [`begin`].
const BEGIN: &str = "BEGIN; SET LOCAL enable_nestloop = off; \
                     SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, NULL::uuid";

/// For transactions whose statements name their partition: their plans hold for all values.
const GENERIC: &str = "; SET LOCAL plan_cache_mode = force_generic_plan";

/// What all lines of a store share.
pub(super) struct Context {
    /// Tests put a clock of their own in the place of the server's.
    pub(super) clock: Option<Arc<dyn Clock>>,
    /// Random numbers in `0.0..1.0`.
    pub(super) jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    pub(super) teller: Arc<Teller>,
    pub(super) recent: Recent,
    pub(super) days: Days,
    pub(super) commits: AtomicU64,
    /// Who takes tasks as they are admitted.
    pub(super) taker: OnceLock<Arc<dyn Taker>>,
    pub(super) tracer: Tracer,
}

/// Work inside a transaction. It may be run more than once: what it wrote before was undone then.
pub(super) trait Work: Send {
    /// What it answers.
    type Out: Send;

    /// Whether it is hot: its statements name their partition, and are planned once.
    const IS_HOT: bool = false;

    /// The sessions it is done under: those that are live are held so until the commit, and named in [`Tx::live`].
    fn sessions(&self) -> Vec<SessionId> {
        Vec::new()
    }

    /// Does it. [`Tx::flush`] is called for it.
    fn run<'a>(
        &'a mut self,
        tx: &'a mut Tx<'_>,
    ) -> impl Future<Output = Result<Self::Out, Fault>> + Send + 'a;
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing was committed.
    Before(Fault),
    /// Whether it was committed is not known. If it was, this is what the observers were not told.
    Unknown { fault: Fault, commit: Box<Commit> },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(fault) => fault.fmt(f),
            Self::Unknown { fault, .. } => write!(f, "it is not known whether it was committed: {fault}"),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Before(fault) => Self::from(&fault),
            Failed::Unknown { fault, .. } => Self::Unknown(fault.to_string()),
        }
    }
}

/// A connection that writes.
pub(super) struct Line {
    options: PgConnectOptions,
    context: Arc<Context>,
    /// The shard of the totals that its commits add to.
    shard: i32,
    /// How long the statements of one transaction may take together, and its commit.
    patience: Duration,
    conn: Option<PgConnection>,
}

impl Line {
    pub(super) fn new(
        options: PgConnectOptions,
        context: Arc<Context>,
        shard: i32,
        patience: Duration,
    ) -> Self {
        Self { options, context, shard, patience, conn: None }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Runs work in a transaction and tells the observers.
    pub(super) async fn run<W: Work>(&mut self, work: &mut W) -> Result<W::Out, Failed> {
        let (mut tries, mut trusts) = (0, !Bug::ClaimSkipsLocked.is_planted());
        loop {
            let reused = self.conn.is_some();
            let failed = match self.attempt(work, trusts).await {
                Err(Failed::Before(fault)) => fault,
                done => return done,
            };
            (tries, trusts) = (tries + 1, false);
            if failed.lacks_table() {
                // A partition that another node has dropped.
                self.context.days.forget();
            }
            let again = match failed.blame() {
                Blame::Clash => tries < TRIES,
                // It had died since it was used last, perhaps with the server. A fresh one may do.
                Blame::Connection => reused,
                Blame::Data | Blame::Server => false,
            };
            if !again {
                return Err(Failed::Before(failed));
            }
            tracing::debug!(error = %failed, "a transaction is run again");
        }
    }

    async fn attempt<W: Work>(&mut self, work: &mut W, trusts: bool) -> Result<W::Out, Failed> {
        // Taken out: whoever stops half-way leaves no connection in an unknown state behind.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => connect(&self.options).await.map_err(Failed::Before)?,
        };
        let done = self.transact(&mut conn, work, trusts).await;
        match &done {
            Ok(_) => self.conn = Some(conn),
            Err(Failed::Before(fault)) if fault.blame() != Blame::Connection => {
                if matches!(within(self.patience, conn.execute("ROLLBACK")).await, Ok(Ok(_))) {
                    self.conn = Some(conn);
                }
            }
            Err(_) => {}
        }
        done
    }

    async fn transact<W: Work>(
        &self,
        conn: &mut PgConnection,
        work: &mut W,
        trusts: bool,
    ) -> Result<W::Out, Failed> {
        let context = &*self.context;
        let run = async {
            let begin = AssertSqlSafe(begin(&work.sessions(), W::IS_HOT));
            let begun = sqlx::raw_sql(begin).fetch_all(&mut *conn).await?;
            let mut begun = begun.iter();
            let time = begun.next().ok_or(sqlx::Error::RowNotFound)?;
            let now = match &context.clock {
                Some(clock) => clock.now(),
                None => Timestamp::from_micros(time.try_get(0)?),
            };
            let live = begun.map(|held| Ok(SessionId::new(held.try_get(1)?)));
            let mut tx = Tx {
                conn: &mut *conn,
                draft: Draft::new(now),
                jitter: &*context.jitter,
                names: Names::default(),
                recent: &context.recent,
                days: &context.days,
                trusts,
                live: live.collect::<Result<_, sqlx::Error>>()?,
            };
            let out = work.run(&mut tx).await?;
            tx.flush().await?;
            Ok((out, tx.into_draft()))
        };
        let (out, draft) = within(self.patience, run).await.and_then(|done| done).map_err(Failed::Before)?;
        let turn = context.teller.turn(&draft.commit);
        if Bug::PublishBeforeCommit.is_planted() {
            context.teller.tell(&draft.commit);
        }
        let end = end(&draft.totals, self.shard);
        let committed = within(self.patience, conn.execute(sqlx::raw_sql(AssertSqlSafe(end)))).await;
        match committed.and_then(|done| Ok(done?)) {
            Ok(_) => {
                context.commits.fetch_add(1, Ordering::Relaxed);
                context.recent.committed(&draft);
                if !Bug::PublishBeforeCommit.is_planted() {
                    turn.tell(&draft.commit).await;
                }
                Ok(out)
            }
            Err(fault) if fault.blame() == Blame::Connection => {
                Err(Failed::Unknown { fault, commit: Box::new(draft.commit) })
            }
            Err(fault) => Err(Failed::Before(fault)),
        }
    }

    /// Ends the connection in good order.
    pub(super) async fn close(&mut self) {
        use sqlx::Connection as _;
        if let Some(conn) = self.conn.take() {
            // The server notices by itself if this is not said.
            let _ = within(CONNECT, conn.close()).await;
        }
    }
}

/// Opens a connection.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Fault> {
    Ok(within(CONNECT, options.connect()).await??)
}

/// Waits no longer than that.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::time::timeout(limit, future).await.map_err(|_| Fault::TimedOut(limit.as_secs()))
}

/// The first statements of a transaction, sent as one. Whoever ends one of the sessions waits for the commit, and
/// then finds what was claimed under it; a renewal does not wait.
fn begin(sessions: &[SessionId], is_hot: bool) -> String {
    let generic = if is_hot { GENERIC } else { "" };
    if sessions.is_empty() {
        return format!("{BEGIN}{generic}");
    }
    let ids: Vec<String> = sessions.iter().map(|id| format!("'{}'", rows::session_uuid(*id))).collect();
    format!(
        "{BEGIN}{generic}; SELECT 0::bigint, id FROM node_sessions WHERE id IN ({}) AND ended_at IS NULL ORDER BY id FOR KEY SHARE",
        ids.join(", ")
    )
}

/// The last statements of a transaction, sent as one: the totals' row is locked for as short as can be.
fn end(totals: &[i64; 6], shard: i32) -> String {
    const COLUMNS: [&str; 6] = ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"];
    let changes: Vec<String> = COLUMNS
        .iter()
        .zip(totals)
        .filter(|(_, change)| **change != 0)
        .map(|(column, change)| format!("{column} = {column} + ({change})"))
        .collect();
    if changes.is_empty() {
        return "COMMIT".into();
    }
    format!("UPDATE task_totals SET {} WHERE shard = {shard}; COMMIT", changes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_ends_with_its_totals() {
        assert_eq!(end(&[0; 6], 3), "COMMIT");
        assert_eq!(
            end(&[0, -2, 2, 0, 0, 0], 3),
            "UPDATE task_totals SET queued = queued + (-2), running = running + (2) WHERE shard = 3; COMMIT"
        );
    }
}
