//! Direct LLM calls, and the providers behind them.

use crate::call::Repeat;
use crate::client::{ANSWER_BYTES, Client};
use crate::error::Error;
use callboard_contracts::v1::{self, provider_service_client::ProviderServiceClient};
use futures::Stream;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// What an answer may take beside the time its attempts at providers take.
const MARGIN: Duration = Duration::from_secs(5);

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

    /// Forgets what the nodes keep of answers to a kind of task; without one, of all.
    ///
    /// # Errors
    /// The key is no admin's, or the server could not be reached in time.
    pub async fn clear_cache(&self, kind: Option<&str>) -> Result<(), Error> {
        let message = v1::ClearCacheRequest { kind: kind.unwrap_or_default().to_owned() };
        self.call(Repeat::Safe, message, async |channel, request| {
            service(channel).clear_cache(self.signed(request)?).await
        })
        .await?;
        Ok(())
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

    /// Has the node that answers read its configuration of providers again.
    ///
    /// # Errors
    /// It is wrong: what was in force stays so. Or the key is no admin's, or the server could not be reached in time.
    pub async fn reload_providers(&self) -> Result<v1::ReloadProvidersResponse, Error> {
        let message = v1::ReloadProvidersRequest {};
        self.call(Repeat::Safe, message, async |channel, request| {
            service(channel).reload_providers(self.signed(request)?).await
        })
        .await
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
        let asked = request.timeout.and_then(|t| Duration::try_from(t).ok()).map(|t| t + MARGIN);
        let total = asked.unwrap_or(self.options().generate_timeout);
        self.call_within(total, Repeat::Unsafe, request, async |channel, request| {
            service(channel).generate(request).await
        })
        .await
        .result
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
