//! What other nodes, and admins, say of breakers.

use super::{Board, whole_seconds};
use callboard_domain::llm::ErrorKind;
use callboard_domain::provider_record::{Subject, Topic};
use std::time::Duration;
use tokio::time::Instant;

impl Board {
    /// Closes every breaker of a provider, and has every node do so.
    pub(crate) fn close(&self, provider: usize) {
        let Some((name, mut state)) = self.state(provider) else { return };
        state.all_mut().for_each(|entry| entry.breaker.reset());
        self.records.waits().forget(name);
        // Those too that only others know.
        for record in self.records.of(Topic::Breaker).iter().filter(|record| record.subject.provider == name)
        {
            self.records.closed(&record.subject);
        }
        self.report_closed(provider, &mut state, "an admin closed it");
    }

    /// A provider has named a wait to another node. What was longer stays.
    pub(crate) fn adopt_wait(&self, provider: usize, key: usize, model: &str, left: Duration) {
        let Some((_, mut state)) = self.state(provider) else { return };
        let now = Instant::now();
        let models = match state.keys.is_empty() {
            true => Some(&mut state.provider),
            false => state.keys.get_mut(key),
        };
        if let Some(models) = models {
            models.of(model, &self.rules, now).adopt_wait(left.min(self.rules.max_cool_down), now);
        }
    }

    /// Does what is known of every breaker.
    pub(crate) fn adopt_all(&self) {
        self.records.of(Topic::Breaker).iter().for_each(|record| self.adopt(&record.subject));
    }

    /// Does what is known of a breaker, which may be news from another node.
    pub(crate) fn adopt(&self, subject: &Subject) {
        let Some(provider) = self.providers.iter().position(|of| of.name == subject.provider) else { return };
        let Some((name, mut state)) = self.state(provider) else { return };
        let key =
            self.providers.get(provider).and_then(|of| of.keys.iter().position(|id| *id == subject.key));
        let models = match key {
            Some(key) => state.keys.get_mut(key),
            None if subject.key.is_empty() => Some(&mut state.provider),
            None => None,
        };
        // Looked at under the lock: what this node has learned meanwhile is in there.
        let (Some(models), Some(record)) = (models, self.records.get(subject)) else { return };
        let (now, wall) = (Instant::now(), self.clock.now());
        let model = subject.model.as_str();
        if record.epoch % 2 == 0 {
            let tripped = models.breakers.get_mut(model).filter(|entry| entry.breaker.is_tripped());
            if let Some(entry) = tripped {
                entry.breaker.reset();
                tracing::info!(
                    provider = name,
                    key = subject.key,
                    model,
                    "breaker closed, as another node says"
                );
                self.report_closed(provider, &mut state, "it answers again, as another node says");
            }
            return;
        }
        let cause = ErrorKind::from_reason(&record.value).unwrap_or(ErrorKind::ServerFault);
        // Nobody's clock, and no other node's configuration, leaves a provider out for longer than this one's allows.
        let left = record.until.since(wall).min(self.rules.max_cool_down);
        if left.is_zero() && wall.since(record.until) > self.rules.max_cool_down {
            return;
        }
        let breaker = models.of(model, &self.rules, now);
        let was_open = breaker.is_tripped();
        breaker.adopt(cause, now + left, record.cool_down.min(self.rules.max_cool_down), now);
        if !was_open {
            let (cause, left) = (cause.reason(), whole_seconds(left));
            tracing::warn!(
                provider = name,
                key = subject.key,
                model,
                cause,
                left,
                "breaker open, as another node says"
            );
        }
        // Whoever found out has reported it; that it is over, whoever finds that out.
        state.reported = true;
    }
}
