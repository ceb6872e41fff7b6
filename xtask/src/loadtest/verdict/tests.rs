//! What is found in the figures of a run.

use super::*;

/// A run of eighty seconds: each second one task with the latency that `latency` says, in milliseconds.
fn rows(latency: impl Fn(u64) -> f64) -> Rows {
    let mut rows = Rows::default();
    for second in 0..80 {
        let at = (1_000 + second) * 1_000 + 10;
        rows.take(&format!("tasks_accepted,{at},1.0,"));
        rows.take(&format!("task_end_to_end,{at},{},", latency(second)));
    }
    rows
}

fn schedule(parts: &[(&str, f64, f64)]) -> Schedule {
    let part = |(name, begins, ends): &(&str, f64, f64)| Part {
        name: (*name).to_owned(),
        begins: *begins,
        ends: *ends,
    };
    Schedule(parts.iter().map(part).collect())
}

fn left<'a>(rows: &'a Rows, schedule: &'a Schedule, samples: &'a [Sample]) -> Left<'a> {
    let tasks = Some(Tasks { pending: 0, succeeded: 80, failed: 0, cancelled: 0 });
    Left { rows, from: 1_000, schedule, samples, tasks, drained: Some(0.4), ended: &[] }
}

#[test]
fn thresholds_are_read_with_what_was_seen() {
    let summary = serde_json::json!({"metrics": {
        "task_submit": {"contains": "time", "values": {"p(95)": 12.34},
            "thresholds": {"p(95)<100": {"ok": true}, "p(95)<5": {"ok": false}}},
        "checks": {"contains": "default", "values": {"rate": 1}, "thresholds": {"rate==1": {"ok": true}}},
        "iterations": {"values": {"count": 5}}}});
    let lines = thresholds(&summary).unwrap();
    let shown: Vec<_> = lines
        .iter()
        .map(|l| (l.what.as_str(), l.expected.as_str(), l.seen.as_str(), l.passed == Some(true)))
        .collect();
    assert_eq!(
        shown,
        [
            ("checks", "rate==1", "1", true),
            ("task_submit", "p(95)<100", "12.3 ms", true),
            ("task_submit", "p(95)<5", "12.3 ms", false)
        ]
    );
    assert!(thresholds(&serde_json::json!({})).is_err());
}

#[test]
fn what_is_lost_or_doubled_is_found() {
    let (rows, schedule) = (rows(|_| 10.0), schedule(&[("steady", 0.0, 80.0)]));
    let summary = |accepted: u64, unknown: u64| {
        serde_json::json!({"metrics": {
            "tasks_accepted": {"values": {"count": accepted}}, "tasks_unknown": {"values": {"count": unknown}}}})
    };
    let failed = |summary: &Value, left: &Left<'_>| -> Vec<String> {
        let lines = of_every_run(summary, left).into_iter();
        lines.filter(|line| line.passed == Some(false)).map(|line| line.what).collect()
    };
    let good = left(&rows, &schedule, &[]);
    assert_eq!(failed(&summary(80, 0), &good), Vec::<String>::new());
    assert_eq!(failed(&summary(81, 0), &good), ["nothing acknowledged is lost"]);
    assert_eq!(failed(&summary(79, 0), &good), ["no repeated submission made a second task"]);
    assert_eq!(failed(&summary(79, 1), &good), Vec::<String>::new());
    let tasks = Some(Tasks { pending: 3, succeeded: 76, failed: 1, cancelled: 0 });
    let bad = Left { tasks, drained: None, ended: &["b"], ..good };
    let expected = ["every task has ended", "no task failed", "no replica ended by itself"];
    assert_eq!(failed(&summary(80, 0), &bad), expected);
}

#[test]
fn a_spike_is_over_once_latency_stays_as_before() {
    let parts = [("before", 0.0, 20.0), ("spike", 20.0, 40.0), ("recovering", 40.0, 60.0)];
    let schedule = schedule(&parts);
    // One good second at 43 is no recovery.
    let slow = rows(|second| if (20..47).contains(&second) && second != 43 { 900.0 } else { 30.0 });
    let line = recovery(&left(&slow, &schedule, &[])).unwrap();
    assert_eq!((line.seen.as_str(), line.passed), ("7 s", Some(true)));
    let never = rows(|second| if second >= 20 { 900.0 } else { 30.0 });
    let line = recovery(&left(&never, &schedule, &[])).unwrap();
    assert_eq!((line.seen.as_str(), line.passed), ("never", Some(false)));
    let none = Schedule(Vec::new());
    assert!(recovery(&left(&slow, &none, &[])).is_none());
}

#[test]
fn the_knee_is_where_latency_goes_up_for_good() {
    let schedule = schedule(&[("ramp", 0.0, 80.0)]);
    let rising = rows(|second| if second >= 50 || second == 12 { 900.0 } else { 30.0 });
    let line = knee(&left(&rising, &schedule, &[]));
    assert_eq!(line.seen, "1 tasks/s, with a p95 end to end of 30 ms");
    let flat = rows(|_| 30.0);
    assert_eq!(knee(&left(&flat, &schedule, &[])).seen, "not reached at 1 tasks/s");
}

#[test]
fn drift_is_found_in_the_last_half() {
    let schedule = schedule(&[("soak", 0.0, 80.0)]);
    let grows = |late: u64| -> Vec<Sample> {
        let memory = |second: u64| if second >= 60 { late } else { 50_000_000 };
        (0..80_u32)
            .map(|second| Sample {
                at: 1_000.0 + f64::from(second),
                memory: vec![Some(memory(u64::from(second))), None],
                ..Sample::default()
            })
            .collect()
    };
    let passed = |rows: &Rows, samples: &[Sample]| -> Vec<Option<bool>> {
        drift(&left(rows, &schedule, samples)).into_iter().map(|line| line.passed).collect()
    };
    assert_eq!(passed(&rows(|_| 30.0), &grows(60_000_000)), [Some(true), Some(true)]);
    assert_eq!(passed(&rows(|_| 30.0), &grows(70_000_000)), [Some(false), Some(true)]);
    let slower = rows(|second| if second >= 60 { 70.0 } else { 30.0 });
    assert_eq!(passed(&slower, &grows(50_000_000)), [Some(true), Some(false)]);
}

#[test]
fn processor_time_of_a_replica_that_was_started_again_is_counted_once() {
    let (rows, schedule) = (rows(|_| 10.0), schedule(&[("failover", 0.0, 80.0)]));
    let at = |second: f64, replica: Option<f64>, busy: f64| Sample {
        at: 1_000.0 + second,
        replicas_cpu: vec![replica],
        k6_cpu: Some(second * 0.5),
        machine_cpu: Some(busy),
        ..Sample::default()
    };
    let samples = [
        at(0.0, Some(5.0), 100.0),
        at(4.0, Some(7.0), 105.0),
        at(6.0, None, 108.0),
        at(10.0, Some(0.5), 115.0),
    ];
    let line = processor(&left(&rows, &schedule, &samples)).unwrap();
    assert_eq!(line.seen, "1.50: replicas 0.20, k6 0.50, servers and the rest 0.80");
    assert_eq!(processor(&left(&rows, &schedule, &[])), None);
}
