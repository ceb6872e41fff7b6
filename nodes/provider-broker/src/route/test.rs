//! A call of one token, to see whether a provider answers.

use super::Router;
use crate::breaker::Outcome;
use crate::gen_ai::{Call, Operation};
use crate::keys::Keys;
use callboard_domain::llm::{Error, ErrorKind, ProviderAttempt, TextRequest};
use tokio::time::{Instant, timeout};

impl Router {
    /// The place of a provider in the configuration.
    ///
    /// # Errors
    /// There is none of that name; the error lists those that there are.
    pub(crate) fn place(&self, name: &str) -> Result<usize, String> {
        self.providers.iter().position(|provider| provider.name() == name).ok_or_else(|| {
            let names: Vec<_> = self.providers.iter().map(|provider| provider.name()).collect();
            format!("no provider is called `{name}`; there are: {}", names.join(", "))
        })
    }

    /// Calls a provider once over one of its keys, whether or not calls may go there; no limit is debited.
    ///
    /// It counts among the provider's calls. Its breaker hears of no success, as one token proves little, and of no failure
    /// but a key that is refused or a quota that is spent: those are as true for every other call.
    pub(crate) async fn test(&self, provider: usize, model: Option<String>) -> ProviderAttempt {
        let ring = &self.rings[provider];
        let mut among = Keys::default();
        (0..ring.keys().len()).for_each(|key| among.add(key));
        let place = ring.pick(among).unwrap_or_default();
        let key = ring.key(place);
        // Where there is no place left, one call more does no harm.
        let _place = key.enter();
        let own = self.providers[provider].describe().text_model.to_owned();
        let request = TextRequest { max_tokens: Some(1), model, ..TextRequest::prompt("ping") };
        let (started, limit) = (Instant::now(), self.timeouts.text.attempt);
        let answer = match timeout(limit, ring.with(place).text(&request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("no answer in {limit:?}"))),
        };
        let duration = started.elapsed();
        let asked = request.model.as_ref().unwrap_or(&own);
        let call = Call { operation: Operation::Chat, model: asked, took: duration };
        let (model, error) = match answer {
            Ok(text) => {
                self.health.success(provider, call, Some(text.usage));
                (text.model, None)
            }
            Err(error) => {
                self.health.failure(provider, call, error.kind);
                let model = request.model.unwrap_or(own);
                if matches!(error.kind, ErrorKind::Authentication | ErrorKind::QuotaExceeded)
                    && let Ok(mut permit) = self.breakers.admit(provider, place, &model)
                {
                    permit.settle(Outcome::Failure { kind: error.kind, wait: error.retry_after });
                }
                (model, Some((error.kind, error.message)))
            }
        };
        let (provider, key) = (self.providers[provider].name().to_owned(), key.id().to_owned());
        ProviderAttempt { provider, key, model, duration, error }
    }
}
