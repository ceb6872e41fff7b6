//! How much may be asked of providers: limits in requests and in tokens a minute.
//!
//! A call passes if every limit that covers it has room. What it will cost in tokens is estimated and debited
//! before; what it really cost is settled after, streams too, below zero if need be. The limits are token buckets
//! behind a port, so in a cluster they are the cluster's and not each node's.
//!
//! A limit of ours that is reached is no fault of the provider: nothing is sent, and the next one is tried.

mod limit;

pub use limit::{Limit, PREFIX};

use callboard_domain::llm::{Error, ErrorKind, Usage};
use callboard_ports::TokenBuckets;
use callboard_ports::token_buckets::{Decision, Level};
use std::sync::Arc;
use std::time::Duration;

/// The tokens of an answer whose length nobody has bounded, for an estimate.
const ANSWER_TOKENS: u32 = 512;
/// So many bytes of a prompt are about one token.
const BYTES_A_TOKEN: usize = 4;

/// The limits, and the buckets behind them.
pub(crate) struct Admission {
    limits: Vec<Levels>,
    buckets: Arc<dyn TokenBuckets>,
}

/// A limit, and the names of its buckets: made once, not in every call.
struct Levels {
    limit: Limit,
    requests: Option<Level>,
    tokens: Option<Level>,
}

/// A call that passed. Dropped without [`Self::settle`], it has cost what was estimated: what was sent may be billed.
#[must_use]
pub(crate) struct Debit {
    buckets: Arc<dyn TokenBuckets>,
    requests: Vec<Level>,
    tokens: Vec<Level>,
    estimate: u32,
}

/// What a text will take, as far as can be told before.
pub(crate) fn estimate(prompt_bytes: usize, max_tokens: Option<u32>) -> u32 {
    let prompt = u32::try_from(prompt_bytes / BYTES_A_TOKEN).unwrap_or(u32::MAX);
    prompt.saturating_add(max_tokens.unwrap_or(ANSWER_TOKENS))
}

impl Admission {
    pub(crate) fn new(limits: Vec<Limit>, buckets: Arc<dyn TokenBuckets>) -> Self {
        let levels = |limit: Limit| Levels { requests: limit.requests(), tokens: limit.tokens(), limit };
        Self { limits: limits.into_iter().map(levels).collect(), buckets }
    }

    /// Whether a limit covers one key of a provider alone: the call may then pass over another.
    pub(crate) fn tells_keys_apart(&self, provider: &str) -> bool {
        self.limits
            .iter()
            .any(|Levels { limit, .. }| limit.key.is_some() && limit.provider.as_deref() == Some(provider))
    }

    /// Lets a call of a namespace pass to a provider and a model, over one of its keys.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`], with the limit that has no room and when it will have; nothing is debited then.
    pub(crate) async fn admit(
        &self,
        namespace: &str,
        provider: &str,
        key: &str,
        model: &str,
        estimate: u32,
    ) -> Result<Debit, Error> {
        let covering =
            || self.limits.iter().filter(|levels| levels.limit.covers(namespace, provider, key, model));
        let permit = Debit {
            buckets: Arc::clone(&self.buckets),
            requests: covering().filter_map(|levels| levels.requests.clone()).collect(),
            tokens: covering().filter_map(|levels| levels.tokens.clone()).collect(),
            estimate,
        };
        self.take(&permit.requests, 1.0).await?;
        let cost = f64::from(estimate);
        if let Err(error) = self.take(&permit.tokens, cost).await {
            permit.give_back(&permit.requests, 1.0).await;
            return Err(error);
        }
        Ok(permit)
    }

    /// The share of each limit that is left, from 0 to 1, as this node knows without asking anybody; by its name, in their order.
    pub(crate) fn left(&self) -> Vec<(String, f64)> {
        let levels = self.limits.iter().flat_map(|of| of.requests.iter().chain(&of.tokens));
        let left = |level: &Level| {
            let share = (self.buckets.left(level)? / level.burst).clamp(0.0, 1.0);
            Some((limit::name(&level.key).to_owned(), share))
        };
        levels.filter_map(left).collect()
    }

    async fn take(&self, levels: &[Level], cost: f64) -> Result<(), Error> {
        if levels.is_empty() {
            return Ok(());
        }
        let decided = match self.buckets.take_now(levels, cost) {
            Some(decided) => decided,
            None => self.buckets.take(levels, cost).await,
        };
        match decided {
            Ok(Decision::Allowed) => Ok(()),
            Ok(Decision::Denied { level, retry_after }) => Err(reached(&level, cost, retry_after)),
            // Without a decision nothing passes: more than the limit may cost money.
            Err(error) => {
                Err(Error::new(ErrorKind::RateLimited, format!("no limit can be checked: {error}")))
            }
        }
    }
}

fn reached(level: &str, cost: f64, retry_after: Option<Duration>) -> Error {
    let limit = limit::describe(level);
    let message = match retry_after {
        Some(_) => format!("the configured limit of {limit} is reached"),
        None => format!(
            "a call of about {cost:.0} is over all that the configured limit of {limit} allows at once"
        ),
    };
    Error { retry_after, ..Error::new(ErrorKind::RateLimited, message) }
}

impl Debit {
    /// The call was answered: what it took counts instead of the estimate. A provider that does not count its tokens
    /// leaves the estimate.
    pub(crate) async fn settle(self, usage: Usage) {
        let used = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
        if used > 0 {
            self.debit(&self.tokens, used as f64 - f64::from(self.estimate)).await;
        }
    }

