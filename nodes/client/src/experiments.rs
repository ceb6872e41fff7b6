//! Experiments: what came of them, and their shares.

use crate::call::Repeat;
use crate::client::Client;
use crate::error::Error;
use callboard_contracts::v1::{self, experiment_service_client::ExperimentServiceClient};
use tonic::transport::Channel;

fn service(channel: Channel) -> ExperimentServiceClient<Channel> {
    ExperimentServiceClient::new(channel)
}

impl Client {
    /// The experiments, and what came of their arms on all nodes.
    ///
    /// # Errors
    /// That the server could not be reached in time.
    pub async fn list_experiments(&self) -> Result<v1::ListExperimentsResponse, Error> {
        let message = v1::ListExperimentsRequest {};
        self.call(Repeat::Safe, message, async |channel, request| {
            service(channel).list_experiments(request).await
        })
        .await
    }

    /// Says how good an answer was. Returns the arm that it counts for. It is said again only if it certainly was not heard.
    ///
    /// # Errors
    /// There is no such experiment or arm (the message names those that there are), the score is out of range, or the server
    /// could not be reached in time.
    pub async fn score_answer(&self, request: v1::ScoreAnswerRequest) -> Result<String, Error> {
        let answer = self
            .call(Repeat::Unsafe, request, async |channel, request| {
                service(channel).score_answer(request).await
            })
            .await?;
        Ok(answer.arm)
    }

    /// Gives an arm a share of all subjects, on every node.
    ///
    /// # Errors
    /// There is no such experiment or arm, the share cannot be, the key is no admin's, or the server could not be reached in
    /// time.
    pub async fn set_experiment_share(
        &self,
        request: v1::SetExperimentShareRequest,
    ) -> Result<v1::Experiment, Error> {
        let answer = self
            .call(Repeat::Safe, request, async |channel, request| {
                service(channel).set_experiment_share(self.signed(request)?).await
            })
            .await?;
        Ok(answer.experiment.unwrap_or_default())
    }

    /// Gives all subjects to the first arm of an experiment, on every node.
    ///
    /// # Errors
    /// There is no such experiment, the key is no admin's, or the server could not be reached in time.
    pub async fn roll_back_experiment(
        &self,
        request: v1::RollBackExperimentRequest,
    ) -> Result<v1::Experiment, Error> {
        let answer = self
            .call(Repeat::Safe, request, async |channel, request| {
                service(channel).roll_back_experiment(self.signed(request)?).await
            })
            .await?;
        Ok(answer.experiment.unwrap_or_default())
    }

    /// Has an experiment follow the configuration again, on every node.
    ///
    /// # Errors
    /// There is no such experiment, the key is no admin's, or the server could not be reached in time.
    pub async fn reset_experiment(&self, name: &str) -> Result<v1::Experiment, Error> {
        let message = v1::ResetExperimentRequest { name: name.to_owned() };
        let answer = self
            .call(Repeat::Safe, message, async |channel, request| {
                service(channel).reset_experiment(self.signed(request)?).await
            })
            .await?;
        Ok(answer.experiment.unwrap_or_default())
    }
}
