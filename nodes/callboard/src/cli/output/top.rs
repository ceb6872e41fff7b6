//! Live rates and depths.

use super::style::{Paint, Palette, short};
use super::table::{Cell, Table, pairs};
use super::time::{clock, duration, span};
use callboard_client::v1;
use callboard_domain::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// What was seen at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When, on this machine's clock.
    pub at: Timestamp,
    /// The cluster's totals and queues.
    pub cluster: v1::GetClusterResponse,
    /// The slots of all nodes, and how many are taken.
    pub slots: (u32, u32),
}

/// What happened between two samples, per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Tasks that were submitted.
    pub submitted: f64,
    /// Tasks that succeeded.
    pub succeeded: f64,
    /// Tasks that failed or were cancelled.
    pub failed: f64,
}

impl Rates {
    /// The rates between two samples; none if no time lies between them.
    #[must_use]
    pub fn between(before: &Sample, after: &Sample) -> Option<Self> {
        let seconds = after.at.since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let (a, b) = (counts(before), counts(after));
        // Retention takes finished tasks away: a total that shrinks is no negative rate.
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Some(Self {
            submitted: rate(total(&a), total(&b)),
            succeeded: rate(a.succeeded, b.succeeded),
            failed: rate(a.failed + a.cancelled, b.failed + b.cancelled),
        })
    }
}

fn counts(sample: &Sample) -> v1::TaskCounts {
    sample.cluster.tasks.unwrap_or_default()
}

fn total(c: &v1::TaskCounts) -> u64 {
    c.scheduled + c.queued + c.running + c.succeeded + c.failed + c.cancelled
}

/// The queue whose oldest task has waited longest, with that wait.
fn oldest(sample: &Sample) -> Option<(&v1::QueueStatus, Duration)> {
    let waits = sample.cluster.queues.iter().filter_map(|q| Some((q, duration(q.oldest_wait.as_ref())?)));
    waits.max_by_key(|(_, wait)| *wait)
}

fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}/s") } else { format!("{rate:.0}/s") }
}

/// The whole screen.
#[must_use]
pub fn screen(sample: &Sample, rates: Option<Rates>, palette: Palette, width: Option<usize>) -> String {
    let c = counts(sample);
    let title = format!("callboard {} on {}", sample.cluster.version, sample.cluster.node);
    let mut out =
        format!("{}  {}\n\n", palette.paint(&super::style::clean(&title), Paint::Strong), clock(sample.at));
    let mut rows = Vec::new();
    if let Some(rates) = rates {
        rows.push(("submitted", Cell::from(per_second(rates.submitted))));
        rows.push(("succeeded", Cell::new(per_second(rates.succeeded), Paint::Good)));
        let paint = if rates.failed > 0.0 { Paint::Bad } else { Paint::Plain };
        rows.push(("failed", Cell::new(per_second(rates.failed), paint)));
    }
    rows.push(("slots", Cell::from(format!("{} of {} taken", sample.slots.1, sample.slots.0))));
    rows.push(("oldest waiting", Cell::from(waiting(sample))));
    out.push_str(&pairs(&rows, palette));
    out.push('\n');

    let mut tasks = Table::new(&[">SCHEDULED", ">QUEUED", ">RUNNING", ">SUCCEEDED", ">FAILED", ">CANCELLED"]);
    let states = [c.scheduled, c.queued, c.running, c.succeeded, c.failed, c.cancelled];
    tasks.row(states.iter().map(|n| n.to_string().into()).collect());
    out.push_str(&tasks.render(palette, width));

    if !sample.cluster.queues.is_empty() {
        let mut queues = Table::new(&["QUEUE", ">HIGH 7-9", ">MIDDLE 3-6", ">LOW 0-2", ">OLDEST"]);
        for q in &sample.cluster.queues {
            queues.row(vec![
                Cell::new(&q.queue, Paint::Strong),
                q.high.to_string().into(),
                q.middle.to_string().into(),
                q.low.to_string().into(),
                duration(q.oldest_wait.as_ref()).map_or_else(String::new, span).into(),
            ]);
        }
        out.push('\n');
        out.push_str(&queues.render(palette, width));
    }
    out
}

