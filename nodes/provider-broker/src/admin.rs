//! What an admin does to providers, and what nodes tell each other of them.
//!
//! What is switched is a record above the configuration: it is written to the store before it is acknowledged, told to every
//! node, and in force again after a restart, whatever the file says by then. So it is always shown beside what the file
//! says, logged at the start, and one command ([`Broker::reset`]) has a provider follow the file again.

use crate::broker::Broker;
use crate::health::ProviderStatus;
use crate::route::{SwitchState, WeightStatus};
use crate::shared::{self, Wait};
use callboard_domain::llm::ProviderAttempt;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{Code, Error, ProviderRecord};
use callboard_ports::store;
use std::sync::Arc;

/// The most bytes of what an admin says of why.
const REASON_BYTES: usize = 200;

/// Who switches something, and why.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// The name of the admin's key; empty where none is needed.
    pub author: &'a str,
    /// Why; empty if nothing is said.
    pub reason: &'a str,
}

impl Broker {
    /// Switches a provider off or on, on every node. What it answers as is in force here, and written down.
    ///
    /// # Errors
    /// There is no such provider, the reason is too long, or the store does not take it: then nothing is switched.
    pub async fn switch(
        &self,
        name: &str,
        state: SwitchState,
        said: Said<'_>,
    ) -> Result<ProviderStatus, Error> {
        self.place(name)?;
        check_reason(said.reason)?;
        self.change(said, &[(Subject::of(Topic::Switch, name), state.as_str())]).await?;
        tracing::warn!(
            provider = name,
            state = state.as_str(),
            author = said.author,
            reason = said.reason,
            "an admin switched a provider"
        );
        self.status(name)
    }

    /// Makes a provider the first that is tried, on every node.
    ///
    /// # Errors
    /// As for [`switch`](Self::switch).
    pub async fn set_primary(&self, name: &str, said: Said<'_>) -> Result<ProviderStatus, Error> {
        self.place(name)?;
        check_reason(said.reason)?;
        self.change(said, &[(Subject::of(Topic::Primary, ""), name)]).await?;
        tracing::warn!(
            provider = name,
            author = said.author,
            reason = said.reason,
            "an admin made a provider the first"
        );
        self.status(name)
    }

