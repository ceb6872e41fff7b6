//! What calls use and cost, against quotas of providers and budgets of namespaces.
//!
//! - A **quota** is in calls or tokens of a provider in a calendar hour or day. Where it is spent the provider is not
//!   asked, and the next one is tried.
//! - A **budget** is in money of a namespace in a calendar day. A call whose estimate it has no room for is refused before
//!   any provider is asked; it covers every way in, as all go through the route.
//!
//! What a call may take is debited before, what it took is settled after ([`Bill`]); a call counts in the hour and day in
//! which it began. Counting is in memory, under one lock and without waiting. What all nodes added is exchanged with a
//! ledger beside that ([`Accounts::exchange`]), every [`EVERY`]: so a node may lag behind the others by that and by what
//! the ledger takes, together they may pass a limit by what they let in meanwhile, and a crash loses no more than that of
//! what was counted. While the ledger is away each node goes on with what it knows, and knows nothing new of the others:
//! then each may use up to the whole of what was left.

mod bill;
mod budget;
mod exchange;
mod meter;
mod quota;
mod span;
mod tell;

pub(crate) use bill::Bill;
pub use budget::{Budget, BudgetStatus, DEFAULT_NAMESPACE};
pub use exchange::EVERY;
pub use quota::{Measure, Quota, QuotaStatus};
pub use span::Span;

use crate::broker::{Deps, Observe};
use crate::config::Config;
use crate::cost::Prices;
use callboard_domain::llm::{Error, ErrorKind, Usage};
use callboard_domain::{Money, Timestamp};
use callboard_ports::{Clock, Ledger};
use meter::{Full, Meter};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most models of a provider whose costs are counted apart; further ones are counted together.
const MODELS: usize = 64;
/// The name under which they are.
const OTHER: &str = "other";

/// A quota of a provider, by its place among them.
#[derive(Debug)]
struct QuotaMeter {
    provider: usize,
    measure: Measure,
    meter: Meter,
}

/// A budget, in picodollars.
#[derive(Debug)]
struct BudgetMeter {
    namespace: String,
    meter: Meter,
}

#[derive(Debug)]
struct Books {
    quotas: Vec<QuotaMeter>,
    budgets: Vec<BudgetMeter>,
    /// What was spent at each provider today, in picodollars.
    spent: Vec<Meter>,
    /// The same by model, since the start and by this node.
    costs: Vec<BTreeMap<String, Money>>,
    /// How often the ledger was told.
    told: u64,
}

pub(crate) struct Accounts {
    providers: Vec<String>,
    prices: Prices,
    /// Whether there is anything to count.
    counts: bool,
    books: Mutex<Books>,
    clock: Arc<dyn Clock>,
    observe: Observe,
    ledger: Arc<dyn Ledger>,
    /// What this process is called in the ledger: unlike any before it.
    source: String,
}

