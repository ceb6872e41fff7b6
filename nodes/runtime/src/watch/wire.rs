//! An event that another node tells.

use callboard_contracts::v1::{self, TaskEventType as Type};
use callboard_domain::convert::{state_from_proto, time_from_proto};
use callboard_domain::{Event, Happening, Progress, SessionId, TaskError};

/// The event, as far as the wire tells: who watches sees no more of it anyway. What it leaves out (the session
/// of a claim, whether a lost attempt had started) is filled with nothing. `None`: it is none of ours.
pub(super) fn event(event: v1::TaskEvent) -> Option<Event> {
    let at = event.at.as_ref().map(time_from_proto)?;
    let run_at = event.run_at.as_ref().map(time_from_proto);
    let error =
        |error: Option<v1::TaskError>| error.map(|e| TaskError::new(e.reason, e.message, e.retryable));
    let what = match Type::try_from(event.r#type).ok()? {
        Type::Unspecified => return None,
        Type::Submitted => Happening::Submitted { run_at },
        Type::Due => Happening::Due,
        Type::Claimed => Happening::Claimed { session: SessionId::from_bytes([0; 16]) },
        Type::Started => Happening::Started { at },
        Type::Progressed => {
            let progress = event.progress?;
            let percent = u8::try_from(progress.percent).ok()?;
            Happening::Progressed(Progress { percent, message: progress.message })
        }
        Type::AttemptFailed => Happening::AttemptFailed { error: error(event.error)?, run_at: run_at? },
        Type::Lost => Happening::Lost { started: true, run_at },
        Type::Returned => Happening::Returned,
        Type::CancelRequested => Happening::CancelRequested,
        Type::Succeeded => Happening::Succeeded,
        Type::Failed => Happening::Failed { error: error(event.error)?, lost: false },
        Type::Cancelled => Happening::Cancelled,
    };
    Some(Event {
        task_id: event.task_id.parse().ok()?,
        seq: event.seq,
        at,
        state: state_from_proto(event.state)?,
        attempt: event.attempt,
        node: (!event.node.is_empty()).then(|| event.node.into()),
        what,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests as made;
    use super::*;
    use callboard_domain::Timestamp;
    use callboard_domain::convert::event_to_proto;

    #[test]
    fn who_watches_on_another_node_sees_the_same() {
        let error = || TaskError::new("PANIC", "the handler panicked: no", true);
        let at = Timestamp::from_micros(5);
        let whats = [
            Happening::Submitted { run_at: Some(at) },
            Happening::Due,
            Happening::Claimed { session: SessionId::from_bytes([3; 16]) },
            Happening::Started { at },
            Happening::Progressed(Progress { percent: 40, message: "on its way".into() }),
            Happening::AttemptFailed { error: error(), run_at: at },
            Happening::Lost { started: false, run_at: None },
            Happening::Returned,
            Happening::CancelRequested,
            Happening::Succeeded,
            Happening::Failed { error: error(), lost: true },
            Happening::Cancelled,
        ];
        for what in whats {
            let told = event_to_proto(&Event { node: Some("a".into()), what, ..made::event(1, 9) });
            assert_eq!(event_to_proto(&event(told.clone()).unwrap()), told);
        }
        let told = event_to_proto(&made::event(1, 9));
        assert_eq!(event(v1::TaskEvent { r#type: 99, ..told.clone() }), None);
        assert_eq!(event(v1::TaskEvent { task_id: "x".into(), ..told }), None);
    }
}
