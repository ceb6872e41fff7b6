//! The router of now: it can be replaced while calls are under way, which end with the one they began with.

use super::{PieceStream, Router};
use crate::config::Adapter;
use crate::stages::Route;
use callboard_domain::llm::{Error, TextRequest, TextResponse};
use std::sync::{Arc, PoisonError, RwLock};

/// Holds the router of now.
pub(crate) struct Live(RwLock<Arc<Router>>);

impl Live {
    pub(crate) fn new(router: Router) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(router))))
    }

    /// The router of now.
    pub(crate) fn now(&self) -> Arc<Router> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls that begin from now on go through another one.
    pub(crate) fn replace(&self, router: Router) -> Arc<Router> {
        let router = Arc::new(router);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&router);
        router
    }
}

impl Route for Live {
    async fn text(&self, request: &TextRequest) -> Result<TextResponse, Error> {
        self.now().text(request).await
    }

    async fn text_stream(self: &Arc<Self>, request: &TextRequest) -> Result<PieceStream, Error> {
        self.now().text_stream(request).await
    }

    fn is_local(&self, provider: &str) -> bool {
        self.now().is_local(provider)
    }
}

impl Router {
    /// Whether a provider is the stand-in that answers from templates.
    fn is_local(&self, provider: &str) -> bool {
        let mut named = self.providers.iter().filter(|p| p.name() == provider);
        named.any(|p| p.describe().adapter == Adapter::Offline)
    }
}
