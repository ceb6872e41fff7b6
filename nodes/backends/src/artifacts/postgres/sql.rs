//! The statements of the artifacts.

use super::chunks;
use crate::store::postgres::pool::Pool;
use callboard_domain::ArtifactDigest;
use sqlx::{Connection as _, PgConnection, Row as _};
use std::collections::HashMap;

/// Somebody else may be putting the same bytes: that takes as long as it takes to write them.
const PATIENT: &str = "SET LOCAL lock_timeout = '10s'";
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const INSERT: &str = "INSERT INTO artifacts (digest, size, media_type, created_at, put_at) \
     VALUES ($1, $2, $3, $4, $4) ON CONFLICT (digest) DO NOTHING";
const PUT_AGAIN: &str = "UPDATE artifacts SET size = $2, put_at = $3 WHERE digest = $1";
const SUMS: &str = "SELECT number, sha256(data) FROM artifact_chunks WHERE digest = $1";
const WRITE: &str = "INSERT INTO artifact_chunks (digest, number, data) VALUES ($1, $2, $3) \
     ON CONFLICT (digest, number) DO UPDATE SET data = excluded.data";
const CUT: &str = "DELETE FROM artifact_chunks WHERE digest = $1 AND number >= $2";
const HEAD: &str = "SELECT size, media_type FROM artifacts WHERE digest = $1";
const CHUNK: &str = "SELECT data FROM artifact_chunks WHERE digest = $1 AND number = $2";

/// An artifact to write.
pub(super) struct Put<'a> {
    pub(super) digest: ArtifactDigest,
    pub(super) media_type: &'a str,
    pub(super) data: &'a [u8],
    /// The digest of each chunk.
    pub(super) sums: &'a [[u8; 32]],
}

impl Put<'_> {
    /// Writes it, or what is missing or wrong of it.
    pub(super) async fn run(&self, pool: &Pool) -> Result<(), sqlx::Error> {
        let mut connection = pool.take().await?;
        let mut tx = connection.begin().await?;
        sqlx::query(PATIENT).execute(&mut *tx).await?;
        let now: i64 = sqlx::query_scalar(NOW).fetch_one(&mut *tx).await?;
        let size = i64::try_from(self.data.len()).unwrap_or(i64::MAX);
        let digest = self.digest.as_bytes();
        let new = sqlx::query(INSERT).bind(&digest[..]).bind(size).bind(self.media_type).bind(now);
        let mut stored = HashMap::new();
        if new.execute(&mut *tx).await?.rows_affected() == 0 {
            let put = sqlx::query(PUT_AGAIN).bind(&digest[..]).bind(size).bind(now);
            put.execute(&mut *tx).await?;
            stored = self.stored(&mut tx).await?;
        }
        for ((number, chunk), sum) in (0_i32..).zip(chunks(self.data)).zip(self.sums) {
            if stored.remove(&number).as_deref() != Some(&sum[..]) {
                sqlx::query(WRITE).bind(&digest[..]).bind(number).bind(chunk).execute(&mut *tx).await?;
            }
        }
        if !stored.is_empty() {
            let end = i32::try_from(self.sums.len()).unwrap_or(i32::MAX);
            sqlx::query(CUT).bind(&digest[..]).bind(end).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        connection.give_back();
        Ok(())
    }

    async fn stored(&self, tx: &mut PgConnection) -> Result<HashMap<i32, Vec<u8>>, sqlx::Error> {
        let rows = sqlx::query(SUMS).bind(&self.digest.as_bytes()[..]).fetch_all(tx).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// The size and the media type of an artifact.
pub(super) async fn head(pool: &Pool, digest: ArtifactDigest) -> Result<Option<(u64, String)>, sqlx::Error> {
    let row = pool.first(sqlx::query(HEAD).bind(&digest.as_bytes()[..])).await?;
    let read = |row: sqlx::postgres::PgRow| {
        let size: i64 = row.try_get(0)?;
        Ok((u64::try_from(size).unwrap_or(0), row.try_get(1)?))
    };
    row.map(read).transpose()
}

/// The bytes of a chunk.
pub(super) async fn chunk(
    pool: &Pool,
    digest: ArtifactDigest,
    number: i32,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let row = pool.first(sqlx::query(CHUNK).bind(&digest.as_bytes()[..]).bind(number)).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Whether the next try may succeed at once: a connection that broke, a deadlock, a lock that was waited for.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code();
            let code = code.as_deref().unwrap_or_default();
            code.starts_with("08") || ["25P03", "40001", "40P01", "55P03", "57P01", "57P02"].contains(&code)
        }
        _ => false,
    }
}
