//! What one call is charged, from before the route until it is known what it took.

use super::meter::Full;
use super::{Accounts, Books, Measure, QuotaMeter, minute};
use crate::cost::tokens_of;
use callboard_domain::llm::{Cost, Error, ErrorKind, Usage};
use callboard_domain::{Money, Timestamp};
use std::sync::Arc;

/// The bill of one call, over all its attempts.
///
/// Dropped in the middle of an attempt, that has cost what was estimated, or for a stream what came of it: what was sent
/// may be billed.
pub(crate) struct Bill {
    accounts: Arc<Accounts>,
    estimate: Usage,
    images: u32,
    /// What is debited from a budget: its place, since when it counts, and how much.
    reserved: Option<(usize, Timestamp, Money)>,
    /// What the attempts that ended cost.
    total: Money,
    attempt: Option<Attempt>,
}

/// An attempt that is under way.
struct Attempt {
    provider: usize,
    model: String,
    /// What is debited from quotas in tokens: their places, and since when they count.
    tokens: Vec<(usize, Timestamp)>,
    /// The same of calls.
    requests: Vec<(usize, Timestamp)>,
    /// The bytes of text that came so far, of a stream.
    streamed: Option<usize>,
}

/// What an answer took.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) usage: Usage,
    /// Whether the provider counted no tokens.
    pub(crate) estimated: bool,
    pub(crate) cost: Option<Cost>,
}

/// All tokens of a call.
fn sum(usage: Usage) -> i64 {
    i64::from(usage.input_tokens) + i64::from(usage.output_tokens)
}

/// Whether a call that failed so may have been billed all the same.
fn may_be_billed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Timeout | ErrorKind::ContentFiltered | ErrorKind::MalformedAnswer)
}

impl Bill {
    pub(super) fn new(accounts: Arc<Accounts>, estimate: Usage, images: u32) -> Self {
        Self { accounts, estimate, images, reserved: None, total: Money::ZERO, attempt: None }
    }

    pub(super) fn reserve(&mut self, budget: usize, since: Timestamp, amount: Money) {
        self.reserved = Some((budget, since, amount));
    }

    /// An attempt begins: a call and its tokens are debited from every quota of the provider, or from none.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] if a quota has no room, or if a budget is to be kept and the model has no price.
    pub(crate) fn begin(&mut self, provider: usize, model: &str, local: bool) -> Result<(), Error> {
        let accounts = Arc::clone(&self.accounts);
        if !accounts.counts {
            return Ok(());
        }
        let priced = || accounts.prices.of(accounts.provider(provider), model).is_some();
        if self.reserved.is_some() && !local && !priced() {
            let message = format!(
                "a budget covers this call, and the model `{model}` has no price: add one to [[broker.prices]], of \"0\" if \
                 it costs nothing"
            );
            return Err(Error::new(ErrorKind::QuotaExceeded, message));
        }
        let now = accounts.clock.now();
        let mut books = accounts.books();
        let tokens = sum(self.estimate);
        let amount = |quota: &QuotaMeter| if quota.measure == Measure::Requests { 1 } else { tokens };
        for quota in books.quotas.iter_mut().filter(|quota| quota.provider == provider) {
            if let Err(full) = quota.meter.room(amount(quota), now) {
                return Err(spent(quota, full, tokens, now));
            }
        }
        let mut attempt = Attempt {
            provider,
            model: model.to_owned(),
            tokens: Vec::new(),
            requests: Vec::new(),
            streamed: None,
        };
        for (place, quota) in books.quotas.iter_mut().enumerate() {
            if quota.provider == provider {
                let since = quota.meter.add(amount(quota), now);
                let debits = match quota.measure {
                    Measure::Requests => &mut attempt.requests,
                    Measure::Tokens => &mut attempt.tokens,
                };
                debits.push((place, since));
                accounts.tell_quota(quota, now);
            }
        }
        drop(books);
        self.attempt = Some(attempt);
        Ok(())
    }

