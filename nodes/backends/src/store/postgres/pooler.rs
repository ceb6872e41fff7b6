//! Whether a connection pooler stands between, and whether it is one that the store can work through.
//!
//! A pooler in transaction mode gives a client another server connection for each transaction. What the client has
//! prepared is on the one it had before: PgBouncer keeps account of that from 1.21, an older one does not, and the
//! store would fail now and then, once there is traffic. So it is provoked: a statement is prepared on one server
//! connection, that one is kept busy, and the statement is run again.

use super::fault::Fault;
use super::line::{connect, within};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, Row as _};
use std::time::Duration;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many server connections are kept busy: a pooler gives out the one that came back last.
const BUSY: usize = 2;

/// By a statement that is prepared.
const WHO: &str = "SELECT pg_backend_pid()";
/// By one that is not, and that keeps the server connection.
const KEEP: &str = "BEGIN; SELECT 1";
const SET: &str = "SELECT current_setting('plan_cache_mode') = 'force_custom_plan', \
                   current_setting('idle_in_transaction_session_timeout') <> '0'";

/// What stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or a pooler that gives each client a server connection for as long as it is there.
    Nothing,
    /// A pooler that the store can work through.
    Pooler,
    /// One that forgets what a client has prepared.
    Forgets,
    /// One whose server connections are not set up: this setting is not made.
    Unset(&'static str),
}

/// Looks what stands between. Both connections are new ones.
pub(super) async fn look(options: &PgConnectOptions) -> Result<Found, Fault> {
    within(PATIENCE, async {
        let mut client = connect(options).await?;
        let mut busy = Vec::new();
        let found = provoke(&mut client, &mut busy, options).await;
        for conn in busy.into_iter().chain([client]) {
            // Ends by itself if this fails.
            let _ = conn.close().await;
        }
        match found {
            Ok(false) => Ok(Found::Nothing),
            Ok(true) => unset(options).await,
            Err(Fault::Sql(sqlx::Error::Database(error))) if forgets(error.code().as_deref()) => {
                Ok(Found::Forgets)
            }
            Err(fault) => Err(fault),
        }
    })
    .await?
}

/// Whether a client gets another server connection if its last one is busy.
async fn provoke(
    client: &mut PgConnection,
    busy: &mut Vec<PgConnection>,
    options: &PgConnectOptions,
) -> Result<bool, Fault> {
    let first: i32 = sqlx::query_scalar(WHO).fetch_one(&mut *client).await?;
    for _ in 0..BUSY {
        let mut conn = connect(options).await?;
        sqlx::raw_sql(KEEP).execute(&mut conn).await?;
        busy.push(conn);
        let now: i32 = sqlx::query_scalar(WHO).fetch_one(&mut *client).await?;
        if now != first {
            return Ok(true);
        }
    }
    Ok(false)
}

/// No such statement; one of that name is there already, of another client.
fn forgets(code: Option<&str>) -> bool {
    matches!(code, Some("26000" | "42P05"))
}

async fn unset(options: &PgConnectOptions) -> Result<Found, Fault> {
    let mut conn = connect(options).await?;
    let sql = sqlx::raw_sql(SET).fetch_one(&mut conn).await?;
    let _ = conn.close().await;
    Ok(match (sql.try_get(0)?, sql.try_get(1)?) {
        (true, true) => Found::Pooler,
        (false, _) => Found::Unset("plan_cache_mode = force_custom_plan"),
        (_, false) => Found::Unset("idle_in_transaction_session_timeout = '2s'"),
    })
}
