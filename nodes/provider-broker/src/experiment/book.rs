//! What came of the arms of experiments, over all nodes and over restarts.
//!
//! Each process counts in memory and tells the ledger its own totals beside that, every [`EVERY`] if there is news: see
//! [`callboard_ports::Ledger`]. So no call waits for it, and nothing is counted twice: what is told again is the same total. A
//! process that dies takes with it what it counted since it told the last time, at most [`EVERY`] and what the ledger takes. What
//! all counted is asked for when somebody wants to know.

use super::sums::{NAMES, Sums};
use callboard_domain::Timestamp;
use callboard_ports::ledger::{self, Balance};
use callboard_ports::{Clock, Ledger};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// How often what was counted is told.
const EVERY: Duration = Duration::from_secs(1);
/// How long the ledger may take.
const WITHIN: Duration = Duration::from_secs(2);
/// How often what is over is removed from the ledger.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// For how long the ledger keeps what a process counted for an arm, from the last it counted for it.
const KEPT: Duration = Duration::from_secs(366 * 24 * 3_600);
/// The most arms of one exchange: more than a configuration has.
const ARMS: usize = ledger::ACCOUNTS / NAMES.len();

/// An arm: its experiment and its name.
type Name = (String, String);

/// What this process counted for an arm, and what others did.
#[derive(Debug, Default)]
pub(super) struct Page {
    own: Sums,
    /// What of it the ledger was told.
    told: Sums,
    /// What other processes counted, as far as this one has heard.
    others: Sums,
}

/// The page of an arm. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Arm(Arc<Mutex<Page>>);

impl Arm {
    fn page(&self) -> MutexGuard<'_, Page> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, what: impl FnOnce(&mut Sums)) {
        what(&mut self.page().own);
    }

    /// What this process counted, and what all did.
    pub(super) fn read(&self) -> (Sums, Sums) {
        let page = self.page();
        (page.own, page.own.plus(page.others))
    }

    /// Whether anybody but the book has it: an arm of the configuration.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn is_told(&self) -> bool {
        let page = self.page();
        page.own == page.told
    }
}

/// The pages of all arms that this process was ever configured with. None is given up: one that began anew would tell the ledger
/// less than it was told before.
pub(crate) struct Book {
    arms: Mutex<BTreeMap<Name, Arm>>,
    /// How often the ledger was told. Held while it is: of two exchanges at once, one would take the other's for somebody else's.
    told: tokio::sync::Mutex<u64>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    /// What this process is called in the ledger: unlike any before it.
    source: String,
}

impl Book {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>, random: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1")]
        let random = (random * 2_f64.powi(48)) as u64;
        let source = format!("{:x}-{random:x}", clock.now().micros());
        Self { arms: Mutex::default(), told: tokio::sync::Mutex::default(), ledger, clock, source }
    }

    fn arms(&self) -> MutexGuard<'_, BTreeMap<Name, Arm>> {
        self.arms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page of an arm, which may be a new one.
    pub(super) fn arm(&self, experiment: &str, arm: &str) -> Arm {
        self.arms().entry((experiment.to_owned(), arm.to_owned())).or_default().clone()
    }

    /// Whether everything was told.
    pub(crate) fn is_told(&self) -> bool {
        self.arms().values().all(Arm::is_told)
    }

    /// Tells the ledger what was counted here, and hears what all counted, if that is asked for.
    ///
    /// # Errors
    /// If it does not answer in time: nothing is lost, what it was not told is told the next time.
    pub(crate) async fn exchange(&self, hear: bool) -> Result<(), ledger::Error> {
        let late = |_| ledger::Error::Unavailable(format!("no answer in {} s", WITHIN.as_secs()));
        timeout(WITHIN, self.exchange_in_time(hear)).await.map_err(late)?
    }

    async fn exchange_in_time(&self, hear: bool) -> Result<(), ledger::Error> {
        let mut number = self.told.lock().await;
        let asked = |arm: &Arm| hear && arm.is_used() || !arm.is_told();
        let arms: Vec<(Name, Arm)> = {
            let arms = self.arms();
            let asked = arms.iter().filter(|(_, arm)| asked(arm));
            asked.take(ARMS).map(|(name, arm)| (name.clone(), arm.clone())).collect()
        };
        let until = self.clock.now().after(KEPT);
        let (mut own, mut read, mut snapshots) = (Vec::new(), Vec::new(), Vec::new());
        for (name, arm) in &arms {
            let (sums, told) = (arm.read().0, arm.is_told());
            if !told {
                // All that it has: the ledger keeps them together.
                own.extend(balances(name, &sums, until));
            }
            if hear {
                read.extend(accounts(name));
            }
            snapshots.push(sums);
        }
        if own.is_empty() && read.is_empty() {
            return Ok(());
        }
        *number += 1;
        let all = self.ledger.exchange(&self.source, *number, &own, &read).await?;
        let mut all = all.chunks_exact(NAMES.len()).map(|sums| Sums(std::array::from_fn(|i| sums[i])));
        for ((_, arm), sums) in arms.iter().zip(snapshots) {
            let mut page = arm.page();
            page.told = sums;
            if let Some(all) = all.next() {
                page.others = all.minus(sums);
            }
        }
        Ok(())
    }

    /// Tells for ever. What fails is tried again; that it fails is said once.
    pub(crate) async fn run(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut forgot, mut away): (Option<Instant>, bool) = (None, false);
        loop {
            let now = ticks.tick().await;
            if self.is_told() {
                continue;
            }
            match self.exchange(false).await {
                Ok(()) => away = false,
                Err(error) if !std::mem::replace(&mut away, true) => {
                    tracing::warn!(%error, "what came of experiments is not written down yet");
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
}

/// What the sums of an arm are called in the ledger.
fn accounts((experiment, arm): &Name) -> impl Iterator<Item = String> {
    NAMES.into_iter().map(move |field| format!("experiment:{experiment}:{arm}:{field}"))
}

/// The sums of an arm for the ledger; those that are zero, too: a sum of scores may have come back to it.
fn balances(name: &Name, sums: &Sums, until: Timestamp) -> impl Iterator<Item = Balance> {
    accounts(name).zip(sums.0).map(move |(account, total)| Balance { account, total, until })
}
