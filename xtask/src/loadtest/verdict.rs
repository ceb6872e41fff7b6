//! What a run is judged by: the thresholds of its script, and what only shows beside k6.

use super::rows::{self, Rows, quantile};
use super::samples::{Sample, Tasks};
use super::schedule::{Part, Schedule};
use anyhow::{Context as _, Result};
use serde_json::Value;

/// A line of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What it is about.
    pub(super) what: String,
    /// What was expected. Empty: nothing.
    pub(super) expected: String,
    /// What was seen.
    pub(super) seen: String,
    /// Whether that is as expected. None: it is only told.
    pub(super) passed: Option<bool>,
}

impl Line {
    fn judged(what: &str, expected: impl Into<String>, seen: impl Into<String>, passed: bool) -> Self {
        Self { what: what.into(), expected: expected.into(), seen: seen.into(), passed: Some(passed) }
    }

    fn told(what: &str, seen: impl Into<String>) -> Self {
        Self { what: what.into(), expected: String::new(), seen: seen.into(), passed: None }
    }
}

/// What a run left behind, beside k6's summary.
pub(super) struct Left<'a> {
    pub(super) rows: &'a Rows,
    /// The second, since 1970, of the first task.
    pub(super) from: u64,
    pub(super) schedule: &'a Schedule,
    pub(super) samples: &'a [Sample],
    /// The store's tasks at the end, if a replica told.
    pub(super) tasks: Option<Tasks>,
    /// How long after the load the last task ended, in seconds; none if some have not.
    pub(super) drained: Option<f64>,
    /// Replicas that ended although nobody killed them.
    pub(super) ended: &'a [&'static str],
}

/// The thresholds in k6's summary.
///
/// # Errors
/// It has another shape.
pub(super) fn thresholds(summary: &Value) -> Result<Vec<Line>> {
    let metrics = summary["metrics"].as_object().context("k6's summary has no metrics")?;
    let mut lines = Vec::new();
    for (name, metric) in metrics {
        for (expression, outcome) in metric["thresholds"].as_object().into_iter().flatten() {
            let ok = outcome["ok"].as_bool().context("a threshold has no outcome")?;
            let statistic = expression.split(['<', '>', '=', '!']).next().unwrap_or_default().trim();
            let seen = value(metric, statistic).map(|value| figure(value, metric));
            lines.push(Line::judged(name, expression.as_str(), seen.unwrap_or_default(), ok));
        }
    }
    lines.sort_by(|a, b| (&a.what, &a.expected).cmp(&(&b.what, &b.expected)));
    Ok(lines)
}

fn value(metric: &Value, statistic: &str) -> Option<f64> {
    metric["values"][statistic].as_f64()
}

fn figure(value: f64, metric: &Value) -> String {
    match metric["contains"].as_str() {
        Some("time") => format!("{value:.1} ms"),
        _ if value.fract() == 0.0 => format!("{value}"),
        _ => format!("{value:.5}"),
    }
}

/// A statistic of a metric in k6's summary.
fn statistic(summary: &Value, metric: &str, statistic: &str) -> f64 {
    value(&summary["metrics"][metric], statistic).unwrap_or_default()
}

/// What must hold of every run: the store's tasks are those that were acknowledged, and all have ended.
pub(super) fn of_every_run(summary: &Value, left: &Left<'_>) -> Vec<Line> {
    let accepted = statistic(summary, rows::ACCEPTED, "count");
    let unknown = statistic(summary, "tasks_unknown", "count");
    let mut lines = Vec::new();
    let stored = left.tasks.map_or(0.0, |tasks| (tasks.ended() + tasks.pending) as f64);
    lines.push(Line::judged(
        "nothing acknowledged is lost",
        format!("{accepted} tasks in the store"),
        format!("{stored}"),
        left.tasks.is_some() && stored >= accepted,
    ));
    lines.push(Line::judged(
        "no repeated submission made a second task",
        format!("at most {}", accepted + unknown),
        format!("{stored}"),
        stored <= accepted + unknown,
    ));
    let (ended, seen) = match (left.drained, left.tasks) {
        (Some(after), _) => (true, format!("{after:.1} s after the load")),
        (None, tasks) => (false, format!("{} have not", tasks.map_or(0, |tasks| tasks.pending))),
    };
    lines.push(Line::judged("every task has ended", "all", seen, ended));
    let failed = left.tasks.map_or(0, |tasks| tasks.failed);
    lines.push(Line::judged("no task failed", "0", failed.to_string(), failed == 0));
    let seen = if left.ended.is_empty() { "none".to_owned() } else { left.ended.join(", ") };
    lines.push(Line::judged("no replica ended by itself", "none", seen, left.ended.is_empty()));
    lines.push(throughput(left));
    lines.extend(processor(left));
    for (what, metric) in [
        ("submissions refused, with a time to try again", rows::REFUSED),
        ("iterations that k6 dropped", rows::DROPPED),
        ("calls repeated on another replica", rows::REPEATED),
        ("followed tasks that took more than one attempt", "tasks_run_again"),
    ] {
        lines.push(Line::told(what, format!("{}", statistic(summary, metric, "count"))));
    }
    let most = left.samples.iter().flat_map(|sample| sample.memory.iter().flatten()).max();
    lines.push(Line::told("the most memory of a replica", format!("{} MB", most.unwrap_or(&0) / 1_000_000)));
    lines
}

