//! What a run found, for a person, and whether that is good enough.

use crate::plan::Moment;
use crate::run::SESSION_TIMEOUT;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

/// How a node was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its process is gone, and its address refuses.
    Killed,
    /// Nothing is heard of it.
    Silent,
}

impl Loss {
    /// How soon its tasks must run again.
    pub(crate) const fn limit(self) -> Duration {
        match self {
            Self::Killed => Duration::from_secs(1),
            Self::Silent => SESSION_TIMEOUT.saturating_add(Duration::from_secs(2)),
        }
    }
}

/// What was counted and measured.
#[derive(Debug)]
pub(crate) struct Report {
    seed: u64,
    pub(crate) acknowledged: usize,
    pub(crate) failed_calls: usize,
    pub(crate) settled_in: Option<Duration>,
    pub(crate) exits: usize,
    /// By fault and moment: how often the fault fell into its window, and how often not.
    windows: BTreeMap<(&'static str, Moment), (usize, usize)>,
    /// How long the tasks of killed nodes took to begin again.
    pub(crate) killed: Vec<Duration>,
    /// The same of silent nodes.
    pub(crate) silent: Vec<Duration>,
    /// Tasks that took long to begin again.
    pub(crate) late: Vec<String>,
    /// How long the hand-off took to go on after the broker's return.
    pub(crate) broker_back: Vec<Duration>,
    /// When the store was away, in microseconds since the epoch.
    pub(crate) outages: Vec<(i64, i64)>,
    /// When a node was cut off from Redis while others were not, in microseconds since the epoch.
    pub(crate) apart: Vec<(i64, i64)>,
    /// Tokens that were given out, and the most that any span of time had over the limit's bound.
    pub(crate) tokens: (usize, f64),
    /// What must be zero, by name.
    pub(crate) zero: BTreeMap<&'static str, i64>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            acknowledged: 0,
            failed_calls: 0,
            settled_in: None,
            exits: 0,
            windows: BTreeMap::new(),
            killed: Vec::new(),
            silent: Vec::new(),
            late: Vec::new(),
            broker_back: Vec::new(),
            outages: Vec::new(),
            apart: Vec::new(),
            tokens: (0, 0.0),
            zero: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn window(&mut self, fault: &'static str, moment: Moment) {
        self.windows.entry((fault, moment)).or_default().0 += 1;
    }

    pub(crate) fn missed(&mut self, fault: &'static str, moment: Moment) {
        self.windows.entry((fault, moment)).or_default().1 += 1;
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Says something at once.
    pub(crate) fn say(&self, line: String) {
        // A reader that has gone is no error.
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    /// Everything that is not good enough.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (what, count) in &self.zero {
            if *count != 0 {
                failures.push(format!("{what}: {count}, not 0"));
            }
        }
        if self.settled_in.is_none() {
            failures.push("some acknowledged task has not ended".into());
        }
        if self.tokens.0 == 0 || self.tokens.1 > 1.0 {
            failures.push(format!("{} tokens, {:.1} over the limit's bound", self.tokens.0, self.tokens.1));
        }
        for ((fault, moment), (hit, _)) in &self.windows {
            if *hit == 0 {
                failures.push(format!("no {fault} fell into its window {moment:?}"));
            }
        }
        let limits = [
            ("the tasks of a killed node run again", &self.killed, Loss::Killed.limit()),
            ("the tasks of a silent node run again", &self.silent, Loss::Silent.limit()),
        ];
        for (what, spans, limit) in limits {
            if percentile(spans, 99) > limit {
                failures.push(format!("{what} after {:.2?} (p99), not {limit:?}", percentile(spans, 99)));
            }
        }
        if let Some(worst) = self.broker_back.iter().max().filter(|worst| **worst > Duration::from_secs(15)) {
            failures.push(format!("hand-off resumed {worst:.1?} after the broker's return, not 15s"));
        }
        failures
    }
}

fn percentile(spans: &[Duration], percent: usize) -> Duration {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    let rank = (spans.len() * percent).div_ceil(100);
    spans.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\nseed {}", self.seed)?;
        writeln!(f, "  acknowledged            {}", self.acknowledged)?;
        writeln!(f, "  calls that failed       {}", self.failed_calls)?;
        match self.settled_in {
            Some(span) => writeln!(f, "  all ended               {span:.1?} after the last fault")?,
            None => writeln!(f, "  all ended               NO")?,
        }
        writeln!(f, "  nodes that gave up      {} (and were started again)", self.exits)?;
        for ((fault, moment), (hit, missed)) in &self.windows {
            writeln!(f, "  window                  {fault} in {moment:?}: {hit} hit, {missed} missed")?;
        }
        for (what, spans) in [("killed", &self.killed), ("silent", &self.silent)] {
            let (half, high) = (percentile(spans, 50), percentile(spans, 99));
            writeln!(
                f,
                "  {what} node's tasks     {} run again: p50 {half:.2?}, p99 {high:.2?}",
                spans.len()
            )?;
        }
        writeln!(f, "  broker back             {:.1?}", self.broker_back)?;
        let (tokens, over) = self.tokens;
        writeln!(f, "  tokens of the limit     {tokens}, at most {over:+.1} against the bound of any span")?;
        for (what, count) in &self.zero {
            writeln!(f, "  {what:<40} {count}")?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
