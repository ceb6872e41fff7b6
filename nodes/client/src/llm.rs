//! Direct LLM calls, and the providers behind them.

use crate::call::Repeat;
use crate::client::Client;
use crate::error::Error;
use callboard_contracts::v1::{self, provider_service_client::ProviderServiceClient};
use futures::Stream;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// What an answer may take beside the time its attempts at providers take.
const MARGIN: Duration = Duration::from_secs(5);
/// The least that an image may take: as long as a node tries by default, and the margin.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(185);
/// The most bytes of an answer: an image, or thousands of vectors.
const ANSWER_BYTES: usize = 32 << 20;

fn service(channel: Channel) -> ProviderServiceClient<Channel> {
    ProviderServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES)
}

impl Client {
    /// The providers, in the order they are tried.
    ///
    /// # Errors
    /// That the server could not be reached in time.
    pub async fn providers(&self) -> Result<Vec<v1::Provider>, Error> {
        Ok(self.list_providers().await?.providers)
    }

    /// The same, how the budgets stand, and the routes.
    ///
    /// # Errors
    /// That the server could not be reached in time.
    pub async fn list_providers(&self) -> Result<v1::ListProvidersResponse, Error> {
        let message = v1::ListProvidersRequest {};
        self.call(Repeat::Safe, message, async |channel, request| {
            service(channel).list_providers(request).await
        })
        .await
    }

    /// Switches a provider off or on, on every node.
    ///
    /// # Errors
    /// There is no such provider (the message names those that there are), the key is no admin's, or the server could not
    /// be reached in time.
    pub async fn switch_provider(&self, request: v1::SwitchProviderRequest) -> Result<v1::Provider, Error> {
        let response = self
            .call(Repeat::Safe, request, async |channel, request| {
                service(channel).switch_provider(self.signed(request)?).await
            })
            .await?;
        Ok(response.provider.unwrap_or_default())
    }

    /// Makes a provider the first that is tried, on every node.
    ///
    /// # Errors
    /// There is no such provider (the message names those that there are), the key is no admin's, or the server could not
    /// be reached in time.
    pub async fn set_primary_provider(
        &self,
        request: v1::SetPrimaryProviderRequest,
    ) -> Result<v1::Provider, Error> {
        let response = self
            .call(Repeat::Safe, request, async |channel, request| {
                service(channel).set_primary_provider(self.signed(request)?).await
            })
            .await?;
        Ok(response.provider.unwrap_or_default())
    }

    /// Gives a provider, or one of its keys, another weight, on every node.
    ///
    /// # Errors
    /// There is no such provider or key (the message names those that there are), the weight is out of its bounds, the key
    /// of the caller is no admin's, or the server could not be reached in time.
    pub async fn set_provider_weight(
        &self,
        request: v1::SetProviderWeightRequest,
    ) -> Result<v1::SetProviderWeightResponse, Error> {
        self.call(Repeat::Safe, request, async |channel, request| {
            service(channel).set_provider_weight(self.signed(request)?).await
        })
        .await
    }

    /// Has a provider follow the configuration again.
    ///
    /// # Errors
    /// There is no such provider (the message names those that there are), the key is no admin's, or the server could not
    /// be reached in time.
    pub async fn reset_provider(&self, request: v1::ResetProviderRequest) -> Result<v1::Provider, Error> {
        let response = self
            .call(Repeat::Safe, request, async |channel, request| {
                service(channel).reset_provider(self.signed(request)?).await
            })
            .await?;
        Ok(response.provider.unwrap_or_default())
    }

    /// Closes a provider's breakers, on every node.
    ///
    /// # Errors
    /// There is no such provider (the message names those that there are), the key is no admin's, or the server could not
    /// be reached in time.
    pub async fn close_breakers(&self, request: v1::CloseBreakersRequest) -> Result<v1::Provider, Error> {
        let response = self
            .call(Repeat::Safe, request, async |channel, request| {
                service(channel).close_breakers(self.signed(request)?).await
            })
            .await?;
        Ok(response.provider.unwrap_or_default())
    }

    /// Makes a call of one token to a provider. What the provider fails with is in the attempt.
    ///
    /// # Errors
    /// There is no such provider (the message names those that there are), the key is no admin's, or the server could not
    /// be reached in time.
    pub async fn test_provider(
        &self,
        request: v1::TestProviderRequest,
    ) -> Result<v1::ProviderAttempt, Error> {
        let response = self
            .call(Repeat::Unsafe, request, async |channel, request| {
                service(channel).test_provider(self.signed(request)?).await
            })
            .await?;
        Ok(response.attempt.unwrap_or_default())
    }

    /// Forgets cached answers, on every node and in what nodes share: those to a kind of task, of a namespace, or all.
    ///
    /// # Errors
    /// The key is no admin's, or the server could not be reached in time.
    pub async fn clear_cache(&self, request: v1::ClearCacheRequest) -> Result<v1::ClearCacheResponse, Error> {
        self.call(Repeat::Safe, request, async |channel, request| {
            service(channel).clear_cache(self.signed(request)?).await
        })
        .await
    }

