use callboard_domain::Timestamp;
use callboard_domain::alert::{self, Alert, Observation, Standing};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The open alerts, by rule and subject.
#[derive(Debug, Default)]
pub(crate) struct Book {
    open: HashMap<(String, String), Alert>,
}

impl Book {
    pub(crate) fn new(open: Vec<Alert>) -> Self {
        Self::merged(open, Timestamp::default()).0
    }

    /// A book of what several nodes wrote down. Two of them may have raised an alert for the same thing at the
    /// same time: the older one goes on, with all that was seen, and what the other becomes has to be written.
    pub(crate) fn merged(mut open: Vec<Alert>, now: Timestamp) -> (Self, Vec<Alert>) {
        open.sort_by(|a, b| a.id.cmp(&b.id));
        let (mut book, mut changed) = (Self::default(), Vec::new());
        let mut grown = Vec::new();
        for alert in open {
            match book.open.entry((alert.rule.clone(), alert.subject.clone())) {
                Entry::Vacant(free) => {
                    free.insert(alert);
                }
                Entry::Occupied(mut older) => {
                    let kept = older.get_mut();
                    kept.count += alert.count;
                    if alert.last_at > kept.last_at {
                        kept.last_at = alert.last_at;
                        kept.message.clone_from(&alert.message);
                    }
                    grown.push(older.key().clone());
                    let resolved_at = Some(now.max(alert.last_at));
                    changed.push(Alert { standing: Standing::Resolved, resolved_at, ..alert });
                }
            }
        }
        grown.sort_unstable();
        grown.dedup();
        changed.extend(grown.iter().filter_map(|key| book.open.get(key).cloned()));
        (book, changed)
    }

    /// Whether something of this would be an alert of its own.
    pub(crate) fn raises(&self, seen: &[Observation]) -> bool {
        let is_open = |seen: &Observation| self.open.contains_key(&(seen.rule.clone(), seen.subject.clone()));
        seen.iter().any(|seen| seen.firing && !is_open(seen))
    }

    /// Takes in what was seen. Returns what has to be written, each alert once. `new_id` names what is new.
    pub(crate) fn observe(
        &mut self,
        seen: &[Observation],
        mut new_id: impl FnMut(&Observation) -> String,
    ) -> Vec<Alert> {
        let mut changed: HashMap<String, Alert> = HashMap::new();
        for seen in seen {
            let Some(rule) = alert::rule(&seen.rule) else {
                tracing::warn!(rule = seen.rule, "an observation for a rule that does not exist");
                continue;
            };
            let key = (seen.rule.clone(), seen.subject.clone());
            let open = self.open.get(&key).filter(|alert| alert.standing != Standing::Resolved);
            let id = if open.is_none() && seen.firing { new_id(seen) } else { String::new() };
            if let Some(next) = alert::observe(rule, open, seen, &id) {
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
        let changed = book.observe(&[seen(true), seen(true)], |_| ids.next().unwrap());
        assert_eq!((changed.len(), changed[0].count, changed[0].standing), (1, 2, Standing::Firing));
        let changed = book.observe(&[seen(false)], |_| ids.next().unwrap());
        assert_eq!((changed.len(), changed[0].standing), (1, Standing::Resolved));
        assert!(book.open.is_empty());
        assert!(book.observe(&[seen(false)], |_| ids.next().unwrap()).is_empty());
        let unknown = Observation { rule: "no_such_rule".into(), ..seen(true) };
        assert!(book.observe(&[unknown], |_| ids.next().unwrap()).is_empty());
    }
    #[test]
    fn two_alerts_for_one_thing_become_the_older() {
        let alert = |id: &str, count, last_at| Alert {
            id: id.into(),
            rule: "task_failed".into(),
            subject: "echo".into(),
            severity: alert::Severity::Warning,
            standing: Standing::Firing,
            message: format!("of {id}"),
            count,
            first_at: Timestamp::from_micros(1),
            last_at: Timestamp::from_micros(last_at),
            resolved_at: None,
        };
        let now = Timestamp::from_micros(9);
        let (book, changed) = Book::merged(vec![alert("b", 2, 5), alert("a", 3, 4)], now);
        let kept = book.open.values().next().unwrap();
        assert_eq!((book.open.len(), kept.id.as_str(), kept.count), (1, "a", 5));
        assert_eq!((kept.message.as_str(), kept.last_at.micros()), ("of b", 5));
        assert_eq!(changed.len(), 2);
        assert!(changed.contains(kept));
        let resolved = changed.iter().find(|alert| alert.id == "b").unwrap();
        assert_eq!((resolved.standing, resolved.resolved_at), (Standing::Resolved, Some(now)));
        assert_eq!(Book::merged(vec![alert("a", 3, 4)], now).1, []);
    }
}
