use crate::config::optional_money;
use callboard_domain::Money;
use serde::{Deserialize, Serialize};

/// What a model costs, in US dollars.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The model; with `*` at its end, every model whose name begins so.
    pub model: String,
    /// The provider whose price it is; of all that have the model if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// A million tokens of prompts. Nothing if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_money")]
    pub input_per_million: Option<Money>,
    /// A million tokens of prompts that the provider had in its cache. As `input_per_million` if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_money")]
    pub cached_input_per_million: Option<Money>,
    /// A million tokens of prompts that the provider wrote to its cache. As `input_per_million` if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_money")]
    pub cache_write_per_million: Option<Money>,
    /// A million tokens of answers. Nothing if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_money")]
    pub output_per_million: Option<Money>,
    /// An image, beside its tokens. Nothing if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_money")]
    pub per_image: Option<Money>,
}

impl Price {
    fn beginning(&self) -> Option<&str> {
        self.model.strip_suffix('*')
    }

    /// Whether calls to this model of this provider cost it.
    pub(super) fn covers(&self, provider: &str, model: &str) -> bool {
        let named = match self.beginning() {
            Some(beginning) => model.starts_with(beginning),
            None => self.model == model,
        };
        named && self.provider.as_deref().is_none_or(|of| of == provider)
    }

    pub(super) fn nearness(&self) -> (bool, usize, bool) {
        let length = self.beginning().unwrap_or(&self.model).len();
        (self.provider.is_some(), length, self.beginning().is_none())
    }

    /// What is wrong with it, by field.
    pub(crate) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if self.model.is_empty() {
            problems.push(("model", "must name a model, or `*` for all"));
        }
        if self.beginning().unwrap_or(&self.model).contains('*') {
            problems.push(("model", "must have its `*` at the end"));
        }
        let given = [self.input_per_million, self.output_per_million, self.per_image];
        if given.iter().all(Option::is_none) {
            problems.push((
                "input_per_million",
                "must be given, or output_per_million or per_image; \"0\" for what costs nothing",
            ));
        }
        problems
    }
}
