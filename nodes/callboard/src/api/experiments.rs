//! `ExperimentService`: passed on to the ProviderBroker.

use super::{Api, reads};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::administer_request::Action;
use callboard_contracts::v1;
use callboard_contracts::v1::experiment_service_server::ExperimentService;
use callboard_runtime::mesh::Error;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How long the broker may take; it asks for what other nodes counted for a part of that.
const WITHIN: Duration = Duration::from_secs(5);

#[tonic::async_trait]
impl ExperimentService for Api {
    async fn list_experiments(
        &self,
        _: Request<v1::ListExperimentsRequest>,
    ) -> Result<Response<v1::ListExperimentsResponse>, Status> {
        let request = mesh::ListExperimentsRequest { context: None };
        let answer = self.deps.broker.list_experiments(request, WITHIN).await.map_err(Error::into_status)?;
        Ok(Response::new(answer.response.ok_or_else(|| reads::missing("response"))?))
    }

    async fn score_answer(
        &self,
        request: Request<v1::ScoreAnswerRequest>,
    ) -> Result<Response<v1::ScoreAnswerResponse>, Status> {
        let request = mesh::ScoreAnswerRequest { context: None, request: Some(request.into_inner()) };
        let answer = self.deps.broker.score_answer(request, WITHIN).await.map_err(Error::into_status)?;
        Ok(Response::new(answer.response.ok_or_else(|| reads::missing("response"))?))
    }

    async fn set_experiment_share(
        &self,
        request: Request<v1::SetExperimentShareRequest>,
    ) -> Result<Response<v1::SetExperimentShareResponse>, Status> {
        let done = self.administer(request, Action::SetExperimentShare).await?;
        Ok(Response::new(v1::SetExperimentShareResponse { experiment: done.experiment }))
    }

    async fn roll_back_experiment(
        &self,
        request: Request<v1::RollBackExperimentRequest>,
    ) -> Result<Response<v1::RollBackExperimentResponse>, Status> {
        let done = self.administer(request, Action::RollBackExperiment).await?;
        Ok(Response::new(v1::RollBackExperimentResponse { experiment: done.experiment }))
    }

    async fn reset_experiment(
        &self,
        request: Request<v1::ResetExperimentRequest>,
    ) -> Result<Response<v1::ResetExperimentResponse>, Status> {
        let done = self.administer(request, Action::ResetExperiment).await?;
        Ok(Response::new(v1::ResetExperimentResponse { experiment: done.experiment }))
    }
}