    /// The call was not sent.
    pub(crate) async fn unused(self) {
        self.give_back(&self.requests, 1.0).await;
        self.give_back(&self.tokens, f64::from(self.estimate)).await;
    }

    /// The call failed. What a provider refused took no tokens; anything else may be billed.
    pub(crate) async fn failed(self, kind: ErrorKind) {
        let refused = matches!(
            kind,
            ErrorKind::RateLimited
                | ErrorKind::QuotaExceeded
                | ErrorKind::Overloaded
                | ErrorKind::Authentication
                | ErrorKind::InvalidRequest
                | ErrorKind::ContextTooLong
                | ErrorKind::Unsupported
                | ErrorKind::ModelNotFound
        );
        if refused {
            self.give_back(&self.tokens, f64::from(self.estimate)).await;
        }
    }

    async fn give_back(&self, levels: &[Level], cost: f64) {
        self.debit(levels, -cost).await;
    }

    async fn debit(&self, levels: &[Level], cost: f64) {
        if levels.is_empty() || cost == 0.0 {
            return;
        }
        let settled = match self.buckets.settle_now(levels, cost) {
            Some(settled) => settled,
            None => self.buckets.settle(levels, cost).await,
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "what a call cost cannot be settled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use callboard_ports::token_buckets;
    use std::collections::HashMap;
    use std::sync::Mutex;

    /// Buckets that never fill up again.
    #[derive(Default)]
    struct Still(Mutex<HashMap<String, f64>>);

    impl Still {
        fn debit(&self, levels: &[Level], cost: f64, below_zero: bool) -> Option<String> {
            let mut held = self.0.lock().unwrap();
            for level in levels {
                let tokens = *held.entry(level.key.clone()).or_insert(level.burst);
                if tokens < cost && !below_zero {
                    return Some(level.key.clone());
                }
            }
            levels.iter().for_each(|level| *held.get_mut(&level.key).unwrap() -= cost);
            None
        }

        fn left(&self) -> Vec<(String, f64)> {
            let mut left: Vec<_> = self.0.lock().unwrap().clone().into_iter().collect();
            left.sort_by(|a, b| a.0.cmp(&b.0));
            left
        }
    }

    #[async_trait]
    impl TokenBuckets for Still {
        async fn take(&self, levels: &[Level], cost: f64) -> Result<Decision, token_buckets::Error> {
            let denied = |level| Decision::Denied { level, retry_after: Some(Duration::from_secs(7)) };
            Ok(self.debit(levels, cost, false).map_or(Decision::Allowed, denied))
        }

        async fn settle(&self, levels: &[Level], cost: f64) -> Result<(), token_buckets::Error> {
            self.debit(levels, cost, true);
            Ok(())
        }
    }

    fn limit(provider: &str, requests: Option<u32>, tokens: Option<u32>) -> Limit {
        Limit {
            provider: Some(provider.into()),
            key: None,
            model: None,
            namespace: None,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            burst: Some(Duration::from_secs(60)),
        }
    }

    fn usage(input_tokens: u32, output_tokens: u32) -> Usage {
        Usage::of(input_tokens, output_tokens)
    }

    #[tokio::test]
    async fn a_call_is_debited_by_estimate_and_settled_by_what_it_took() {
        let still = Arc::new(Still::default());
        let admission = Admission::new(vec![limit("a", Some(10), Some(1_000))], still.clone());
        let left = |requests: f64, tokens: f64| {
            vec![("llm:requests:a".to_owned(), requests), ("llm:tokens:a".to_owned(), tokens)]
        };
        let permit = admission.admit("n", "a", "", "m", 300).await.unwrap();
        assert_eq!(still.left(), left(9.0, 700.0));
        permit.settle(usage(100, 350)).await;
        assert_eq!(still.left(), left(9.0, 550.0));
        // One that does not say what it took has taken what was thought, and so has one that was dropped.
        admission.admit("n", "a", "", "m", 50).await.unwrap().settle(Usage::default()).await;
        drop(admission.admit("n", "a", "", "m", 100).await.unwrap());
        assert_eq!(still.left(), left(7.0, 400.0));
        // What was refused took none; what broke may have taken all.
        admission.admit("n", "a", "", "m", 400).await.unwrap().failed(ErrorKind::Overloaded).await;
        assert_eq!(still.left(), left(6.0, 400.0));
        admission.admit("n", "a", "", "m", 10).await.unwrap().failed(ErrorKind::Timeout).await;
        assert_eq!(still.left(), left(5.0, 390.0));
        // What was taken counts also where it is more than there was.
        admission.admit("n", "a", "", "m", 1).await.unwrap().settle(usage(500, 0)).await;
        assert_eq!(still.left(), left(4.0, -110.0));
        let denied = admission.admit("n", "a", "", "m", 1).await.err().unwrap();
        assert_eq!((denied.kind, denied.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
        assert_eq!(denied.message, "the configured limit of tokens a minute (a) is reached");
        assert_eq!(still.left(), left(4.0, -110.0), "what was denied cost no request either");
        // Another provider has none of this.
        admission.admit("n", "b", "", "m", 1_000_000).await.unwrap().settle(usage(1, 1)).await;
    }

    #[test]
    fn an_estimate_is_the_prompt_and_the_longest_answer() {
        assert_eq!(estimate(400, Some(50)), 150);
        assert_eq!(estimate(3, None), ANSWER_TOKENS);
        assert_eq!(estimate(usize::MAX, Some(u32::MAX)), u32::MAX);
    }
}
