//! Direct LLM calls, and the providers behind them.

use crate::call::Repeat;
use crate::client::{ANSWER_BYTES, Client};
use crate::error::Error;
use callboard_contracts::v1::{self, provider_service_client::ProviderServiceClient};
use futures::Stream;
use std::time::Duration;
use tonic::transport::Channel;

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
