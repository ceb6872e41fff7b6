//! The life of an alert, as a pure function.

use crate::time::Timestamp;
use std::time::Duration;

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look in working hours.
    Warning,
    /// Worth waking somebody.
    Critical,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Seen, but not often enough.
    Pending,
    /// The rule holds.
    Firing,
    /// Somebody has it.
    Acknowledged,
    /// The rule no longer holds. Final: seen again, it is a new alert.
    Resolved,
    /// Somebody does not want to hear of it.
    Silenced,
}

/// What an alert is raised for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for example `task_failed`.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// How often it must be seen before it fires.
    pub threshold: u64,
    /// An alert not seen for so long is resolved. `None`: only by an observation that says so.
    pub quiet: Option<Duration>,
}

/// The rules of this version.
pub const RULES: [Rule; 6] = [
    Rule {
        name: "task_failed",
        severity: Severity::Warning,
        threshold: 1,
        quiet: Some(Duration::from_secs(3600)),
    },
    Rule {
        name: "actor_restarted",
        severity: Severity::Warning,
        threshold: 1,
        quiet: Some(Duration::from_secs(600)),
    },
    Rule { name: "all_providers_down", severity: Severity::Critical, threshold: 1, quiet: None },
    Rule {
        name: "provider_breaker_open",
        severity: Severity::Warning,
        threshold: 1,
        // Seen again each time it opens again: at least twice an hour.
        quiet: Some(Duration::from_secs(3600)),
    },
    // Seen again only as it rises: it is over with its hour or day, which is told, or with the process that would.
    Rule {
        name: "provider_quota",
        severity: Severity::Warning,
        threshold: 1,
        quiet: Some(Duration::from_secs(24 * 3600)),
    },
    Rule {
        name: "namespace_budget",
        severity: Severity::Warning,
        threshold: 1,
        quiet: Some(Duration::from_secs(24 * 3600)),
    },
];

/// The rule of that name.
#[must_use]
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|r| r.name == name)
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The rule it concerns.
    pub rule: String,
    /// What it is about.
    pub subject: String,
    /// What happened, for a person.
    pub message: String,
    /// Whether the condition holds, or has ended.
    pub firing: bool,
    /// When.
    pub at: Timestamp,
    /// How many occurrences it stands for.
    pub count: u64,
}

/// An alert: a rule that found something, for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its id, a UUIDv7 in text.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// What it is about.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub standing: Standing,
    /// What happened last, for a person.
    pub message: String,
    /// How often it was seen.
    pub count: u64,
    /// When it was first seen.
    pub first_at: Timestamp,
    /// When it was last seen.
    pub last_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
}

/// What an observation makes of the open alert it concerns, if there is one. `id` names a new alert.
/// `None`: nothing changes.
#[must_use]
pub fn observe(rule: &Rule, open: Option<&Alert>, seen: &Observation, id: &str) -> Option<Alert> {
    match open {
        None if !seen.firing => None,
        None => Some(Alert {
            id: id.to_owned(),
            rule: rule.name.to_owned(),
            subject: seen.subject.clone(),
            severity: rule.severity,
            standing: if seen.count >= rule.threshold { Standing::Firing } else { Standing::Pending },
            message: seen.message.clone(),
            count: seen.count,
            first_at: seen.at,
            last_at: seen.at,
            resolved_at: None,
        }),
        Some(alert) if alert.standing == Standing::Resolved => observe(rule, None, seen, id),
        Some(alert) => {
            let mut next = alert.clone();
            next.last_at = next.last_at.max(seen.at);
            next.message.clone_from(&seen.message);
            if seen.firing {
                next.count += seen.count;
                if next.standing == Standing::Pending && next.count >= rule.threshold {
                    next.standing = Standing::Firing;
                }
            } else {
                next.standing = Standing::Resolved;
                next.resolved_at = Some(seen.at);
            }
            Some(next)
        }
    }
}

/// What the passing of time makes of an alert. `None`: nothing changes.
#[must_use]
pub fn expire(rule: &Rule, alert: &Alert, now: Timestamp) -> Option<Alert> {
    let quiet = rule.quiet?;
    if alert.standing == Standing::Resolved || now.since(alert.last_at) < quiet {
        return None;
    }
    Some(Alert { standing: Standing::Resolved, resolved_at: Some(now), ..alert.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(firing: bool, at: i64) -> Observation {
        Observation {
            rule: "task_failed".into(),
            subject: "echo".into(),
            message: "m".into(),
            firing,
            at: Timestamp::from_micros(at),
            count: 1,
        }
    }

    #[test]
    fn an_alert_fires_counts_resolves_and_comes_back_as_another() {
        let rule = Rule { threshold: 2, ..RULES[0].clone() };
        assert_eq!(observe(&rule, None, &seen(false, 1), "a"), None);
        let pending = observe(&rule, None, &seen(true, 1), "a").unwrap();
        assert_eq!(pending.standing, Standing::Pending);
        let firing = observe(&rule, Some(&pending), &seen(true, 2), "b").unwrap();
        assert_eq!((firing.standing, firing.count, firing.id.as_str()), (Standing::Firing, 2, "a"));
        let resolved = observe(&rule, Some(&firing), &seen(false, 3), "b").unwrap();
        assert_eq!(
            (resolved.standing, resolved.resolved_at),
            (Standing::Resolved, Some(Timestamp::from_micros(3)))
        );
        let again = observe(&rule, Some(&resolved), &seen(true, 4), "b").unwrap();
        assert_eq!((again.id.as_str(), again.count), ("b", 1));
    }

    #[test]
    fn a_quiet_alert_resolves_by_itself() {
        let firing = observe(&RULES[0], None, &seen(true, 0), "a").unwrap();
        let quiet = RULES[0].quiet.unwrap();
        assert_eq!(expire(&RULES[0], &firing, Timestamp::default().after(quiet / 2)), None);
        let resolved = expire(&RULES[0], &firing, Timestamp::default().after(quiet)).unwrap();
        assert_eq!(resolved.standing, Standing::Resolved);
        assert_eq!(expire(&RULES[2], &firing, Timestamp::default().after(quiet)), None);
    }
}
