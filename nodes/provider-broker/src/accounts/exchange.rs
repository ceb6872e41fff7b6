//! Exchanges what is counted here with the ledger that all nodes share.

use super::meter::Meter;
use super::{Accounts, Books};
use callboard_domain::Timestamp;
use callboard_ports::ledger::{self, Balance};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often what was counted is told and asked for.
pub const EVERY: Duration = Duration::from_millis(200);
/// How often it is asked for where nothing was counted meanwhile.
const IDLE: Duration = Duration::from_secs(1);
/// How long the ledger may take.
const WITHIN: Duration = Duration::from_secs(2);
/// How often what is over is removed.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// For how long the ledger keeps what is over.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// What is told of one meter.
struct Told {
    since: Timestamp,
    balance: Balance,
    changed: bool,
}

impl Accounts {
    /// Exchanges for ever. What fails is tried again; that it fails is said once.
    pub(crate) async fn run(&self) {
        if !self.counts {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut asked, mut forgot, mut away): (Option<Instant>, Option<Instant>, bool) = (None, None, false);
        loop {
            let now = ticks.tick().await;
            self.tell_news();
            if !self.is_changed() && asked.is_some_and(|asked| now < asked + IDLE) {
                continue;
            }
            asked = Some(now);
            match self.exchange().await {
                Ok(()) if std::mem::take(&mut away) => tracing::info!("the ledger is back"),
                Ok(()) => {}
                Err(error) if !std::mem::replace(&mut away, true) => {
                    tracing::warn!(%error, "quotas and budgets go by what this node knows");
                }
                Err(_) => {}
            }
            if !away && forgot.is_none_or(|forgot| now >= forgot + FORGET_EVERY) {
                forgot = Some(now);
                if let Err(error) = self.ledger.forget(self.clock.now()).await {
                    tracing::debug!(%error, "what is over stays in the ledger");
                }
            }
        }
    }

    /// Tells the ledger what was counted here, and hears what all nodes counted.
    ///
    /// # Errors
    /// If the ledger does not answer in time: nothing is lost, what it was not told is told the next time.
    pub(crate) async fn exchange(&self) -> Result<(), ledger::Error> {
        if !self.counts {
            return Ok(());
        }
        let (told, number) = {
            let mut books = self.books();
            books.told += 1;
            let now = self.clock.now();
            (self.each(&mut books, |account, meter| tell(account, meter, now)), books.told)
        };
        let own: Vec<_> = told.iter().filter(|told| told.changed).map(|told| told.balance.clone()).collect();
        let accounts: Vec<_> = told.iter().map(|told| told.balance.account.clone()).collect();
        let answer =
            tokio::time::timeout(WITHIN, self.ledger.exchange(&self.source, number, &own, &accounts));
        let sums = answer.await.unwrap_or_else(|_| {
            Err(ledger::Error::Unavailable(format!("no answer in {} s", WITHIN.as_secs())))
        })?;
        let now = self.clock.now();
        let mut books = self.books();
        let mut heard = told.into_iter().zip(sums);
        self.each(&mut books, |_, meter| {
            if let Some((told, sum)) = heard.next() {
                meter.hear(told.since, told.balance.total, sum, now);
            }
        });
        self.tell_all(&mut books, now);
        Ok(())
    }

    /// A new hour or day is told where no call comes, too.
    fn tell_news(&self) {
        let (now, mut books) = (self.clock.now(), self.books());
        self.tell_all(&mut books, now);
    }

    fn is_changed(&self) -> bool {
        let mut changed = false;
        self.each(&mut self.books(), |_, meter| changed |= meter.is_changed());
        changed
    }

    /// Every meter with the name of what it counts, in an order that stays.
    fn each<T>(&self, books: &mut Books, mut visit: impl FnMut(String, &mut Meter) -> T) -> Vec<T> {
        let mut seen = Vec::new();
        for quota in &mut books.quotas {
            let name = format!("{}:{}", quota.measure.name(), self.provider(quota.provider));
            seen.push(visit(name, &mut quota.meter));
        }
        for budget in &mut books.budgets {
            seen.push(visit(format!("budget:{}", budget.namespace), &mut budget.meter));
        }
        for (provider, meter) in books.spent.iter_mut().enumerate() {
            seen.push(visit(format!("cost:{}", self.provider(provider)), meter));
        }
        seen
    }
}

fn tell(account: String, meter: &mut Meter, now: Timestamp) -> Told {
    let (since, total) = meter.own(now);
    let span = meter.span();
    // The name of the hour or day first: what is over is told apart, and each is a new account.
    let account = format!("{}:{account}", span.label(since));
    let until = since.after(span.length() + KEPT);
    Told { since, balance: Balance { account, total, until }, changed: meter.is_changed() }
}
