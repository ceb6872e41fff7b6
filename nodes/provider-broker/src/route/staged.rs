//! The router as what the stages are around.

use super::{PieceStream, Router};
use crate::config::Adapter;
use crate::stages::Route;
use callboard_domain::llm::{Error, TextRequest, TextResponse};
use std::sync::Arc;

impl Route for Router {
    fn text(&self, request: &TextRequest) -> impl Future<Output = Result<TextResponse, Error>> + Send {
        self.text(request)
    }

    fn text_stream(
        self: &Arc<Self>,
        request: &TextRequest,
    ) -> impl Future<Output = Result<PieceStream, Error>> + Send {
        Self::text_stream(self, request)
    }

    fn is_local(&self, provider: &str) -> bool {
        let mut named = self.providers.iter().filter(|p| p.name() == provider);
        named.any(|p| p.describe().adapter == Adapter::Offline)
    }
}
