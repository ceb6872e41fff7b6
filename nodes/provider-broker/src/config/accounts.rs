//! What can be wrong with quotas, prices and budgets.

use super::Config;

/// The most of each: every call looks at them.
const MOST: usize = 1_000;
/// The most characters of the name of a price table.
const VERSION_CHARS: usize = 64;

impl Config {
    /// Every field of them that is wrong.
    pub(super) fn accounts_problems(&self, bad: &mut dyn FnMut(String, &str)) {
        let names = |name: &str| self.providers.iter().any(|provider| provider.name == name);
        for (i, quota) in self.quotas.iter().enumerate() {
            quota.problems().iter().for_each(|(key, problem)| bad(format!("quotas[{i}].{key}"), problem));
            if !names(&quota.provider) {
                bad(format!("quotas[{i}].provider"), "must name one of the providers");
            }
            if self.quotas[..i].iter().any(|other| other.provider == quota.provider) {
                bad(format!("quotas[{i}].provider"), "has a quota already");
            }
        }
        for (i, price) in self.prices.iter().enumerate() {
            price.problems().iter().for_each(|(key, problem)| bad(format!("prices[{i}].{key}"), problem));
            if price.provider.as_deref().is_some_and(|name| !names(name)) {
                bad(format!("prices[{i}].provider"), "must name one of the providers");
            }
            let same =
                |other: &&super::Price| (&other.model, &other.provider) == (&price.model, &price.provider);
            if self.prices[..i].iter().any(|other| same(&other)) {
                bad(format!("prices[{i}].model"), "has a price already");
            }
        }
        if self.prices_version.len() > VERSION_CHARS {
            bad("prices_version".into(), "must be at most 64 characters");
        }
        for (i, budget) in self.budgets.iter().enumerate() {
            budget.problems().iter().for_each(|(key, problem)| bad(format!("budgets[{i}].{key}"), problem));
            if self.budgets[..i].iter().any(|other| other.namespace == budget.namespace) {
                bad(format!("budgets[{i}].namespace"), "has a budget already");
            }
        }
        for (name, count) in
            [("quotas", self.quotas.len()), ("prices", self.prices.len()), ("budgets", self.budgets.len())]
        {
            if count > MOST {
                bad(name.into(), "must be at most 1,000");
            }
        }
    }
}
