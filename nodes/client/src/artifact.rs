//! Artifacts: read as a stream, or straight into a writer.

use crate::call::Repeat;
use crate::client::{ANSWER_BYTES, Client};
use crate::error::{Error, Origin};
use bytes::Bytes;
use callboard_contracts::v1::{self, artifact_service_client::ArtifactServiceClient};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// An artifact that is being read.
#[derive(Debug)]
pub struct Artifact {
    /// The size of the whole in bytes.
    pub size_bytes: u64,
    /// The media type, for example `image/png`.
    pub media_type: String,
    /// The first message, until it is read.
    first: Option<v1::GetArtifactResponse>,
    rest: Streaming<v1::GetArtifactResponse>,
    /// How many bytes were read.
    read: u64,
}

fn service(channel: Channel) -> ArtifactServiceClient<Channel> {
    ArtifactServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES)
}

impl Client {
    /// Opens an artifact by its digest (`sha256:` and 64 hexadecimal digits). Its bytes come with
    /// [`Artifact::next`] or [`Artifact::write_to`].
    ///
    /// # Errors
    /// `ARTIFACT_NOT_FOUND`, or that the server could not be reached in time.
    pub async fn artifact(&self, digest: &str) -> Result<Artifact, Error> {
        let message = v1::GetArtifactRequest { digest: digest.to_owned() };
        let mut rest = self
            .open(self.options().patience, Repeat::Safe, message, async |channel, request| {
                service(channel).get_artifact(request).await
            })
            .await?;
        let mut first =
            rest.message().await?.ok_or_else(|| Error::lost("the artifact broke off before its start"))?;
        let media_type = std::mem::take(&mut first.media_type);
        Ok(Artifact { size_bytes: first.size_bytes, media_type, first: Some(first), rest, read: 0 })
    }
}

impl Artifact {
    /// The next bytes; none after the last.
    ///
    /// # Errors
    /// That the artifact broke off: what came before is not the whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let part = match self.first.take() {
            Some(first) => Some(first),
            None => self.rest.message().await?,
        };
        if let Some(part) = part {
            self.read += part.data.len() as u64;
            return Ok(Some(part.data));
        }
        if self.read == self.size_bytes {
            return Ok(None);
        }
        Err(Error::lost(format!("the artifact broke off after {} of {} bytes", self.read, self.size_bytes)))
    }

    /// Writes all of it, and flushes.
    ///
    /// # Errors
    /// That the writer failed, or that the artifact broke off: what was written then is not the whole.
    pub async fn write_to(mut self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
        while let Some(bytes) = self.next().await? {
            writer.write_all(&bytes).await.map_err(unwritable)?;
        }
        writer.flush().await.map_err(unwritable)
    }
}

fn unwritable(error: std::io::Error) -> Error {
    Error::new(Code::Internal, "NOT_WRITTEN", format!("cannot write the artifact: {error}"), Origin::Local)
}
