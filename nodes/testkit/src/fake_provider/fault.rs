//! The faults a provider can be told to have.

use serde::{Deserialize, Serialize};

/// An endpoint of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/images/generations`.
    Images,
    /// `/v1/models`.
    Models,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// Gemini's `/v1beta/models/{model}:generateContent` and `:streamGenerateContent`.
    GenerateContent,
    /// Ollama's `/api/chat`.
    OllamaChat,
    /// Ollama's `/api/tags`.
    OllamaTags,
    /// `/v1/embeddings`.
    Embeddings,
    /// Ollama's `/api/embed`.
    OllamaEmbed,
}

/// What goes wrong with a request, in the words of OpenAI; another provider's endpoint says the same in its own. A
/// fault of streams does nothing to a request that is no stream, nor a fault to a provider that does not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// 429 `insufficient_quota`.
    Quota,
    /// 429 `organization_spend_limit_exceeded`: a limit that the owner of the account has set.
    SpendLimit,
    /// 429 `organization_usage_limit_exceeded`: a limit that the provider has set for such accounts.
    TierCap,
    /// 429 `rate_limit_exceeded`.
    RateLimit {
        /// The `Retry-After` header, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// 503 `server_is_overloaded`.
    Overloaded,
    /// An error of the server.
    ServerFault {
        /// The status.
        status: u16,
    },
    /// 401 `invalid_api_key`. The message repeats the key, which real providers mask.
    BadKey,
    /// 400 `content_filter`.
    ContentFilter,
    /// An answer whose finish reason is `content_filter`.
    ContentFilterFinish,
    /// 400 `context_length_exceeded`.
    ContextTooLong,
    /// 404 `model_not_found`.
    NoSuchModel,
    /// 200 with half a JSON object.
    MalformedJson,
    /// 200 with no choices.
    EmptyChoices,
    /// No answer at all.
    Hang,
    /// A late answer.
    Delay {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// The connection is reset.
    ConnectionReset {
        /// After so many bytes of the answer, head included. 0: before it.
        #[serde(default)]
        after_bytes: u64,
    },
    /// The stream ends, cleanly for HTTP, without a finish reason and without `[DONE]`.
    StreamCut {
        /// After so many pieces of text.
        after_chunks: usize,
    },
    /// An error object in a data line, then the end.
    StreamErrorMid {
        /// After so many pieces of text.
        after_chunks: usize,
    },
    /// The stream stays open and says nothing more.
    StreamStall {
        /// After so many pieces of text.
        after_chunks: usize,
    },
    /// 307 to another address.
    Redirect {
        /// The address.
        to: String,
    },
    /// An answer of any shape.
    Raw {
        /// Its status.
        status: u16,
        /// Its content type.
        content_type: String,
        /// Its body.
        body: Vec<u8>,
    },
}

fn always() -> f64 {
    1.0
}

/// When a fault happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where; everywhere if `None`.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// For requests with this key; for all if `None`.
    #[serde(default)]
    pub key: Option<String>,
    /// What.
    pub fault: Fault,
    /// How often; for ever if `None`.
    #[serde(default)]
    pub times: Option<u32>,
    /// How likely for each request, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
}

impl Rule {
    /// A fault for every request.
    #[must_use]
    pub fn standing(fault: Fault) -> Self {
        Self { endpoint: None, key: None, fault, times: None, probability: 1.0 }
    }

    /// A fault for the next `times` requests.
    #[must_use]
    pub fn times(fault: Fault, times: u32) -> Self {
        Self { times: Some(times), ..Self::standing(fault) }
    }

    /// At one endpoint only.
    #[must_use]
    pub fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// For requests with this key only.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this probability.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// The rules, as they are set over HTTP. The first that holds for a request decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the random numbers begin.
    #[serde(default)]
    pub seed: u64,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
}

impl Plan {
    /// The fault of the next request at an endpoint with a key. Counts it.
    pub(super) fn take(&mut self, endpoint: Endpoint, key: &str) -> Option<Fault> {
        for i in 0..self.rules.len() {
            let rule = &self.rules[i];
            let elsewhere = rule.endpoint.is_some_and(|e| e != endpoint);
            if elsewhere || rule.key.as_ref().is_some_and(|k| k != key) || rule.times == Some(0) {
                continue;
            }
            let probability = self.rules[i].probability;
            if probability < 1.0 && self.roll() >= probability {
                continue;
            }
            let rule = &mut self.rules[i];
            rule.times = rule.times.map(|n| n - 1);
            return Some(rule.fault.clone());
        }
        None
    }

    /// The next random number, 0 to 1 (SplitMix64).
    fn roll(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_taken_in_order_and_run_out() {
        let mut plan = Plan {
            seed: 0,
            rules: vec![
                Rule::standing(Fault::BadKey).with_key("b"),
                Rule::times(Fault::Quota, 2).at(Endpoint::Chat),
                Rule::times(Fault::Hang, 1),
                Rule::times(Fault::Overloaded, 0),
            ],
        };
        assert_eq!(plan.take(Endpoint::Images, "a"), Some(Fault::Hang));
        assert_eq!(plan.take(Endpoint::Chat, "a"), Some(Fault::Quota));
        assert_eq!(plan.take(Endpoint::Chat, "a"), Some(Fault::Quota));
        assert_eq!(plan.take(Endpoint::Chat, "a"), None);
        assert_eq!(plan.take(Endpoint::Chat, "b"), Some(Fault::BadKey));
    }

    #[test]
    fn a_seed_gives_the_same_faults_about_as_often_as_asked() {
        let run = |seed| {
            let mut plan = Plan { seed, rules: vec![Rule::standing(Fault::Quota).probability(0.3)] };
            (0..1_000).map(|_| plan.take(Endpoint::Chat, "a").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let hits = run(7).into_iter().filter(|hit| *hit).count();
        assert!((250..350).contains(&hits), "{hits}");
    }

    #[test]
    fn a_plan_is_json() {
        let text = r#"{"seed":3,"rules":[{"endpoint":"chat","fault":{"type":"rate_limit","retry_after":2},"times":1}]}"#;
        let plan: Plan = serde_json::from_str(text).unwrap();
        assert_eq!(
            plan.rules,
            [Rule::times(Fault::RateLimit { retry_after: Some(2) }, 1).at(Endpoint::Chat)]
        );
        assert!(serde_json::from_str::<Plan>(r#"{"rules":[{"fault":{"type":"nonsense"}}]}"#).is_err());
    }
}
