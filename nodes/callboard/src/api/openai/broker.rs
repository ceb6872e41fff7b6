//! Who is asked: this node's ProviderBroker without a mailbox between, or another node's over the mesh.

use super::error::Error;
use crate::api::providers::BACKSTOP;
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::v1;
use callboard_provider_broker::Service;
use callboard_runtime::mesh::{BrokerClient, GenerateStream};
use std::time::Duration;

/// How long another node may take to say which providers there are.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// A ProviderBroker. It ends every call by its own timeouts.
pub(super) enum Broker {
    /// In this process: nothing is between, so its actor may be restarted meanwhile.
    Here(Service),
    /// At whichever node has one.
    Elsewhere(BrokerClient),
}

impl Broker {
    /// Whether there is a provider of that name now, if that can be told without asking another node.
    pub(super) fn knows(&self, provider: &str) -> Option<bool> {
        match self {
            Self::Here(service) => Some(service.broker().has_provider(provider)),
            Self::Elsewhere(_) => None,
        }
    }

    pub(super) async fn text(&self, request: v1::GenerateRequest) -> Result<v1::GenerateResponse, Error> {
        let call = mesh::GenerateRequest { request: Some(request), ..Default::default() };
        let answer = match self {
            Self::Here(service) => service.text(call).await.map_err(|status| Error::of_status(&status))?,
            Self::Elsewhere(client) => client.generate(call, BACKSTOP).await?,
        };
        Ok(answer.response.unwrap_or_default())
    }

    pub(super) async fn text_stream(&self, request: v1::GenerateRequest) -> Result<GenerateStream, Error> {
        let call = mesh::GenerateStreamRequest { request: Some(request), ..Default::default() };
        Ok(match self {
            Self::Here(service) => {
                service.text_stream(call).await.map_err(|status| Error::of_status(&status))?
            }
            Self::Elsewhere(client) => client.generate_stream(call, BACKSTOP).await?,
        })
    }

    pub(super) async fn image(
        &self,
        call: mesh::GenerateImageRequest,
    ) -> Result<mesh::GenerateImageResponse, Error> {
        Ok(match self {
            Self::Here(service) => service.image(call).await.map_err(|status| Error::of_status(&status))?,
            Self::Elsewhere(client) => client.generate_image(call, BACKSTOP).await?,
        })
    }

    pub(super) async fn embed(&self, call: mesh::EmbedRequest) -> Result<mesh::EmbedResponse, Error> {
        Ok(match self {
            Self::Here(service) => {
                service.embeddings(call).await.map_err(|status| Error::of_status(&status))?
            }
            Self::Elsewhere(client) => client.embed(call, BACKSTOP).await?,
        })
    }

    /// The providers, in the order they are tried, and the routes to them.
    pub(super) async fn listed(&self) -> Result<mesh::ListProvidersResponse, Error> {
        Ok(match self {
            Self::Here(service) => service.list(),
            Self::Elsewhere(client) => {
                client.list_providers(mesh::ListProvidersRequest::default(), LISTED_WITHIN).await?
            }
        })
    }
}
