//! Artifacts in PostgreSQL, as chunks, each artifact named by its SHA-256.
//!
//! An artifact is there with all its chunks or not at all: both are written in one transaction. Putting one that
//! is there already compares what is stored, on the server, and writes only chunks that are not what they were.
//! A reader holds one chunk at a time and no connection in between, and gives out the last part only once the
//! whole has its digest. Nothing is ever removed here.
//!
//! The tables are made by the migrations of the store.

mod sql;

use crate::store::postgres::pool::Pool;
use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::{ArtifactDigest, limits};
use callboard_ports::artifacts::{self, Artifact, Error};
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::time::Duration;

/// The most bytes of one chunk.
const CHUNK: usize = 256 << 10;
/// The most bytes of one part of a stream.
const PART: usize = 64 << 10;
/// The most bytes of a media type.
const MEDIA_TYPE: usize = 127;
/// What an artifact is whose media type is not known.
const UNKNOWN: &str = "application/octet-stream";
/// How often a call is tried: connections break, and every call may be repeated without harm.
const TRIES: usize = 3;
/// How long a try may take that reads, a chunk at the most, and how long one that writes all of an artifact.
const READ: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(60);

/// Artifacts in PostgreSQL. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Artifacts {
    pool: Pool,
}

impl Artifacts {
    /// Artifacts in the database of a pool. A put holds a connection until all is written, a reader only for
    /// each chunk: a pool of its own keeps them out of the way of tasks.
    #[must_use]
    pub(crate) const fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl artifacts::Artifacts for Artifacts {
    /// A media type that is none (empty, over 127 bytes or not plain ASCII) is kept as
    /// `application/octet-stream`.
    async fn put(&self, data: Bytes, media_type: &str) -> Result<ArtifactDigest, Error> {
        if data.len() > limits::ARTIFACT_BYTES {
            return Err(Error::TooLarge(data.len()));
        }
        let media_type = sound(media_type);
        let (digest, sums) = hashed(data.clone()).await?;
        let put = sql::Put { digest, media_type, data: &data, sums: &sums };
        again(WRITE, || put.run(&self.pool).boxed()).await?;
        Ok(digest)
    }

    async fn get(&self, digest: ArtifactDigest) -> Result<Artifact, Error> {
        let found = again(READ, || sql::head(&self.pool, digest).boxed()).await?;
        let (size, media_type) = found.ok_or(Error::NotFound)?;
        let reader = Reader {
            pool: self.pool.clone(),
            digest,
            hash: Sha256::new(),
            next: 0,
            left: size,
            parts: VecDeque::new(),
        };
        let parts = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(part)) => Some((Ok(part), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Artifact { size, media_type: sound(&media_type).to_owned(), data: Box::pin(parts) })
    }
}

fn sound(media_type: &str) -> &str {
    let plain = media_type.bytes().all(|b| (b' '..=b'~').contains(&b));
    if plain && (1..=MEDIA_TYPE).contains(&media_type.len()) { media_type } else { UNKNOWN }
}

/// The chunks of an artifact; an empty one has none.
fn chunks(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.chunks(CHUNK)
}

/// The digest of the whole and of each chunk, computed where it holds up nobody.
async fn hashed(data: Bytes) -> Result<(ArtifactDigest, Vec<[u8; 32]>), Error> {
    let work = move || {
        let sums = chunks(&data).map(|chunk| Sha256::digest(chunk).into()).collect();
        (ArtifactDigest::new(Sha256::digest(&data).into()), sums)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Unavailable(error.to_string()))
}

/// Tries a call again where the server may answer the next one. All calls here may be repeated, also those
/// whose commit is in doubt. One that gets no answer has had its time.
async fn again<'a, T>(
    limit: Duration,
    call: impl Fn() -> BoxFuture<'a, Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        let answer = tokio::time::timeout(limit, call()).await;
        let answer = answer.map_err(|_| {
            Error::Unavailable(format!("the server did not answer within {} s", limit.as_secs()))
        })?;
        match answer {
            Err(error) if tries < TRIES && sql::is_passing(&error) => tries += 1,
            answer => return answer.map_err(|error| Error::Unavailable(error.to_string())),
        }
    }
}

/// Reads an artifact chunk by chunk and checks what it has read.
struct Reader {
    pool: Pool,
    digest: ArtifactDigest,
    hash: Sha256,
    /// The number of the next chunk.
    next: i32,
    /// How many bytes have not been read.
    left: u64,
    /// What was read and not given out.
    parts: VecDeque<Bytes>,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(part) = self.parts.pop_front() {
            return Ok(Some(part));
        }
        if self.next == 0 && self.left == 0 {
            self.next = 1;
            return self.check().map(|()| None);
        }
        if self.left == 0 {
            return Ok(None);
        }
        let chunk = again(READ, || sql::chunk(&self.pool, self.digest, self.next).boxed()).await?;
        // It has become shorter than it was when it was opened.
        let chunk = Bytes::from(chunk.ok_or(Error::Damaged)?);
        self.hash.update(&chunk);
        self.next += 1;
        let read = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(read).filter(|_| read > 0).ok_or(Error::Damaged)?;
        if self.left == 0 {
            self.check()?;
        }
        self.parts =
            (0..chunk.len()).step_by(PART).map(|at| chunk.slice(at..chunk.len().min(at + PART))).collect();
        Ok(self.parts.pop_front())
    }

    fn check(&self) -> Result<(), Error> {
        let read = ArtifactDigest::new(self.hash.clone().finalize().into());
        if read == self.digest { Ok(()) } else { Err(Error::Damaged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_that_is_none_is_not_kept() {
        for wrong in ["", "text/plain\n", "té/xt", &"x".repeat(128)] {
            assert_eq!(sound(wrong), UNKNOWN, "{wrong}");
        }
        assert_eq!(sound("image/png"), "image/png");
    }

    #[tokio::test]
    async fn every_chunk_has_a_digest() {
        let (_, sums) = hashed(Bytes::from(vec![7; 2 * CHUNK + 1])).await.unwrap();
        assert_eq!(sums.len(), 3);
        assert_eq!(sums[0], sums[1]);
        assert_eq!(sums[2], <[u8; 32]>::from(Sha256::digest([7])));
        assert_eq!(hashed(Bytes::new()).await.unwrap().1.len(), 0);
    }
}
