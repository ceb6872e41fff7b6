//! Which model a call is for.

use callboard_domain::llm::{Error, ErrorKind};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The model for text where a call names none: the configured one, else the first that the provider lists.
#[derive(Clone, Debug)]
pub(crate) struct TextModel {
    configured: Option<String>,
    listed: Arc<OnceCell<String>>,
}

impl TextModel {
    pub(crate) fn new(configured: Option<String>) -> Self {
        Self { configured, listed: Arc::default() }
    }

    /// Its name; empty while it is not known yet.
    pub(crate) fn known(&self) -> &str {
        self.configured.as_ref().or(self.listed.get()).map_or("", String::as_str)
    }

    /// The model of a call. The provider is asked for its list once, until it gives one.
    ///
    /// # Errors
    /// Why there is no list, or no model in it.
    pub(crate) async fn pick(
        &self,
        asked: Option<&String>,
        list: impl AsyncFnOnce() -> Result<Vec<String>, Error>,
    ) -> Result<String, Error> {
        if let Some(model) = asked.or(self.configured.as_ref()) {
            return Ok(model.clone());
        }
        let first = async || first_for_text(list().await?);
        self.listed.get_or_try_init(first).await.cloned()
    }
}

/// The first model of a list that is not obviously for something else than text.
fn first_for_text(models: Vec<String>) -> Result<String, Error> {
    const OTHERS: [&str; 6] = ["embed", "whisper", "tts", "dall-e", "image", "rerank"];
    let for_text = |model: &String| {
        let id = model.to_ascii_lowercase();
        !id.is_empty() && !OTHERS.iter().any(|other| id.contains(other))
    };
    models.into_iter().find(for_text).ok_or_else(|| {
        let message = "the provider lists no model for text: configure text_model, or load a model there";
        Error::new(ErrorKind::ServerFault, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_for_text_is_found() {
        let first = |models: &[&str]| first_for_text(models.iter().map(|m| (*m).to_owned()).collect());
        assert_eq!(first(&["nomic-embed-text", "", "llama3.2:latest", "qwen"]).unwrap(), "llama3.2:latest");
        assert_eq!(first(&[]).unwrap_err().kind, ErrorKind::ServerFault);
    }
}
