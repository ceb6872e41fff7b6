//! Tells the alerts how quotas and budgets stand.

use super::meter::{Level, Meter};
use super::{Accounts, Books, BudgetMeter, QuotaMeter, minute};
use callboard_domain::alert::Observation;
use callboard_domain::{Money, Timestamp};

/// The rules that are observed here.
const QUOTA: &str = "provider_quota";
const BUDGET: &str = "namespace_budget";

impl Accounts {
    /// Told under the lock, so that what is told arrives in the order in which it happened.
    pub(super) fn tell_quota(&self, quota: &mut QuotaMeter, now: Timestamp) {
        let Some(level) = quota.meter.news(now) else { return };
        let (measure, span) = (quota.measure.name(), quota.meter.span().name());
        let subject = format!("{}: {measure} per {span}", self.provider(quota.provider));
        let message = message(&mut quota.meter, level, now, |amount| amount.to_string());
        self.tell(QUOTA, &subject, level, message, now);
    }

    pub(super) fn tell_budget(&self, budget: &mut BudgetMeter, now: Timestamp) {
        let Some(level) = budget.meter.news(now) else { return };
        let dollars = |amount| format!("${}", Money::from_picodollars(amount));
        let message = message(&mut budget.meter, level, now, dollars);
        self.tell(BUDGET, &budget.namespace, level, message, now);
    }

    pub(super) fn tell_all(&self, books: &mut Books, now: Timestamp) {
        books.quotas.iter_mut().for_each(|quota| self.tell_quota(quota, now));
        books.budgets.iter_mut().for_each(|budget| self.tell_budget(budget, now));
    }

    fn tell(&self, rule: &str, subject: &str, level: Level, message: String, now: Timestamp) {
        (self.observe)(Observation {
            rule: rule.into(),
            subject: subject.into(),
            message,
            firing: level > Level::Fine,
            at: now,
            count: 1,
        });
    }
}

fn message(meter: &mut Meter, level: Level, now: Timestamp, amount: impl Fn(i64) -> String) -> String {
    let Some(standing) = meter.standing(now) else { return String::new() };
    let of = format!("{} of {} are used", amount(standing.used), amount(standing.limit));
    let resets = minute(standing.resets);
    match (level, standing.spent_at) {
        (Level::Spent, _) => format!("all is used: {of}; it begins anew at {resets}"),
        (Level::Fine, _) => of,
        (_, Some(at)) => {
            format!("{of}, and at the rate of late all will be at {}; it begins anew at {resets}", minute(at))
        }
        (_, None) => format!("{of}; it begins anew at {resets}"),
    }
}
