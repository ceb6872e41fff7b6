//! Answers of a server, for the tests of what is rendered from them.

use crate::cli::values::{span_to_proto, time_to_proto};
use callboard_client::v1;
use callboard_domain::Timestamp;
use std::time::Duration;

/// 2027-01-15 08:00:00 UTC.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// Some time before [`NOW`].
pub(crate) fn ago(span: Duration) -> Option<prost_types::Timestamp> {
    let span = i64::try_from(span.as_micros()).unwrap();
    Some(time_to_proto(Timestamp::from_micros(NOW.micros() - span)))
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn span(seconds: u64) -> Option<prost_types::Duration> {
    Some(span_to_proto(Duration::from_secs(seconds)))
}

/// A task of a kind in a state, whose id ends with `digits`.
pub(crate) fn task(digits: &str, kind: &str, state: v1::TaskState) -> v1::Task {
    v1::Task {
        id: format!("01939e2c-7e10-7cc3-98c4-dc0c{digits}"),
        namespace: "default".into(),
        kind: kind.into(),
        queue: "default".into(),
        priority: 5,
        state: state.into(),
        max_attempts: 3,
        timeout: span(60),
        run_at: ago(seconds(90)),
        created_at: ago(seconds(90)),
        ..Default::default()
    }
}

pub(crate) fn succeeded() -> v1::Task {
    v1::Task {
        attempt: 2,
        failures: 1,
        lost: 1,
        started_at: ago(seconds(80)),
        finished_at: ago(seconds(78)),
        node: "laptop".into(),
        request_id: "r-1".into(),
        last_seq: 9,
        input: br#"{"prompt":"a haiku","temperature":0.70}"#[..].into(),
        result: br#"{"text":"tea\n\u001b[31m"}"#[..].into(),
        ..task("0c07398f", "text.generate", v1::TaskState::Succeeded)
    }
}

pub(crate) fn failed() -> v1::Task {
    let error = v1::TaskError {
        reason: "TIMEOUT".into(),
        message: "the attempt took over 60 s\u{1b}[2J".into(),
        retryable: true,
    };
    v1::Task {
        attempt: 3,
        failures: 3,
        finished_at: ago(seconds(2)),
        error: Some(error),
        ..task("0c0739a1", "echo", v1::TaskState::Failed)
    }
}

pub(crate) fn running() -> v1::Task {
    v1::Task {
        attempt: 1,
        priority: 9,
        progress: Some(v1::TaskProgress { percent: 40, message: "painting the image".into() }),
        ..task("0c0739b2", "campaign.generate", v1::TaskState::Running)
    }
}

pub(crate) fn events() -> Vec<v1::TaskEvent> {
    use v1::TaskEventType as Type;
    let event = |seq, millis, kind: Type, state: v1::TaskState, attempt| v1::TaskEvent {
        task_id: succeeded().id,
        seq,
        at: ago(seconds(200) - Duration::from_millis(millis)),
        r#type: kind.into(),
        state: state.into(),
        attempt,
        node: if attempt > 0 { "laptop".into() } else { String::new() },
        ..Default::default()
    };
    let mut events = vec![
        event(1, 0, Type::Submitted, v1::TaskState::Queued, 0),
        event(2, 3, Type::Claimed, v1::TaskState::Running, 1),
        event(3, 500, Type::Progressed, v1::TaskState::Running, 1),
        event(4, 1_000, Type::AttemptFailed, v1::TaskState::Scheduled, 1),
        event(5, 3_000, Type::Due, v1::TaskState::Queued, 1),
        event(6, 3_002, Type::Claimed, v1::TaskState::Running, 2),
        event(7, 125_000, Type::Succeeded, v1::TaskState::Succeeded, 2),
    ];
    events[2].progress = Some(v1::TaskProgress { percent: 40, message: "painting".into() });
    events[3].error =
        Some(v1::TaskError { reason: "RATE_LIMITED".into(), message: "try later".into(), retryable: true });
    events[3].run_at = ago(seconds(197));
    events
}

pub(crate) fn cluster() -> v1::GetClusterResponse {
    v1::GetClusterResponse {
        version: "0.1.0".into(),
        node: "laptop".into(),
        tasks: Some(v1::TaskCounts {
            scheduled: 1,
            queued: 1_204,
            running: 8,
            succeeded: 5_000,
            failed: 3,
            cancelled: 0,
        }),
        queues: vec![
            v1::QueueStatus {
                queue: "default".into(),
                low: 4,
                middle: 1_000,
                high: 200,
                oldest_wait: span(3),
                oldest_task_id: succeeded().id,
            },
            v1::QueueStatus { queue: "idle".into(), ..Default::default() },
        ],
        time: Some(time_to_proto(NOW)),
    }
}