fn throughput(left: &Left<'_>) -> Line {
    let rates = left.rows.rates(rows::ACCEPTED, left.from, 5);
    let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let all = left.rows.total(rows::ACCEPTED, left.from, 0.0, f64::INFINITY);
    let mean = all / left.schedule.ends().max(1.0);
    Line::told("tasks accepted a second", format!("{mean:.0} on average, {best:.0} in the best 5 s"))
}

/// How many cores were busy during the load, and with what.
fn processor(left: &Left<'_>) -> Option<Line> {
    let (start, end) = (left.from as f64, left.from as f64 + left.schedule.ends());
    let during: Vec<_> =
        left.samples.iter().filter(|s| s.k6_cpu.is_some() && (start..=end).contains(&s.at)).collect();
    let (first, last) = (during.first()?, during.last()?);
    let span = last.at - first.at;
    let share = |of: &dyn Fn(&Sample) -> Option<f64>| Some((of(last)? - of(first)?) / span);
    let machine = share(&|sample| sample.machine_cpu)?;
    let k6 = share(&|sample| sample.k6_cpu)?;
    // A replica that was started again counts anew: each step up is added.
    let mut replicas = 0.0;
    for pair in during.windows(2) {
        let [one, two] = pair else { continue };
        let steps = one.replicas_cpu.iter().zip(&two.replicas_cpu);
        replicas += steps.filter_map(|(a, b)| Some(((*b)? - (*a)?).max(0.0))).sum::<f64>();
    }
    let replicas = replicas / span;
    let rest = (machine - k6 - replicas).max(0.0);
    Some(Line::told(
        "cores busy during the load",
        format!("{machine:.2}: replicas {replicas:.2}, k6 {k6:.2}, servers and the rest {rest:.2}"),
    ))
}

/// The p95 of the end-to-end latency may be so many times that of before, or this many milliseconds.
const RECOVERED: (f64, f64) = (2.0, 50.0);

/// After a spike: how long until tasks take as long as before. It must be in the part that is meant for it.
pub(super) fn recovery(left: &Left<'_>) -> Option<Line> {
    let [before, spike, recovering] = ["before", "spike", "recovering"].map(|name| left.schedule.part(name));
    let (before, spike, recovering) = (before?, spike?, recovering?);
    let usual = quantile(&left.rows.between(rows::END_TO_END, left.from, before.begins, before.ends), 0.95);
    let limit = (usual * RECOVERED.0).max(RECOVERED.1);
    let after = recovered(&left.rows.percentiles(rows::END_TO_END, left.from, 1), spike, limit);
    let meant = recovering.ends - recovering.begins;
    let seen = after.map_or("never".to_owned(), |after| format!("{after:.0} s"));
    let expected = format!("within {meant:.0} s (p95 end to end under {limit:.0} ms again)");
    Some(Line::judged("recovery after the spike", expected, seen, after.is_some_and(|after| after <= meant)))
}

/// The time from the end of a spike to the first of three seconds in a row whose p95 is within a limit.
fn recovered(seconds: &[(f64, [f64; 3])], spike: &Part, limit: f64) -> Option<f64> {
    let after: Vec<_> = seconds.iter().filter(|(at, _)| *at >= spike.ends).collect();
    let calm = after.windows(3).find(|window| window.iter().all(|(_, [_, p95, _])| *p95 <= limit))?;
    calm.first().map(|(at, _)| (at - 0.5 - spike.ends).max(0.0))
}

