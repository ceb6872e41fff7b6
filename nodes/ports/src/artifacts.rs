//! Images and large results, named by the SHA-256 of their bytes.

use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::ArtifactDigest;
use futures::stream::BoxStream;

/// Why an artifact was not stored or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such artifact.
    #[error("there is no such artifact")]
    NotFound,
    /// It is over [`callboard_domain::limits::ARTIFACT_BYTES`].
    #[error("the artifact has {0} bytes, over the limit")]
    TooLarge(usize),
    /// The place that holds artifacts cannot be written or read.
    #[error("artifacts are unavailable: {0}")]
    Unavailable(String),
    /// The bytes are not those of the digest.
    #[error("the artifact is damaged: its bytes do not have its digest")]
    Damaged,
}

/// An artifact to read.
pub struct Artifact {
    /// Its size.
    pub size: u64,
    /// Its media type, for example `image/png`.
    pub media_type: String,
    /// Its bytes, in parts of at most 64 KiB.
    pub data: BoxStream<'static, Result<Bytes, Error>>,
}

/// Keeps artifacts. Putting the same bytes again changes nothing; what `put` returned is durable.
#[async_trait]
pub trait Artifacts: Send + Sync + 'static {
    /// Stores an artifact and returns its name.
    async fn put(&self, data: Bytes, media_type: &str) -> Result<ArtifactDigest, Error>;

    /// Opens an artifact.
    ///
    /// # Errors
    /// [`Error::NotFound`]; damaged bytes end the stream with [`Error::Damaged`].
    async fn get(&self, digest: ArtifactDigest) -> Result<Artifact, Error>;
}