fn waiting(sample: &Sample) -> String {
    match oldest(sample) {
        Some((queue, wait)) => {
            format!("{} ({} in {})", span(wait), short(&queue.oldest_task_id), queue.queue)
        }
        None => "none".to_owned(),
    }
}

/// One line, for a log.
#[must_use]
pub fn line(sample: &Sample, rates: Option<Rates>) -> String {
    let c = counts(sample);
    let rates = rates.map_or_else(String::new, |r| {
        format!(
            "submitted {}  succeeded {}  failed {}  ",
            per_second(r.submitted),
            per_second(r.succeeded),
            per_second(r.failed)
        )
    });
    let text = format!(
        "{}  {rates}scheduled {}  queued {}  running {}  oldest waiting {}",
        clock(sample.at),
        c.scheduled,
        c.queued,
        c.running,
        waiting(sample)
    );
    super::style::clean(&text)
}

/// A sample as JSON.
#[derive(Serialize)]
pub struct Json<'a> {
    at: String,
    version: &'a str,
    node: &'a str,
    per_second: Option<Rates>,
    tasks: Counts,
    slots: u32,
    slots_used: u32,
    queues: Vec<Queue<'a>>,
}

#[derive(Serialize)]
struct Counts {
    scheduled: u64,
    queued: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
}

#[derive(Serialize)]
struct Queue<'a> {
    queue: &'a str,
    high: u64,
    middle: u64,
    low: u64,
    oldest_wait_seconds: Option<f64>,
    oldest_task_id: &'a str,
}

impl<'a> Json<'a> {
    /// A sample with its rates.
    #[must_use]
    pub fn new(sample: &'a Sample, rates: Option<Rates>) -> Self {
        let c = counts(sample);
        let queues = sample.cluster.queues.iter().map(|q| Queue {
            queue: &q.queue,
            high: q.high,
            middle: q.middle,
            low: q.low,
            oldest_wait_seconds: duration(q.oldest_wait.as_ref()).map(|w| w.as_secs_f64()),
            oldest_task_id: &q.oldest_task_id,
        });
        Self {
            at: sample.at.to_rfc3339(),
            version: &sample.cluster.version,
            node: &sample.cluster.node,
            per_second: rates,
            tasks: Counts {
                scheduled: c.scheduled,
                queued: c.queued,
                running: c.running,
                succeeded: c.succeeded,
                failed: c.failed,
                cancelled: c.cancelled,
            },
            slots: sample.slots.0,
            slots_used: sample.slots.1,
            queues: queues.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, cluster, seconds};
    use super::*;

    fn two() -> (Sample, Sample) {
        let before = Sample { at: NOW, cluster: cluster(), slots: (8, 8) };
        let mut after = Sample { at: NOW.after(seconds(2)), ..before.clone() };
        let tasks = after.cluster.tasks.as_mut().unwrap();
        tasks.succeeded += 400;
        tasks.queued -= 200;
        tasks.failed += 1;
        (before, after)
    }

    #[test]
    fn rates_are_what_changed_in_the_time_between() {
        let (before, after) = two();
        let rates = Rates::between(&before, &after).unwrap();
        assert_eq!(rates, Rates { submitted: 100.5, succeeded: 200.0, failed: 0.5 });
        assert_eq!(Rates::between(&before, &before), None);
        // Retention took finished tasks away.
        let shrunk = Rates::between(&after, &Sample { at: after.at.after(seconds(1)), ..before }).unwrap();
        assert_eq!(shrunk, Rates { submitted: 0.0, succeeded: 0.0, failed: 0.0 });
    }

    #[test]
    fn the_screen_shows_rates_depths_and_the_oldest() {
        let (before, after) = two();
        let rates = Rates::between(&before, &after);
        insta::assert_snapshot!(screen(&after, rates, Palette::plain(), None));
        insta::assert_snapshot!(line(&after, rates));
        insta::assert_snapshot!(line(&Sample { cluster: Default::default(), ..before }, None));
    }
}
