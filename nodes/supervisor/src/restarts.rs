use callboard_domain::alert::Observation;
use callboard_ports::Clock;
use callboard_runtime::actor::Restart;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// More restarts of one actor within [`WITHIN`] and the node gives up.
const INTENSITY: usize = 10;
const WITHIN: Duration = Duration::from_secs(60);

/// Counts restarts; says when there are too many.
pub struct Restarts {
    actors: Mutex<BTreeMap<&'static str, History>>,
    clock: Arc<dyn Clock>,
    report: Arc<dyn Fn(Observation) + Send + Sync>,
    give_up: Arc<dyn Fn(String) + Send + Sync>,
}

#[derive(Default)]
struct History {
    total: u64,
    recent: Vec<Instant>,
}

impl Restarts {
    /// No restarts yet. `report` gets an observation of each, `give_up` is called past the intensity.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        report: Arc<dyn Fn(Observation) + Send + Sync>,
        give_up: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        Self { actors: Mutex::default(), clock, report, give_up }
    }

    /// An actor was restarted.
    pub fn note(&self, restart: &Restart) {
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        let history = actors.entry(restart.actor).or_default();
        history.total += 1;
        history.recent.retain(|at| at.elapsed() < WITHIN);
        history.recent.push(Instant::now());
        let recent = history.recent.len();
        drop(actors);
        (self.report)(Observation {
            rule: "actor_restarted".into(),
            subject: restart.actor.into(),
            message: format!("the actor {} was restarted: {}", restart.actor, restart.reason),
            firing: true,
            at: self.clock.now(),
            count: 1,
        });
        if recent > INTENSITY {
            let message =
                format!("the actor {} was restarted {recent} times within {WITHIN:?}", restart.actor);
            (self.give_up)(message);
        }
    }

    /// How often each actor was restarted.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        actors.iter().map(|(name, history)| (*name, history.total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_ports::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn only_a_storm_of_restarts_gives_the_node_up() {
        let given_up = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&given_up);
        let restarts = Restarts::new(
            Arc::new(SystemClock),
            Arc::new(|_| ()),
            Arc::new(move |why| log.lock().unwrap().push(why)),
        );
        let note = || restarts.note(&Restart { actor: "worker", reason: "x".into(), count: 1 });
        for _ in 0..3 * INTENSITY {
            note();
            tokio::time::advance(WITHIN / 5).await;
        }
        assert_eq!(given_up.lock().unwrap().len(), 0);
        for _ in 0..=INTENSITY {
            note();
        }
        assert!(!given_up.lock().unwrap().is_empty());
        assert_eq!(restarts.counts()["worker"], 41);
    }
}
