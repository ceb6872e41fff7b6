//! The contract of [`Artifacts`].

use crate::artifacts::{Artifact, Artifacts, Error};
use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::{ArtifactDigest, limits};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;

/// A fresh place for artifacts, empty.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The place.
    fn artifacts(&self) -> Arc<dyn Artifacts>;

    /// The same place, opened anew: what a restarted node sees.
    async fn reopened(&self) -> Arc<dyn Artifacts>;

    /// Turns one bit in the middle of an artifact's stored bytes behind the backend's back.
    async fn damage(&self, digest: ArtifactDigest);
}

/// The most bytes of one part of a stream.
const PART: usize = 64 << 10;
const PNG: &str = "image/png";

async fn open(artifacts: &Arc<dyn Artifacts>, digest: ArtifactDigest) -> Artifact {
    artifacts.get(digest).await.expect("a stored artifact opens")
}

async fn bytes_of(artifacts: &Arc<dyn Artifacts>, digest: ArtifactDigest) -> Vec<u8> {
    let parts: Vec<Bytes> = open(artifacts, digest).await.data.try_collect().await.expect("it is read");
    parts.concat()
}

/// Bytes that no compression and no fill pattern would give back by chance.
fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// An artifact is named by the SHA-256 of its bytes, and comes back as it was put: bytes, size, media type.
pub async fn gives_back_what_was_put(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    let digest = artifacts.put(Bytes::from_static(b"abc"), PNG).await.expect("an artifact is stored");
    let known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest.to_string(), known);
    let artifact = open(&artifacts, digest).await;
    assert_eq!((artifact.size, artifact.media_type.as_str()), (3, PNG));
    assert_eq!(bytes_of(&artifacts, digest).await, b"abc");
}

/// What was put is there for who opens the place anew.
pub async fn what_was_put_is_durable(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    let data = noise(3 * PART + 17);
    let digest =
        artifacts.put(data.clone(), "text/plain; charset=utf-8").await.expect("an artifact is stored");
    let artifacts = fixture.reopened().await;
    assert_eq!(open(&artifacts, digest).await.media_type, "text/plain; charset=utf-8");
    assert_eq!(bytes_of(&artifacts, digest).await, data);
}

/// Sizes at the borders of a part are read whole, in parts no larger than promised.
pub async fn streams_in_parts(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    for size in [0, 1, PART - 1, PART, PART + 1, 5 * PART, (1 << 20) + 3] {
        let data = noise(size);
        let digest = artifacts.put(data.clone(), PNG).await.expect("an artifact is stored");
        let artifact = open(&artifacts, digest).await;
        assert_eq!(artifact.size, size as u64);
        let parts: Vec<Bytes> = artifact.data.try_collect().await.expect("it is read");
        assert!(
            parts.iter().all(|p| p.len() <= PART),
            "{:?}",
            parts.iter().map(Bytes::len).collect::<Vec<_>>()
        );
        assert_eq!(parts.concat(), data, "{size} bytes");
    }
}

/// Putting the same bytes again changes nothing, whatever they are said to be, also by many at once.
pub async fn the_same_bytes_are_one_artifact(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    let data = noise(2 * PART);
    let first = artifacts.put(data.clone(), PNG).await.expect("an artifact is stored");
    let puts = (0..16).map(|i| artifacts.put(data.clone(), if i % 2 == 0 { PNG } else { "image/jpeg" }));
    for digest in futures::future::join_all(puts).await {
        assert_eq!(digest, Ok(first));
    }
    assert_eq!(open(&artifacts, first).await.media_type, PNG);
    assert_eq!(bytes_of(&artifacts, first).await, data);
    let fresh = noise(PART);
    let puts = (0..16).map(|_| artifacts.put(fresh.clone(), PNG));
    let digests = futures::future::join_all(puts).await;
    assert!(digests.iter().all(|d| d.is_ok() && *d == digests[0]), "{digests:?}");
    assert_eq!(bytes_of(&artifacts, digests[0].clone().expect("stored")).await, fresh);
}

/// An artifact at the limit is stored, one over it is refused.
pub async fn an_artifact_over_the_limit_is_refused(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    let data = Bytes::from(vec![7; limits::ARTIFACT_BYTES + 1]);
    let over = artifacts.put(data.clone(), PNG).await;
    assert_eq!(over, Err(Error::TooLarge(limits::ARTIFACT_BYTES + 1)));
    let digest = artifacts.put(data.slice(1..), PNG).await.expect("an artifact at the limit is stored");
    let mut artifact = open(&artifacts, digest).await;
    let mut size = 0;
    while let Some(part) = artifact.data.next().await {
        size += part.expect("it is read").len();
    }
    assert_eq!(size, limits::ARTIFACT_BYTES);
}

/// What was never put is not found.
pub async fn an_unknown_artifact_is_not_found(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    let unknown = ArtifactDigest::new([7; 32]);
    assert_eq!(artifacts.get(unknown).await.err(), Some(Error::NotFound));
    artifacts.put(noise(10), PNG).await.expect("an artifact is stored");
    assert_eq!(artifacts.get(unknown).await.err(), Some(Error::NotFound));
}

/// Damaged bytes are never taken for whole ones: the stream ends with the error. Putting the bytes again heals.
pub async fn damaged_bytes_are_noticed(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    for size in [1, PART, 3 * PART + 5] {
        let data = noise(size);
        let digest = artifacts.put(data.clone(), PNG).await.expect("an artifact is stored");
        fixture.damage(digest).await;
        let answers: Vec<_> = match artifacts.get(digest).await {
            Ok(artifact) => artifact.data.collect().await,
            Err(error) => vec![Err(error)],
        };
        assert_eq!(answers.last(), Some(&Err(Error::Damaged)), "{size} bytes");
        assert_eq!(answers.iter().filter(|a| a.is_err()).count(), 1, "and only ends");
        assert_eq!(artifacts.put(data.clone(), PNG).await, Ok(digest));
        assert_eq!(bytes_of(&artifacts, digest).await, data, "put again, it is whole again");
    }
}

/// A reader that stops in the middle, or reads late, harms nobody.
pub async fn readers_are_independent(fixture: impl Fixture) {
    let artifacts = fixture.artifacts();
    let data = noise(8 * PART);
    let digest = artifacts.put(data.clone(), PNG).await.expect("an artifact is stored");
    let mut stopped = open(&artifacts, digest).await;
    stopped.data.next().await.expect("a first part").expect("it is read");
    let late = open(&artifacts, digest).await;
    drop(stopped);
    assert_eq!(bytes_of(&artifacts, digest).await, data);
    let parts: Vec<Bytes> = late.data.try_collect().await.expect("it is read");
    assert_eq!(parts.concat(), data);
}

/// Runs the contract of `Artifacts` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::artifacts::Fixture).
#[macro_export]
macro_rules! artifacts_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            artifacts,
            [
                gives_back_what_was_put,
                what_was_put_is_durable,
                streams_in_parts,
                the_same_bytes_are_one_artifact,
                an_artifact_over_the_limit_is_refused,
                an_unknown_artifact_is_not_found,
                damaged_bytes_are_noticed,
                readers_are_independent,
            ]
        );
    };
}