    /// What the caches of each node that calls providers did, by the node's name.
    ///
    /// # Errors
    /// That the server could not be reached in time. A node that it cannot reach is in the answer.
    pub async fn cache_statistics(&self) -> Result<Vec<v1::NodeCacheStatistics>, Error> {
        let message = v1::GetCacheStatisticsRequest {};
        let response = self
            .call(Repeat::Safe, message, async |channel, request| {
                service(channel).get_cache_statistics(request).await
            })
            .await?;
        Ok(response.nodes)
    }

    /// Makes a provider's quotas as if nothing of them had been used, on every node.
    ///
    /// # Errors
    /// There is no such provider, the key is no admin's, or the server could not be reached in time.
    pub async fn reset_quota(&self, name: &str) -> Result<(), Error> {
        let message = v1::ResetQuotaRequest { name: name.to_owned() };
        self.call(Repeat::Safe, message, async |channel, request| {
            service(channel).reset_quota(self.signed(request)?).await
        })
        .await?;
        Ok(())
    }

    /// Has every node read its own configuration of providers again, or the one that is named. Where it is wrong, what was
    /// in force stays so, and the node's answer has an error.
    ///
    /// # Errors
    /// There is no such node, the key is no admin's, or the server could not be reached in time.
    pub async fn reload_providers(&self, node: Option<&str>) -> Result<Vec<v1::ProviderReload>, Error> {
        let message = v1::ReloadProvidersRequest { node: node.unwrap_or_default().to_owned() };
        let response = self
            .call(Repeat::Safe, message, async |channel, request| {
                service(channel).reload_providers(self.signed(request)?).await
            })
            .await?;
        Ok(response.nodes)
    }

    /// How many calls are at a provider from each node, and whether new ones go there.
    ///
    /// # Errors
    /// There is no such provider (the message names those that there are), or the server could not be reached in time.
    pub async fn provider_load(&self, name: &str) -> Result<Vec<v1::ProviderNodeLoad>, Error> {
        let message = v1::GetProviderLoadRequest { name: name.to_owned() };
        let response = self
            .call(Repeat::Safe, message, async |channel, request| {
                service(channel).get_provider_load(request).await
            })
            .await?;
        Ok(response.nodes)
    }

    /// The same request with the key of this client, if it has one.
    pub(crate) fn signed<M>(&self, mut request: Request<M>) -> Result<Request<M>, Status> {
        if let Some(key) = &self.options().key {
            let value = format!("Bearer {key}").parse();
            // What it was is not repeated.
            let value =
                value.map_err(|_| Status::invalid_argument("the key has characters that no key has"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    /// Generates a text. It costs, so it is repeated only if it certainly did not run.
    ///
    /// # Errors
    /// `PROVIDERS_FAILED`, `PROVIDER_REFUSED`, or that the server could not be reached in time.
    pub async fn generate(&self, request: v1::GenerateRequest) -> Result<v1::GenerateResponse, Error> {
        let total = self.total(request.timeout);
        self.call_within(total, Repeat::Unsafe, request, async |channel, request| {
            service(channel).generate(request).await
        })
        .await
        .result
    }

    /// Turns texts into vectors, all with one model. It costs, so it is repeated only if it certainly did not run.
    ///
    /// # Errors
    /// As [`generate`](Self::generate); also that the texts are too many or too long.
    pub async fn embed(&self, request: v1::EmbedRequest) -> Result<v1::EmbedResponse, Error> {
        let total = self.total(request.timeout);
        self.call_within(total, Repeat::Unsafe, request, async |channel, request| {
            service(channel).embed(request).await
        })
        .await
        .result
    }

    /// Generates an image. It costs, so it is repeated only if it certainly did not run.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn generate_image(
        &self,
        request: v1::GenerateImageRequest,
    ) -> Result<v1::GenerateImageResponse, Error> {
        let total = self.options().generate_timeout.max(IMAGE_TIMEOUT);
        self.call_within(total, Repeat::Unsafe, request, async |channel, request| {
            service(channel).generate_image(request).await
        })
        .await
        .result
    }

    /// The time of a call: what it asks for and a margin, else that of the options.
    fn total<T>(&self, asked: Option<T>) -> Duration
    where
        Duration: TryFrom<T>,
    {
        let asked = asked.and_then(|t| Duration::try_from(t).ok()).map(|t| t + MARGIN);
        asked.unwrap_or(self.options().generate_timeout)
    }

    /// Generates a text as a stream of pieces; the last holds the summary. A stream that breaks off says so
    /// with an error and is not begun again.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), before the first piece.
    pub async fn generate_stream(
        &self,
        request: v1::GenerateRequest,
    ) -> Result<impl Stream<Item = Result<v1::GenerateStreamResponse, Error>> + Send + use<>, Error> {
        let message = v1::GenerateStreamRequest { request: Some(request) };
        let stream = self
            .open(self.options().patience, Repeat::Unsafe, message, async |channel, request| {
                service(channel).generate_stream(request).await
            })
            .await?;
        // The state is the stream and whether it has come to its summary.
        Ok(futures::stream::try_unfold((stream, false), |(mut stream, complete)| async move {
            match stream.message().await? {
                Some(piece) => {
                    let complete = complete || piece.summary.is_some();
                    Ok(Some((piece, (stream, complete))))
                }
                None if complete => Ok(None),
                None => Err(Error::lost("the answer broke off before its end")),
            }
        }))
    }
}
