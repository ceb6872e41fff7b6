//! The ledger in PostgreSQL, on a connection of its own: it waits for no task, and none waits for it.
//!
//! Each source has rows of its own, so nodes do not wait for each other, and an exchange may be repeated without harm. What
//! was answered is committed, as all of the store is.
//!
//! The table is made by the migrations of the store.

use crate::store::postgres::pool::Pool;
use async_trait::async_trait;
use callboard_domain::Timestamp;
use callboard_ports::ledger::{self, Balance, Error};
use sqlx::Row as _;
use std::collections::HashMap;
use std::time::Duration;

const TELL: &str = "INSERT INTO ledger (account, source, number, total, kept_until) \
     SELECT account, $2, $3, total, kept_until \
     FROM UNNEST($1::text[], $4::bigint[], $5::bigint[]) AS told (account, total, kept_until) \
     ON CONFLICT (account, source) DO UPDATE SET number = excluded.number, total = excluded.total, \
         kept_until = GREATEST(ledger.kept_until, excluded.kept_until) \
     WHERE ledger.number < excluded.number";
/// A sum of many totals may be over what fits.
const READ: &str = "SELECT account, \
         GREATEST(LEAST(SUM(total), 9223372036854775807), -9223372036854775808)::bigint AS sum \
     FROM ledger WHERE account = ANY($1) GROUP BY account";
/// So many rows at once: whoever has to forget more does the rest the next time.
const FORGET: &str = "DELETE FROM ledger WHERE (account, source) IN \
     (SELECT account, source FROM ledger WHERE kept_until < $1 LIMIT 10000)";
/// How long an exchange may take in all.
const WITHIN: Duration = Duration::from_secs(5);

/// The ledger in PostgreSQL. Clones share the connection.
#[derive(Clone)]
pub struct Ledger {
    pool: Pool,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// The ledger in the database of a pool.
    #[must_use]
    pub(crate) const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    async fn tell(&self, source: &str, number: i64, own: &[Balance]) -> Result<(), sqlx::Error> {
        if own.is_empty() {
            return Ok(());
        }
        let accounts: Vec<&str> = own.iter().map(|balance| balance.account.as_str()).collect();
        let totals: Vec<i64> = own.iter().map(|balance| balance.total).collect();
        let until: Vec<i64> = own.iter().map(|balance| balance.until.micros()).collect();
        let told = sqlx::query(TELL).bind(accounts).bind(source).bind(number).bind(totals).bind(until);
        self.pool.all(told).await.map(drop)
    }

    async fn sums(&self, accounts: &[String]) -> Result<Vec<i64>, sqlx::Error> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let mut sums = HashMap::new();
        for row in self.pool.all(sqlx::query(READ).bind(accounts)).await? {
            sums.insert(row.try_get::<String, _>("account")?, row.try_get::<i64, _>("sum")?);
        }
        Ok(accounts.iter().map(|account| sums.get(account).copied().unwrap_or(0)).collect())
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(WITHIN, call).await {
        Ok(answer) => answer.map_err(|error| Error::Unavailable(error.to_string())),
        Err(_) => Err(Error::Unavailable(format!("no answer within {} s", WITHIN.as_secs()))),
    }
}

#[async_trait]
impl ledger::Ledger for Ledger {
    async fn exchange(
        &self,
        source: &str,
        number: u64,
        own: &[Balance],
        read: &[String],
    ) -> Result<Vec<i64>, Error> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        in_time(async {
            self.tell(source, number, own).await?;
            self.sums(read).await
        })
        .await
    }

    async fn forget(&self, now: Timestamp) -> Result<(), Error> {
        in_time(async { self.pool.all(sqlx::query(FORGET).bind(now.micros())).await.map(drop) }).await
    }
}
