//! The values of a moment, and how they are written in the text format of Prometheus.

use super::catalogue::{ALL, Kind, Metric, On};
use callboard_ports::metrics::Distribution;
use std::fmt::Write;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A whole number.
    Whole(u64),
    /// Any other.
    Real(f64),
    /// How values are spread: in nanoseconds, if the metric is in seconds.
    Spread(Distribution),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Whole(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Whole(truth.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<std::time::Duration> for Value {
    fn from(span: std::time::Duration) -> Self {
        Self::Real(span.as_secs_f64())
    }
}

impl From<Distribution> for Value {
    fn from(spread: Distribution) -> Self {
        Self::Spread(spread)
    }
}

/// A value with its labels' values, in the order of the metric's labels.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<String>,
    pub(super) value: Value,
}

/// A metric and its samples.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) metric: &'static Metric,
    pub(super) samples: Vec<Sample>,
}

/// All metrics of a node, at some moment.
#[derive(Debug)]
pub(in crate::node) struct Page(Vec<Family>);

impl Page {
    /// A page without a value. A metric of which nothing is known is there all the same.
    pub(super) fn new(in_cluster: bool) -> Self {
        let is_here = |metric: &&&'static Metric| in_cluster || metric.on == On::Every;
        Self(ALL.iter().filter(is_here).map(|metric| Family { metric, samples: Vec::new() }).collect())
    }

    /// Adds a value, with a value for each of the metric's labels.
    pub(super) fn add(&mut self, metric: &'static Metric, labels: &[&str], value: impl Into<Value>) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        if let Some(family) = self.0.iter_mut().find(|family| family.metric == metric) {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            family.samples.push(Sample { labels, value: value.into() });
        }
    }

    /// The same for each value of the metric's one label.
    pub(super) fn by<V: Into<Value>>(
        &mut self,
        metric: &'static Metric,
        values: impl IntoIterator<Item = (impl AsRef<str>, V)>,
    ) {
        for (label, value) in values {
            self.add(metric, &[label.as_ref()], value);
        }
    }

    pub(super) fn families(&self) -> &[Family] {
        &self.0
    }

    /// In the text format of Prometheus.
    pub(in crate::node) fn text(&self) -> String {
        let mut text = String::new();
        for Family { metric, samples } in &self.0 {
            let Metric { name, kind, help, .. } = metric;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
            for Sample { labels, value } in samples {
                let labels = metric.labels.iter().zip(labels);
                let labels: Vec<_> =
                    labels.map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
                sample(&mut text, metric, labels, value);
            }
        }
        text
    }
}

/// One bound or value, in the metric's own unit.
pub(super) fn in_unit(metric: &Metric, value: u64) -> f64 {
    if metric.kind == Kind::Seconds { value as f64 / 1e9 } else { value as f64 }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn braced(labels: &[String]) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

fn sample(text: &mut String, metric: &Metric, mut labels: Vec<String>, value: &Value) {
    let (name, of) = (metric.name, braced(&labels));
    let _ = match value {
        Value::Whole(number) => writeln!(text, "{name}{of} {number}"),
        Value::Real(number) => writeln!(text, "{name}{of} {number}"),
        Value::Spread(spread) => {
            let mut below = 0;
            let bounds = spread.bounds.iter().map(|bound| in_unit(metric, *bound).to_string());
            for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&spread.buckets) {
                below += count;
                labels.push(format!("le=\"{bound}\""));
                let _ = writeln!(text, "{name}_bucket{} {below}", braced(&labels));
                labels.pop();
            }
            writeln!(text, "{name}_sum{of} {}\n{name}_count{of} {below}", in_unit(metric, spread.sum))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::super::catalogue;
    use super::*;
    use callboard_ports::metrics::{Histogram, ITEMS};
    use std::time::Duration;

    #[test]
    fn it_is_written_as_prometheus_reads_it() {
        let mut page = Page::new(false);
        let (rows, took) = (Histogram::new(&ITEMS[..2]), Histogram::new(&[500_000_000, 1_000_000_000]));
        [1, 1, 2, 7].into_iter().for_each(|count| rows.observe(count));
        [250, 750].into_iter().for_each(|ms| took.took(Duration::from_millis(ms)));
        page.add(catalogue::BATCH_ROWS, &["admit"], rows.read());
        page.add(catalogue::BATCH_DURATION, &["admit"], took.read());
        page.add(catalogue::QUEUE_AGE, &["a\"b\\c\nd"], Duration::from_millis(1_500));
        let text = page.text();
        let of =
            |name: &str| text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("\n");
        let expected = "callboard_store_batch_rows_bucket{writes=\"admit\",le=\"1\"} 2\n\
            callboard_store_batch_rows_bucket{writes=\"admit\",le=\"2\"} 3\n\
            callboard_store_batch_rows_bucket{writes=\"admit\",le=\"+Inf\"} 4\n\
            callboard_store_batch_rows_sum{writes=\"admit\"} 11\n\
            callboard_store_batch_rows_count{writes=\"admit\"} 4";
        assert_eq!(of("callboard_store_batch_rows"), expected);
        let expected = "callboard_store_batch_duration_seconds_bucket{writes=\"admit\",le=\"0.5\"} 1\n\
            callboard_store_batch_duration_seconds_bucket{writes=\"admit\",le=\"1\"} 2\n\
            callboard_store_batch_duration_seconds_bucket{writes=\"admit\",le=\"+Inf\"} 2\n\
            callboard_store_batch_duration_seconds_sum{writes=\"admit\"} 1\n\
            callboard_store_batch_duration_seconds_count{writes=\"admit\"} 2";
        assert_eq!(of("callboard_store_batch_duration"), expected);
        assert_eq!(
            of("callboard_queue_oldest_seconds"),
            "callboard_queue_oldest_seconds{queue=\"a\\\"b\\\\c\\nd\"} 1.5"
        );
    }

    #[test]
    fn what_only_a_cluster_has_is_not_on_the_page_of_a_node_by_itself() {
        let outbox = "# TYPE callboard_outbox_rows gauge";
        assert!(!Page::new(false).text().contains(outbox));
        assert!(Page::new(true).text().contains(outbox));
    }
}
