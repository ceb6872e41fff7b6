//! Keeping the answers to the most frequent prompts in the cache: each is asked for anew shortly before it ends.
//!
//! Nobody waits for these calls, so they give way to all others: they are made one after the other, a few a minute, only where
//! the provider is well and has room to spare, and never go on to another one. They pass admission, quotas, budgets and breakers
//! as any call.

use crate::breaker::BreakerState;
use crate::broker::Broker;
use crate::health::ProviderStatus;
use crate::stages::{Begun, Due};
use std::time::Duration;

/// How often [`Broker::warm`] is called, on one node of the cluster.
pub const EVERY: Duration = Duration::from_secs(5);
/// The share of a quota or a budget that is left to calls that somebody waits for.
const LEFT: f64 = 0.25;

impl Broker {
    /// Asks anew what is due. What is asked most is as this node has counted.
    pub async fn warm(&self) {
        for due in self.stages.due() {
            match self.provider_for(&due) {
                Err(why) => {
                    tracing::debug!(why, "an answer is not kept warm now");
                    self.stages.held();
                }
                Ok(provider) => {
                    if self.stages.warm(due, provider).await == Begun::Full {
                        return;
                    }
                }
            }
        }
    }

    /// The provider that is to be asked, if one alone would be, or why none is.
    fn provider_for(&self, due: &Due) -> Result<Option<String>, &'static str> {
        let over = |used: f64, limit: f64| used >= limit * (1.0 - LEFT);
        let budgets = self.budgets();
        let budget = budgets.iter().find(|budget| budget.namespace == due.namespace());
        if budget.is_some_and(|budget| over(budget.spent.dollars(), budget.limit.dollars())) {
            return Err("the rest of the budget is for calls that somebody waits for");
        }
        let providers = self.providers();
        let (policy, routes) = self.routes();
        let route = routes.into_iter().find(|route| due.request.model.as_ref() == Some(&route.name));
        // Who is switched off is not asked, and keeps none of the others from it.
        let on = providers.iter().filter(|p| p.switch.is_none());
        let (alone, asked): (bool, Vec<&ProviderStatus>) = match (&due.request.provider, route) {
            (Some(name), _) => (true, on.filter(|p| p.name == *name).collect()),
            (None, Some(route)) => {
                let leads = |name: &str| route.targets.iter().any(|target| target.provider == name);
                (false, on.filter(|p| leads(&p.name)).collect())
            }
            (None, None) if policy == crate::config::Policy::Priority => (true, on.take(1).collect()),
            (None, None) => (false, on.collect()),
        };
        let [first, ..] = asked[..] else { return Err("no provider is there that is switched on") };
        for provider in &asked {
            if provider.breakers.iter().any(|breaker| breaker.state != BreakerState::Closed) {
                return Err("a breaker of the provider is not closed");
            }
            if provider.keys.iter().any(|key| !key.spent.is_empty()) {
                return Err("the provider has said that nothing is left");
            }
            if provider.quotas.iter().any(|quota| over(quota.used as f64, quota.limit as f64)) {
                return Err("the rest of the quota is for calls that somebody waits for");
            }
        }
        Ok(alone.then(|| first.name.clone()))
    }
}