impl Accounts {
    pub(crate) fn new(providers: Vec<String>, config: &Config, deps: &Deps) -> Self {
        let now = deps.clock.now();
        let mut quotas = Vec::new();
        for quota in &config.quotas {
            let Some(provider) = providers.iter().position(|name| *name == quota.provider) else { continue };
            quotas.extend(quota.parts().map(|(measure, span, limit)| {
                let meter = Meter::new(span, Some(i64::try_from(limit).unwrap_or(i64::MAX)), now);
                QuotaMeter { provider, measure, meter }
            }));
        }
        let budget = |budget: &Budget| BudgetMeter {
            namespace: budget.namespace.clone(),
            meter: Meter::new(Span::Day, Some(budget.usd_per_day.picodollars()), now),
        };
        let budgets: Vec<_> = config.budgets.iter().map(budget).collect();
        let prices = Prices::new(config.prices.clone(), config.prices_version.clone());
        let counts = !(quotas.is_empty() && budgets.is_empty() && prices.is_empty());
        let spent = match prices.is_empty() {
            true => Vec::new(),
            false => providers.iter().map(|_| Meter::new(Span::Day, None, now)).collect(),
        };
        let costs = providers.iter().map(|_| BTreeMap::new()).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1")]
        let random = ((deps.jitter)() * 2_f64.powi(48)) as u64;
        Self {
            providers,
            prices,
            counts,
            books: Mutex::new(Books { quotas, budgets, spent, costs, told: 0 }),
            clock: Arc::clone(&deps.clock),
            observe: Arc::clone(&deps.observe),
            ledger: Arc::clone(&deps.ledger),
            source: format!("{:x}-{random:x}", now.micros()),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn provider(&self, index: usize) -> &str {
        self.providers.get(index).map_or("", String::as_str)
    }

    /// Opens a call's bill: what it may cost is debited from its namespace's budget. Candidates are a provider, a model, and
    /// whether that is made here of templates; the first that has a price says what the call may cost. One that costs
    /// nothing wherever it goes needs no room.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] if the budget has no room for it.
    pub(crate) fn open<'a>(
        self: &Arc<Self>,
        namespace: &str,
        candidates: impl Iterator<Item = (usize, &'a str, bool)>,
        estimate: Usage,
        images: u32,
    ) -> Result<Bill, Error> {
        let mut bill = Bill::new(Arc::clone(self), estimate, images);
        if !self.counts {
            return Ok(bill);
        }
        let mut books = self.books();
        let Some(place) = books.budgets.iter().position(|budget| budget.namespace == namespace) else {
            return Ok(bill);
        };
        let now = self.clock.now();
        // What offline templates cost is known without a price.
        let paid = candidates.filter(|(.., local)| !local);
        let prices = paid.map(|(provider, model, _)| self.prices.of(self.provider(provider), model));
        let amounts: Vec<_> = prices.map(|price| price.map(|price| price.amount(estimate, images))).collect();
        let amount = amounts.iter().copied().flatten().next().unwrap_or_default();
        let free = amounts.iter().all(|amount| *amount == Some(Money::ZERO));
        if let Some(budget) = books.budgets.get_mut(place) {
            let room = budget.meter.room(amount.picodollars(), now);
            if let (false, Err(full)) = (free, room) {
                let limit = budget.meter.standing(now).map_or(0, |standing| standing.limit);
                return Err(over_budget(namespace, full, limit, amount, now));
            }
            let since = budget.meter.add(amount.picodollars(), now);
            bill.reserve(place, since, amount);
            self.tell_budget(budget, now);
        }
        Ok(bill)
    }

    /// Nothing of a provider's quotas is used any more, on all nodes. Whether there is such a provider.
    pub(crate) fn reset_quota(&self, provider: &str) -> bool {
        let Some(index) = self.providers.iter().position(|name| name == provider) else { return false };
        let now = self.clock.now();
        let mut books = self.books();
        let quotas = books.quotas.iter_mut().filter(|quota| quota.provider == index);
        for quota in quotas {
            quota.meter.reset(now);
            self.tell_quota(quota, now);
        }
        true
    }

    /// How a provider's quotas stand.
    pub(crate) fn quotas(&self, provider: usize) -> Vec<QuotaStatus> {
        let (now, mut books) = (self.clock.now(), self.books());
        let quotas = books.quotas.iter_mut().filter(|quota| quota.provider == provider);
        let status = |quota: &mut QuotaMeter| quota.status(now);
        quotas.filter_map(status).collect()
    }

    /// How the budgets stand.
    pub(crate) fn budgets(&self) -> Vec<BudgetStatus> {
        let (now, mut books) = (self.clock.now(), self.books());
        books.budgets.iter_mut().filter_map(|budget| budget.status(now)).collect()
    }

    /// What a call would cost that takes so much; `None` if the model has no price.
    pub(crate) fn price(&self, provider: usize, model: &str, expected: Usage, images: u32) -> Option<Money> {
        Some(self.prices.of(self.provider(provider), model)?.amount(expected, images))
    }

    /// What was spent at a provider today, by all nodes; `None` if no prices are configured.
    pub(crate) fn spent_today(&self, provider: usize) -> Option<Money> {
        let (now, mut books) = (self.clock.now(), self.books());
        books.spent.get_mut(provider).map(|meter| Money::from_picodollars(meter.used(now)))
    }

    /// What this node spent at a provider since its start, by model.
    pub(crate) fn costs(&self, provider: usize) -> Vec<(String, Money)> {
        let books = self.books();
        let costs = books.costs.get(provider).into_iter().flatten();
        costs.map(|(model, amount)| (model.clone(), *amount)).collect()
    }
}

impl QuotaMeter {
    fn status(&mut self, now: Timestamp) -> Option<QuotaStatus> {
        let standing = self.meter.standing(now)?;
        Some(QuotaStatus {
            measure: self.measure,
            span: self.meter.span(),
            used: u64::try_from(standing.used).unwrap_or(0),
            limit: u64::try_from(standing.limit).unwrap_or(0),
            resets: standing.resets,
            spent_at: standing.spent_at,
        })
    }
}

impl BudgetMeter {
    fn status(&mut self, now: Timestamp) -> Option<BudgetStatus> {
        let standing = self.meter.standing(now)?;
        Some(BudgetStatus {
            namespace: self.namespace.clone(),
            spent: Money::from_picodollars(standing.used),
            limit: Money::from_picodollars(standing.limit),
            resets: standing.resets,
            spent_at: standing.spent_at,
        })
    }
}

impl Books {
    /// Counts what was spent at a provider.
    fn spend(&mut self, provider: usize, model: &str, amount: Money, now: Timestamp) {
        if let Some(meter) = self.spent.get_mut(provider) {
            meter.add(amount.picodollars(), now);
        }
        if let Some(costs) = self.costs.get_mut(provider) {
            let known = costs.contains_key(model) || costs.len() < MODELS;
            let sum = costs.entry(if known { model } else { OTHER }.to_owned()).or_default();
            *sum = sum.plus(amount);
        }
    }
}

/// A moment, for people: to the minute.
fn minute(at: Timestamp) -> String {
    let mut text = at.to_rfc3339();
    text.truncate("2026-11-30T09:00".len());
    text + "Z"
}

fn over_budget(namespace: &str, full: Full, limit: i64, amount: Money, now: Timestamp) -> Error {
    let money = Money::from_picodollars;
    let message = format!(
        "the budget of the namespace `{namespace}` has no room: of ${} a day ${} are spent, and this call may cost \
         ${amount}; it begins anew at {}, or raise usd_per_day in [[broker.budgets]]",
        money(limit),
        money(full.used),
        minute(full.resets)
    );
    let retry_after = Some(full.resets.since(now));
    Error { retry_after, ..Error::new(ErrorKind::QuotaExceeded, message) }
}