    /// Gives a provider, or the key of it that is named, another weight on every node; none: that of the configuration.
    /// Answers with whether any policy looks at it: it counts where providers are drawn by weight, or stick to a subject.
    ///
    /// # Errors
    /// As for [`switch`](Self::switch); or there is no such key, or the weight is out of its bounds.
    pub async fn set_weight(
        &self,
        name: &str,
        key: &str,
        weight: Option<u32>,
        said: Said<'_>,
    ) -> Result<(ProviderStatus, bool), Error> {
        check_reason(said.reason)?;
        // One router: another has other places.
        let router = self.live.now();
        let place = router.place(name).map_err(unknown)?;
        let wrong = |(field, text): (&'static str, String)| Error::field(Code::InvalidArgument, field, text);
        router.check_weight(place, key, weight).map_err(wrong)?;
        let subject = Subject { key: key.to_owned(), ..Subject::of(Topic::Weight, name) };
        let value = weight.map_or_else(String::new, |weight| weight.to_string());
        self.change(said, &[(subject, &value)]).await?;
        tracing::warn!(
            provider = name,
            key,
            weight,
            author = said.author,
            reason = said.reason,
            "an admin set a weight"
        );
        // What one key gets is looked at by every policy.
        let router = self.live.now();
        let looked_at = |place| router.looks_at_weight(place);
        Ok((self.status(name)?, !key.is_empty() || router.place(name).is_ok_and(looked_at)))
    }

    /// Has a provider follow the configuration again.
    ///
    /// # Errors
    /// As for [`switch`](Self::switch).
    pub async fn reset(&self, name: &str, said: Said<'_>) -> Result<ProviderStatus, Error> {
        self.place(name)?;
        let primary = Subject::of(Topic::Primary, "");
        let mut nothing = vec![(Subject::of(Topic::Switch, name), "")];
        self.refresh().await?;
        if self.records.get(&primary).is_some_and(|record| record.value == name) {
            nothing.push((primary, ""));
        }
        let weights = self.records.of(Topic::Weight).into_iter();
        let weights = weights.filter(|record| record.subject.provider == name && !record.value.is_empty());
        nothing.extend(weights.map(|record| (record.subject, "")));
        self.change(said, &nothing).await?;
        tracing::warn!(
            provider = name,
            author = said.author,
            "an admin had a provider follow the configuration"
        );
        self.status(name)
    }

    /// Makes a call of one token to a provider, from this node.
    ///
    /// # Errors
    /// There is no such provider. What the provider fails with is in the attempt.
    pub async fn test(&self, name: &str, model: Option<String>) -> Result<ProviderAttempt, Error> {
        let router = self.live.now();
        let place = router.place(name).map_err(unknown)?;
        Ok(router.test(place, model).await)
    }

    /// Closes the breakers of a provider, here and on every node that can be told, and forgets the waits it named here.
    ///
    /// # Errors
    /// There is no such provider.
    pub fn close_breakers(&self, name: &str) -> Result<ProviderStatus, Error> {
        let router = self.live.now();
        router.close_breakers(router.place(name).map_err(unknown)?);
        tracing::warn!(provider = name, "an admin closed a provider's breakers");
        self.status(name)
    }

    /// Makes a provider's quotas as if nothing of them had been used, on every node once it has heard of it.
    ///
    /// # Errors
    /// There is no such provider.
    pub fn forget_quota(&self, name: &str) -> Result<(), Error> {
        self.place(name)?;
        self.reset_quota(name);
        tracing::warn!(provider = name, "an admin reset a provider's quotas");
        Ok(())
    }

    /// Whether there is a provider of that name.
    #[must_use]
    pub fn has_provider(&self, name: &str) -> bool {
        self.live.now().place(name).is_ok()
    }

    /// Reads what is kept of providers, and does it: what is switched is in force from here on. Says in the log what that is.
    /// If the store does not answer it says that, and [`keep`](Self::keep) goes on trying.
    pub async fn recall(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "what was switched of providers is not known yet");
        }
        for status in self.providers() {
            let (provider, place) = (&status.name, status.place);
            if let Some(switch) = &status.switch {
                let switch = switch.describe();
                tracing::warn!(
                    provider,
                    switch,
                    "no calls go to a provider of the configuration, as an admin said"
                );
            }
            for WeightStatus { key, weight, configured, by } in &status.weights {
                let author = &by.author;
                tracing::warn!(
                    provider,
                    key,
                    weight,
                    configured,
                    author,
                    "a weight is not that of the configuration, as an admin said"
                );
            }
            if let Some(primary) = &status.primary {
                let author = &primary.author;
                tracing::warn!(
                    provider,
                    place,
                    author,
                    "a provider is tried before its place, as an admin said"
                );
            }
        }
        self.say_shares();
    }

    /// Tells other nodes what this one learns, saves it, and reads what they saved; for ever.
    pub async fn keep(self: Arc<Self>) {
        if let Some(sharing) = &self.deps.sharing {
            let heard = |records| {
                self.hear(records);
                self.stages.clears_are_known();
            };
            shared::keep(&self.records, sharing, &self.deps.jitter, heard).await;
        }
    }

    /// Does what other nodes have learned.
    pub(crate) fn hear(&self, records: Vec<ProviderRecord>) {
        for subject in self.records.hear(records) {
            match subject.topic {
                Topic::Cache => self.adopt_clear(&subject),
                Topic::Breaker | Topic::Switch | Topic::Primary | Topic::Weight => {
                    self.live.adopt(&subject);
                }
                Topic::Experiment => self.adopt_shares(),
            }
        }
    }

    /// Holds calls back for as long as a provider has told another node to.
    pub(crate) fn hear_wait(&self, wait: &Wait) {
        self.live.now().adopt_wait(wait);
    }

    fn place(&self, name: &str) -> Result<usize, Error> {
        self.live.now().place(name).map_err(unknown)
    }

    /// By its name: a reload may have given it another place meanwhile.
    fn status(&self, name: &str) -> Result<ProviderStatus, Error> {
        let found = self.providers().into_iter().find(|status| status.name == name);
        found.ok_or_else(|| {
            let text =
                format!("it is written down, but a reload has taken `{name}` out of the configuration");
            Error::field(Code::InvalidArgument, "name", text)
        })
    }

    /// What the store holds is known.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        if let Some(sharing) = &self.deps.sharing {
            self.hear(shared::recall(sharing).await.map_err(not_kept)?);
            self.stages.clears_are_known();
        }
        Ok(())
    }

    /// Writes values down, and then does them.
    pub(crate) async fn change(&self, said: Said<'_>, values: &[(Subject, &str)]) -> Result<(), Error> {
        let values = values.iter().map(|(subject, value)| (subject.clone(), (*value).to_owned())).collect();
        self.change_to(said, || Ok(values)).await
    }

    /// The same with values that are made of what is known of the store by then: no other change of this node is in between.
    pub(crate) async fn change_to(
        &self,
        said: Said<'_>,
        values: impl FnOnce() -> Result<Vec<(Subject, String)>, Error>,
    ) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        // It has to outdo what another node has written.
        self.refresh().await?;
        let record = |(subject, value): (Subject, String)| ProviderRecord {
            value,
            note: said.reason.to_owned(),
            author: said.author.to_owned(),
            ..self.records.next(subject)
        };
        let records: Vec<_> = values()?.into_iter().map(record).collect();
        if let Some(sharing) = &self.deps.sharing {
            sharing.store.save_provider_records(records.clone()).await.map_err(not_kept)?;
        }
        for record in records {
            let subject = record.subject.clone();
            self.records.learn(record);
            match subject.topic {
                Topic::Experiment => self.adopt_shares(),
                _ => self.live.adopt(&subject),
            }
        }
        Ok(())
    }
}

pub(crate) fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.len() > REASON_BYTES {
        let text = format!("must be at most {REASON_BYTES} bytes");
        return Err(Error::field(Code::InvalidArgument, "reason", text));
    }
    Ok(())
}

fn unknown(text: String) -> Error {
    Error::field(Code::InvalidArgument, "name", text)
}

fn not_kept(error: store::Error) -> Error {
    let text =
        format!("what is switched of providers cannot be read or written down, nothing has changed: {error}");
    Error::new(Code::StoreUnavailable, text)
}
