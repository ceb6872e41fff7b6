//! Looks at the replicas once a second while k6 runs, and kills one where that is the test.

use super::k6;
use super::plot::Mark;
use super::rows::{self, Rows};
use super::samples::Sample;
use crate::replicas::Cluster;
use crate::replicas::guard::Guard;
use crate::shell;
use anyhow::Result;
use std::time::{Duration, Instant};

/// How often replicas are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How many looks there are from one line of progress to the next.
const LOOKS_A_LINE: usize = 10;
/// How long tasks may take to end after the load.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);
/// The replica that is killed.
const VICTIM: usize = 1;

/// Who looks.
pub(super) struct Watch<'a> {
    cluster: &'a mut Cluster,
    guard: &'a Guard,
    samples: Vec<Sample>,
    marks: Vec<Mark>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(cluster: &'a mut Cluster, guard: &'a Guard) -> Self {
        Self { cluster, guard, samples: Vec::new(), marks: Vec::new() }
    }

    /// The looks, and what was done, with the time in seconds since 1970.
    pub(super) fn seen(self) -> (Vec<Sample>, Vec<Mark>) {
        (self.samples, self.marks)
    }

    /// Looks once a second until k6 has ended. If `kills` says so, a replica is killed so many seconds after the
    /// first task, and started again after as many more.
    pub(super) fn until_k6_ends(&mut self, mut run: k6::Run, kills: Option<f64>) -> Result<(bool, Rows)> {
        let mut next = Instant::now();
        while run.runs()? {
            let sample = Sample::take(self.cluster, Some(run.pid()));
            let first = run.rows().first();
            if let (Some(first), Some(after)) = (first, kills) {
                self.kill_and_start(sample.at - first as f64, sample.at, after)?;
            }
            if first.is_some() && self.samples.len() % LOOKS_A_LINE == LOOKS_A_LINE - 1 {
                shell::complain(&progress(&sample, first.unwrap_or_default(), &run.rows()));
            }
            self.samples.push(sample);
            next += EVERY;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        run.end()
    }

    fn kill_and_start(&mut self, since: f64, at: f64, after: f64) -> Result<()> {
        let name = self.cluster.replicas.get(VICTIM).map_or("", |replica| replica.name);
        let mark = |what: &str| Mark { name: format!("{name} {what}"), at };
        if self.marks.is_empty() && since >= after {
            self.cluster.kill(VICTIM);
            self.marks.push(mark("is killed"));
        } else if self.marks.len() == 1 && since >= 2.0 * after {
            self.cluster.launch(self.guard, VICTIM)?;
            self.marks.push(mark("starts again"));
        }
        Ok(())
    }

    /// Looks on until no task is left. Returns how long that took, in seconds; none if some are left.
    pub(super) fn until_drained(&mut self) -> Option<f64> {
        let began = Instant::now();
        while began.elapsed() < DRAIN_WITHIN {
            let sample = Sample::take(self.cluster, None);
            let pending = sample.tasks.map(|tasks| tasks.pending);
            self.samples.push(sample);
            if pending == Some(0) {
                return Some(began.elapsed().as_secs_f64());
            }
            std::thread::sleep(EVERY / 2);
        }
        None
    }
}

/// A line for whoever waits.
fn progress(sample: &Sample, first: u64, rows: &Rows) -> String {
    let now = sample.at - first as f64;
    // k6 writes its rows a moment later.
    let since = now - 2.0;
    let span = LOOKS_A_LINE as f64;
    let rate = rows.total(rows::ACCEPTED, first, since - span, since) / span;
    let p95 = rows::quantile(&rows.between(rows::END_TO_END, first, since - span, since), 0.95);
    let memory: Vec<String> = sample
        .memory
        .iter()
        .map(|bytes| bytes.map_or("-".to_owned(), |bytes| (bytes / 1_000_000).to_string()))
        .collect();
    format!(
        "  {now:>5.0} s  {rate:>6.0} tasks/s  p95 end to end {p95:>7.0} ms  memory {} MB",
        memory.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_shows_the_last_seconds() {
        let mut rows = Rows::default();
        for second in 1_000..1_020 {
            rows.take(&format!("tasks_accepted,{second}000,1.0"));
        }
        let sample = Sample { at: 1_020.5, memory: vec![Some(60_000_000), None], ..Sample::default() };
        let line = progress(&sample, 1_000, &rows);
        assert_eq!(line, "     20 s       1 tasks/s  p95 end to end       0 ms  memory 60 - MB");
    }
}
