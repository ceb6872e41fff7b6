//! `ArtifactService`.

use super::{Api, errors};
use callboard_contracts::v1;
use callboard_contracts::v1::artifact_service_server::ArtifactService;
use callboard_domain::{ArtifactDigest, Code, Error};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ArtifactService for Api {
    type GetArtifactStream = BoxStream<'static, Result<v1::GetArtifactResponse, Status>>;

    async fn get_artifact(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<Self::GetArtifactStream>, Status> {
        let named = request.into_inner().digest;
        let digest: ArtifactDigest = named.parse().map_err(|e: callboard_domain::id::Invalid| {
            Error::field(Code::InvalidArgument, "digest", e.to_string())
        })?;
        let artifact = self
            .deps
            .artifacts
            .get(digest)
            .await
            .map_err(|e| Status::from(errors::of_artifacts(&e, &named)))?;
        let head = v1::GetArtifactResponse {
            size_bytes: artifact.size,
            media_type: artifact.media_type,
            data: bytes::Bytes::new(),
        };
        let body = artifact.data.map(move |part| match part {
            Ok(data) => Ok(v1::GetArtifactResponse { data, ..Default::default() }),
            Err(error) => Err(errors::of_artifacts(&error, &named).into()),
        });
        Ok(Response::new(stream::iter([Ok(head)]).chain(body).boxed()))
    }
}
