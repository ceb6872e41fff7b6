//! Embeddings: which providers may be asked for them.
//!
//! Vectors of two models cannot be compared, and whoever asks for some will. So a call never goes on to a provider with
//! another model, and the offline generator answers only where nobody else could have: never after a failure.

use super::spans::Operation;
use super::{Candidate, Candidates, Limits, Router};
use crate::admission;
use crate::config::Adapter;
use crate::cost;
use crate::provider::{Provider, ProviderEmbeddings};
use callboard_domain::llm::{EmbeddingRequest, EmbeddingResponse, Error, ErrorKind, Usage};
use futures::FutureExt;

impl Router {
    pub(crate) async fn embed(&self, request: &EmbeddingRequest) -> Result<EmbeddingResponse, Error> {
        let (candidates, model) = self.embedding_candidates(request)?;
        let limits = self.timeouts.text;
        let limits = Limits { total: request.timeout.unwrap_or(limits.total), ..limits };
        let call = |provider, _: Option<&str>| embed(provider, request, &model).boxed();
        let mut won = self.attempt_all(Operation::Embed, candidates, limits, call).await?;
        let (model, usage) = (won.value.model.clone(), won.value.usage);
        let usage = won.settle(&model, usage, 0).await;
        let (answer, summary) = won.finish(self, model, "stop".into(), usage);
        Ok(EmbeddingResponse { vectors: answer.vectors, summary })
    }

    /// The providers that may be asked, all for the same model.
    fn embedding_candidates(&self, request: &EmbeddingRequest) -> Result<(Candidates, String), Error> {
        let candidates = self.candidates(request.provider.as_deref(), |d| d.embedding_model)?;
        let able = candidates.list.into_iter().filter(|c| c.adapter != Adapter::Anthropic);
        let (local, real): (Vec<_>, Vec<_>) = able.partition(Candidate::local);
        let own = |candidates: &[Candidate]| {
            candidates.iter().map(|c| c.model.clone()).find(|model| !model.is_empty())
        };
        let asked = request.model.clone().filter(|model| own(&local).as_ref() != Some(model));
        let (list, model) = match asked {
            // Without any other provider, as when something is tried out, a stand-in does.
            None if request.model.is_some() => (local, request.model.clone()),
            None => match own(&real) {
                Some(model) => (of(real, &model), Some(model)),
                None => (local, None),
            },
            Some(_) if real.is_empty() => (local, None),
            Some(model) => (of(real, &model), Some(model)),
        };
        let model = model.or_else(|| own(&list));
        let (Some(model), false) = (model, list.is_empty()) else {
            let who = request.provider.as_deref().unwrap_or("no configured provider");
            let what = if request.provider.is_some() { "makes no embeddings" } else { "makes embeddings" };
            return Err(Error::new(ErrorKind::Unsupported, format!("{who} {what}: set its embedding_model")));
        };
        let bytes = request.inputs.iter().map(String::len).sum();
        let estimate = admission::estimate(bytes, Some(0));
        let expected = Usage::of(cost::tokens_of(bytes), 0);
        Ok((Candidates { list, estimate, expected, ..candidates }, model))
    }
}

/// Those whose own model it is; if it is nobody's, all may have it.
fn of(mut candidates: Vec<Candidate>, model: &str) -> Vec<Candidate> {
    if candidates.iter().any(|candidate| candidate.model == model) {
        candidates.retain(|candidate| candidate.model == model);
    }
    for candidate in &mut candidates {
        model.clone_into(&mut candidate.model);
    }
    candidates
}

/// One vector for each text, all of the same length.
async fn embed(
    provider: &dyn Provider,
    request: &EmbeddingRequest,
    model: &str,
) -> Result<ProviderEmbeddings, Error> {
    let answer = provider.embed(request, model).await?;
    let malformed = |message: String| Err(Error::new(ErrorKind::MalformedAnswer, message));
    let (wanted, got) = (request.inputs.len(), answer.vectors.len());
    if wanted != got {
        return malformed(format!("there are {got} vectors for {wanted} texts"));
    }
    let length = answer.vectors.first().map_or(0, Vec::len);
    if length == 0 || answer.vectors.iter().any(|vector| vector.len() != length) {
        return malformed("the vectors are empty, or differ in length".into());
    }
    Ok(answer)
}
