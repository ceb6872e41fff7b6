use callboard_domain::Timestamp;
use callboard_domain::alert::{self, Alert, Observation};
use std::collections::HashMap;

/// The open alerts, by rule and subject.
#[derive(Debug, Default)]
pub(crate) struct Book {
    open: HashMap<(String, String), Alert>,
}

impl Book {
    pub(crate) fn new(open: Vec<Alert>) -> Self {
        Self { open: open.into_iter().map(|a| ((a.rule.clone(), a.subject.clone()), a)).collect() }
    }

    /// Takes in what was seen. Returns what has to be written, each alert once.
    pub(crate) fn observe(&mut self, seen: &[Observation], mut new_id: impl FnMut() -> String) -> Vec<Alert> {
        let mut changed: HashMap<String, Alert> = HashMap::new();
        for seen in seen {
            let Some(rule) = alert::rule(&seen.rule) else {
                tracing::warn!(rule = seen.rule, "an observation for a rule that does not exist");
                continue;
            };
            let key = (seen.rule.clone(), seen.subject.clone());
            if let Some(next) = alert::observe(rule, self.open.get(&key), seen, &new_id()) {
                changed.insert(next.id.clone(), next.clone());
                self.open.insert(key, next);
            }
        }
        self.forget_resolved();
        changed.into_values().collect()
    }

    /// Resolves what has been quiet for long enough. Returns what has to be written.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<Alert> {
        let expired: Vec<_> =
            self.open.values().filter_map(|a| alert::expire(alert::rule(&a.rule)?, a, now)).collect();
        for alert in &expired {
            self.open.remove(&(alert.rule.clone(), alert.subject.clone()));
        }
        expired
    }

    fn forget_resolved(&mut self) {
        self.open.retain(|_, a| a.resolved_at.is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::alert::Standing;

    #[test]
    fn what_is_seen_twice_is_one_alert_and_what_resolves_is_forgotten() {
        let seen = |firing| Observation {
            rule: "all_providers_down".into(),
            subject: "text".into(),
            message: "m".into(),
            firing,
            at: Timestamp::from_micros(1),
            count: 1,
        };
        let mut ids = (0..).map(|n| n.to_string());
        let mut book = Book::default();
        let changed = book.observe(&[seen(true), seen(true)], || ids.next().unwrap());
        assert_eq!((changed.len(), changed[0].count, changed[0].standing), (1, 2, Standing::Firing));
        let changed = book.observe(&[seen(false)], || ids.next().unwrap());
        assert_eq!((changed.len(), changed[0].standing), (1, Standing::Resolved));
        assert!(book.open.is_empty());
        assert!(book.observe(&[seen(false)], || ids.next().unwrap()).is_empty());
        let unknown = Observation { rule: "no_such_rule".into(), ..seen(true) };
        assert!(book.observe(&[unknown], || ids.next().unwrap()).is_empty());
    }
}