    /// The attempt was not made after all.
    pub(crate) fn undo(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            let now = self.accounts.clock.now();
            let mut books = self.accounts.books();
            settle(&mut books, &attempt.requests, -1, now);
            settle(&mut books, &attempt.tokens, -sum(self.estimate), now);
        }
    }

    /// The attempt failed. What a provider refused took a call, and no tokens; what may be billed is taken for its
    /// estimate.
    pub(crate) fn failed(&mut self, kind: ErrorKind) {
        if may_be_billed(kind) {
            self.charge(self.estimate, "");
        } else if let Some(attempt) = self.attempt.take() {
            let now = self.accounts.clock.now();
            settle(&mut self.accounts.books(), &attempt.tokens, -sum(self.estimate), now);
        }
    }

    /// So many bytes of a stream's text have come.
    pub(crate) fn streamed(&mut self, bytes: usize) {
        if let Some(attempt) = &mut self.attempt {
            attempt.streamed = Some(bytes);
        }
    }

    /// The attempt was answered, by this model and with so many bytes of text. A provider that counted no tokens has
    /// taken what is estimated by them.
    pub(crate) fn answered(&mut self, model: &str, usage: Usage, bytes: usize) -> Taken {
        let estimated = sum(usage) == 0 && self.images == 0;
        let usage = if estimated { self.of_text(bytes) } else { usage };
        let cost = self.charge(usage, model);
        Taken { usage, estimated, cost }
    }

    /// What a text of so many bytes took.
    fn of_text(&self, bytes: usize) -> Usage {
        Usage { output_tokens: tokens_of(bytes), ..self.estimate }
    }

    /// The attempt that is under way has ended and took so much. `model` is the one that answered, if that is known.
    fn charge(&mut self, usage: Usage, model: &str) -> Option<Cost> {
        let attempt = self.attempt.take()?;
        let accounts = &self.accounts;
        let provider = accounts.provider(attempt.provider);
        let price =
            accounts.prices.of(provider, &attempt.model).or_else(|| accounts.prices.of(provider, model));
        let cost = price.map(|price| accounts.prices.cost(price, usage, self.images));
        let now = accounts.clock.now();
        let mut books = accounts.books();
        settle(&mut books, &attempt.tokens, sum(usage) - sum(self.estimate), now);
        if let Some(cost) = &cost {
            let model = if attempt.model.is_empty() { model } else { &attempt.model };
            books.spend(attempt.provider, model, cost.amount, now);
            self.total = self.total.plus(cost.amount);
        }
        for (place, _) in &attempt.tokens {
            books.quotas.get_mut(*place).into_iter().for_each(|quota| accounts.tell_quota(quota, now));
        }
        cost
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        if let Some(attempt) = &self.attempt {
            let usage = attempt.streamed.map_or(self.estimate, |bytes| self.of_text(bytes));
            self.charge(usage, "");
        }
        if let Some((place, since, amount)) = self.reserved {
            let now = self.accounts.clock.now();
            let mut books = self.accounts.books();
            if let Some(budget) = books.budgets.get_mut(place) {
                let difference = self.total.picodollars().saturating_sub(amount.picodollars());
                budget.meter.settle(difference, since, now);
                self.accounts.tell_budget(budget, now);
            }
        }
    }
}

fn settle(books: &mut Books, quotas: &[(usize, Timestamp)], difference: i64, now: Timestamp) {
    for (place, since) in quotas {
        if let Some(quota) = books.quotas.get_mut(*place) {
            quota.meter.settle(difference, *since, now);
        }
    }
}

fn spent(quota: &mut QuotaMeter, full: Full, tokens: i64, now: Timestamp) -> Error {
    let (measure, span) = (quota.measure.name(), quota.meter.span().name());
    let limit = quota.meter.standing(now).map_or(0, |standing| standing.limit);
    let may = match quota.measure {
        Measure::Tokens if full.used < limit => format!(", and this call may take {tokens}"),
        _ => String::new(),
    };
    let message = format!(
        "the configured quota of {limit} {measure} per {span} is spent: {} are used{may}; it begins anew at {}",
        full.used,
        minute(full.resets)
    );
    let retry_after = Some(full.resets.since(now));
    Error { retry_after, ..Error::new(ErrorKind::QuotaExceeded, message) }
}