/// The p95 of the end-to-end latency past which a load is over the knee, in milliseconds.
const KNEE: f64 = 250.0;

/// Of a rising rate: the most that was accepted before latency or k6 itself gave way.
pub(super) fn knee(left: &Left<'_>) -> Line {
    const WIDTH: u64 = 5;
    let latency = left.rows.percentiles(rows::END_TO_END, left.from, WIDTH);
    let over = |(at, [_, p95, _]): &(f64, [f64; 3])| {
        let width = WIDTH as f64 / 2.0;
        *p95 > KNEE || left.rows.total(rows::DROPPED, left.from, at - width, at + width) > 0.0
    };
    // Twice in a row: one slow stretch is no knee.
    let first = latency.windows(2).position(|pair| pair.iter().all(over));
    let good = latency.get(..first.unwrap_or(latency.len())).unwrap_or_default();
    let until = good.last().map_or(0.0, |(at, _)| *at);
    let rates = left.rows.rates(rows::ACCEPTED, left.from, WIDTH);
    let best = rates.iter().filter(|(at, _)| *at <= until).map(|(_, rate)| *rate).fold(0.0, f64::max);
    let p95 = good.last().map_or(0.0, |(_, [_, p95, _])| *p95);
    let seen = match first {
        Some(_) => format!("{best:.0} tasks/s, with a p95 end to end of {p95:.0} ms"),
        None => format!("not reached at {best:.0} tasks/s"),
    };
    Line::told("the knee (p95 end to end over 250 ms, or iterations dropped, for 10 s)", seen)
}

/// How much a replica may grow over the last half: a share of it, and so many bytes.
const GROWTH: (f64, f64) = (0.10, 8e6);
/// How much the p95 may grow from the second quarter to the last: times, and milliseconds.
const DRIFT: (f64, f64) = (1.5, 20.0);

/// Of a long run: whether memory or latency drifts. The first quarter is left out: caches fill then.
pub(super) fn drift(left: &Left<'_>) -> Vec<Line> {
    let lasts = left.schedule.ends();
    let memory = |replica: usize, begin: f64, end: f64| {
        let start = left.from as f64;
        let within = left.samples.iter().filter(|s| (start + begin..start + end).contains(&s.at));
        let seen: Vec<u64> = within.filter_map(|s| s.memory.get(replica).copied().flatten()).collect();
        seen.iter().sum::<u64>() as f64 / seen.len().max(1) as f64
    };
    let replicas = left.samples.first().map_or(0, |sample| sample.memory.len());
    let grown = (0..replicas)
        .map(|replica| (memory(replica, lasts * 0.5, lasts * 0.75), memory(replica, lasts * 0.75, lasts)));
    let grown: Vec<_> = grown.collect();
    let flat = grown.iter().all(|(third, last)| *last <= third * (1.0 + GROWTH.0) + GROWTH.1);
    let seen: Vec<_> =
        grown.iter().map(|(third, last)| format!("{:.0} to {:.0}", third / 1e6, last / 1e6)).collect();
    let p95 = |begin: f64, end: f64| {
        quantile(&left.rows.between(rows::END_TO_END, left.from, lasts * begin, lasts * end), 0.95)
    };
    let (second, last) = (p95(0.25, 0.5), p95(0.75, 1.0));
    vec![
        Line::judged(
            "memory over the last half",
            "no replica grows by 10 % and 8 MB",
            format!("{} MB", seen.join(", ")),
            flat,
        ),
        Line::judged(
            "p95 end to end, second quarter to last",
            "at most half more and 20 ms",
            format!("{second:.0} to {last:.0} ms"),
            last <= second * DRIFT.0 + DRIFT.1,
        ),
    ]
}

/// After a kill at a time since the start: the longest that a task took which ended soon after.
pub(super) fn pause(left: &Left<'_>, killed: f64) -> Line {
    let usual = left.rows.between(rows::END_TO_END, left.from, 0.0, killed);
    let after = left.rows.between(rows::END_TO_END, left.from, killed, killed + 15.0);
    let longest = |values: &[f32]| values.last().copied().unwrap_or_default();
    let seen = format!("{:.0} ms; before the kill {:.0} ms", longest(&after), longest(&usual));
    Line::told("the longest end to end in the 15 s after the kill", seen)
}

#[cfg(test)]
mod tests;
