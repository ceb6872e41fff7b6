//! What k6 measured, row by row, gathered by the second.
//!
//! k6 writes a row for each thing it measures: `metric_name,timestamp,metric_value,..`, the time in milliseconds.
//! Its own summary has one figure for a whole run; how a figure moves can only be seen from the rows.

use std::collections::{BTreeMap, HashMap};

/// From the call to the acknowledgement of a submission.
pub(super) const SUBMIT: &str = "task_submit";
/// From the admission of a task to its start.
pub(super) const START: &str = "task_start";
/// From the call to when the client hears of the end.
pub(super) const END_TO_END: &str = "task_end_to_end";
/// Acknowledged tasks.
pub(super) const ACCEPTED: &str = "tasks_accepted";
/// Submissions that were refused as there are too many.
pub(super) const REFUSED: &str = "tasks_refused";
/// Calls that were repeated on another replica.
pub(super) const REPEATED: &str = "calls_repeated";
/// Iterations that k6 had no virtual user for.
pub(super) const DROPPED: &str = "dropped_iterations";

/// The metrics that are kept.
const KEPT: [&str; 7] = [SUBMIT, START, END_TO_END, ACCEPTED, REFUSED, REPEATED, DROPPED];

/// The 50th, 95th and 99th percentile.
pub(super) const SHARES: [f64; 3] = [0.50, 0.95, 0.99];

/// Measured values by metric and second.
#[derive(Debug, Default)]
pub(super) struct Rows {
    metrics: HashMap<&'static str, BTreeMap<u64, Vec<f32>>>,
    first: Option<u64>,
}

impl Rows {
    /// Takes a line of k6's. One that is no row, or of another metric, is passed over.
    pub(super) fn take(&mut self, line: &str) {
        let mut columns = line.split(',');
        let name = columns.next().unwrap_or_default();
        let Some(name) = KEPT.into_iter().find(|kept| *kept == name) else { return };
        let Some(second) = columns.next().and_then(|ms| ms.parse::<u64>().ok()).map(|ms| ms / 1000) else {
            return;
        };
        let Some(value) = columns.next().and_then(|value| value.parse::<f32>().ok()) else { return };
        if name == ACCEPTED {
            self.first = Some(self.first.map_or(second, |first| first.min(second)));
        }
        self.metrics.entry(name).or_default().entry(second).or_default().push(value);
    }

    /// The second, since 1970, of the first task.
    pub(super) fn first(&self) -> Option<u64> {
        self.first
    }

    /// The percentiles of a metric in each stretch of `width` seconds that has any, with the time since `from` of
    /// the stretch's middle.
    pub(super) fn percentiles(&self, metric: &str, from: u64, width: u64) -> Vec<(f64, [f64; 3])> {
        let stretches = self.stretches(metric, from, width).into_iter();
        stretches.map(|(at, values)| (at, SHARES.map(|share| quantile(&values, share)))).collect()
    }

    /// How much of a counter was counted a second, in each stretch of `width` seconds from the first to the last
    /// that has any.
    pub(super) fn rates(&self, metric: &str, from: u64, width: u64) -> Vec<(f64, f64)> {
        let counted = self.stretches(metric, from, width);
        let (Some((first, _)), Some((last, _))) = (counted.first(), counted.last()) else {
            return Vec::new();
        };
        let (first, last) = (*first, *last);
        let width = width as f64;
        let mut counted = counted.iter().peekable();
        let mut rates = Vec::new();
        let mut at = first;
        while at <= last {
            let sum = counted.next_if(|(stretch, _)| *stretch <= at).map_or(0.0, |(_, values)| sum(values));
            rates.push((at, sum / width));
            at += width;
        }
        rates
    }

    /// The values of a metric between two times since `from`, sorted.
    pub(super) fn between(&self, metric: &str, from: u64, begin: f64, end: f64) -> Vec<f32> {
        let values = self.metrics.get(metric).into_iter().flatten();
        let within = values.filter(|(second, _)| {
            let at = since(**second, from);
            begin <= at && at < end
        });
        sorted(within.flat_map(|(_, values)| values.iter().copied()))
    }

    /// The sum of a counter between two times since `from`.
    pub(super) fn total(&self, metric: &str, from: u64, begin: f64, end: f64) -> f64 {
        sum(&self.between(metric, from, begin, end))
    }

    fn stretches(&self, metric: &str, from: u64, width: u64) -> Vec<(f64, Vec<f32>)> {
        let width = width.max(1);
        let mut stretches: BTreeMap<u64, Vec<f32>> = BTreeMap::new();
        for (second, values) in self.metrics.get(metric).into_iter().flatten() {
            stretches.entry(second.saturating_sub(from) / width).or_default().extend(values);
        }
        let middle = |stretch: u64| (stretch * width) as f64 + width as f64 / 2.0;
        stretches.into_iter().map(|(stretch, values)| (middle(stretch), sorted(values))).collect()
    }
}

fn since(second: u64, from: u64) -> f64 {
    second as f64 - from as f64
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum()
}

fn sorted(values: impl IntoIterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.into_iter().collect();
    values.sort_unstable_by(f32::total_cmp);
    values
}

/// The value of sorted ones that a share of them does not pass; 0 of none.
pub(super) fn quantile(sorted: &[f32], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::default();
        rows.take("metric_name,timestamp,metric_value,check,scenario,extra_tags,metadata");
        for n in 1..=100 {
            rows.take(&format!("task_submit,{},{n}.0,,steady,,", 5_000 + n));
        }
        for ms in [4_999, 5_000, 5_500, 9_100] {
            rows.take(&format!("tasks_accepted,{ms},1.000000,,steady,,"));
        }
        rows.take("iterations,100,1.0,,steady,,");
        rows.take("tasks_accepted,soon,1.0,,steady,,");
        rows.take("something else");
        rows
    }

    #[test]
    fn percentiles_are_those_of_their_stretch() {
        assert_eq!(rows().percentiles(SUBMIT, 4, 1), [(1.5, [50.0, 95.0, 99.0])]);
        assert_eq!(rows().percentiles(SUBMIT, 4, 10), [(5.0, [50.0, 95.0, 99.0])]);
        assert_eq!(rows().percentiles(START, 4, 1), []);
    }

    #[test]
    fn a_rate_is_zero_where_nothing_was_counted() {
        let rows = rows();
        assert_eq!(rows.first(), Some(4));
        let by_second = rows.rates(ACCEPTED, 4, 1);
        assert_eq!(by_second, [(0.5, 1.0), (1.5, 2.0), (2.5, 0.0), (3.5, 0.0), (4.5, 0.0), (5.5, 1.0)]);
        assert_eq!(rows.rates(ACCEPTED, 4, 2), [(1.0, 1.5), (3.0, 0.0), (5.0, 0.5)]);
        assert_eq!(rows.total(ACCEPTED, 4, 1.0, 5.0), 2.0);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.51), 2.0);
    }
}
