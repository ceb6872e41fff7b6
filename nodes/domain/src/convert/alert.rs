use super::{time_from_proto, time_to_proto};
use crate::alert::{Alert, Observation, Severity, Standing};
use callboard_contracts::{mesh, v1};

/// An alert on the wire.
#[must_use]
pub fn alert_to_proto(alert: &Alert) -> v1::Alert {
    let severity = match alert.severity {
        Severity::Info => v1::AlertSeverity::Info,
        Severity::Warning => v1::AlertSeverity::Warning,
        Severity::Critical => v1::AlertSeverity::Critical,
    };
    let state = match alert.standing {
        Standing::Pending => v1::AlertState::Pending,
        Standing::Firing => v1::AlertState::Firing,
        Standing::Acknowledged => v1::AlertState::Acknowledged,
        Standing::Resolved => v1::AlertState::Resolved,
        Standing::Silenced => v1::AlertState::Silenced,
    };
    v1::Alert {
        id: alert.id.clone(),
        rule: alert.rule.clone(),
        subject: alert.subject.clone(),
        severity: severity.into(),
        state: state.into(),
        message: alert.message.clone(),
        count: alert.count,
        first_at: Some(time_to_proto(alert.first_at)),
        last_at: Some(time_to_proto(alert.last_at)),
        resolved_at: alert.resolved_at.map(time_to_proto),
    }
}

/// An observation on the mesh.
#[must_use]
pub fn observation_to_proto(seen: &Observation) -> mesh::v1::Observation {
    mesh::v1::Observation {
        rule: seen.rule.clone(),
        subject: seen.subject.clone(),
        message: seen.message.clone(),
        firing: seen.firing,
        at: Some(time_to_proto(seen.at)),
        count: seen.count,
    }
}

/// An observation from the mesh.
#[must_use]
pub fn observation_from_proto(seen: mesh::v1::Observation) -> Observation {
    Observation {
        at: seen.at.as_ref().map(time_from_proto).unwrap_or_default(),
        rule: seen.rule,
        subject: seen.subject,
        message: crate::limits::cut_message(seen.message),
        firing: seen.firing,
        count: seen.count.max(1),
    }
}
