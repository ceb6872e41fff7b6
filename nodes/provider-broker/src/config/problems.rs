//! What can be wrong with a provider.

use super::{Adapter, ProviderConfig};
use reqwest::Url;

/// The fields of a provider that are wrong, and why.
pub(super) fn provider_problems(provider: &ProviderConfig) -> Vec<(&'static str, &'static str)> {
    let mut problems = Vec::new();
    if provider.adapter == Adapter::Offline {
        let given = [
            ("base_url", provider.base_url.is_some()),
            ("api_key_env", provider.api_key_env.is_some()),
            ("api_key_file", provider.api_key_file.is_some()),
            ("keys", !provider.keys.is_empty()),
            ("text_model", provider.text_model.is_some()),
            ("image_model", provider.image_model.is_some()),
            ("embedding_model", provider.embedding_model.is_some()),
        ];
        problems.extend(
            given.iter().filter(|(_, set)| *set).map(|(key, _)| (*key, "has no meaning for `offline`")),
        );
        return problems;
    }
    if let Some(problem) = provider.base_url.as_deref().and_then(|url| url_problem(url, provider.adapter)) {
        problems.push(("base_url", problem));
    }
    if provider.api_key_env.is_some() && provider.api_key_file.is_some() {
        problems.push(("api_key_file", "must not be set beside api_key_env"));
    }
    let wants_key = matches!(provider.adapter, Adapter::Anthropic | Adapter::Gemini);
    let has_key = !provider.all_keys().is_empty();
    // Another address may be that of a gateway that has the key.
    if wants_key && !has_key && provider.base_url.is_none() {
        problems.push((
            "api_key_env",
            "must be set, or api_key_file, or keys: this provider answers nobody without a key",
        ));
    }
    for (key, model) in [
        ("text_model", &provider.text_model),
        ("image_model", &provider.image_model),
        ("embedding_model", &provider.embedding_model),
    ] {
        if model.as_ref().is_some_and(|m| m.trim().is_empty()) {
            problems.push((key, "must not be empty; leave it out instead"));
        }
    }
    if provider.adapter == Adapter::Anthropic && provider.embedding_model.is_some() {
        problems.push(("embedding_model", "must not be set: this provider makes no embeddings"));
    }
    if provider.adapter != Adapter::OpenAi {
        if provider.image_model.is_some() && provider.adapter != Adapter::Gemini {
            problems.push(("image_model", "must not be set: only `openai` and `gemini` make images"));
        }
        if provider.text_model.is_none() && provider.adapter != Adapter::Ollama {
            problems.push(("text_model", "must be set: this provider has no first model to take"));
        }
    }
    problems
}

fn url_problem(text: &str, adapter: Adapter) -> Option<&'static str> {
    let Ok(url) = Url::parse(text) else {
        return Some(match adapter {
            Adapter::OpenAi => "must be a URL, for example http://localhost:11434/v1",
            _ => "must be a URL, for example http://localhost:11434",
        });
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        Some("must begin with http:// or https://")
    } else if !url.username().is_empty() || url.password().is_some() {
        Some("must not hold a user or a password: it is shown in lists and logs")
    } else if url.query().is_some() || url.fragment().is_some() {
        Some("must not hold a query or a fragment")
    } else if adapter != Adapter::OpenAi && has_path(&url, adapter) {
        Some("must end before the path of the API, such as /v1: the adapter adds it")
    } else {
        None
    }
}

/// Whether a URL ends with the beginning of an API's path, as those for `openai` do.
fn has_path(url: &Url, adapter: Adapter) -> bool {
    let last = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let version = last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    version || (adapter == Adapter::Ollama && last == "api")
}
