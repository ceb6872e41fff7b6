//! Whether a peer is to be avoided. Suspicion is a guess that costs little when it is wrong: calls go
//! elsewhere if they can, and whoever proves deaths is told to look. Only an answer clears it.

use crate::mesh::Observer;
use callboard_domain::{SessionId, Timestamp};
use callboard_ports::Clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Called with the session of a peer each time it fails a connection, an answer, or to be reached.
pub type OnSuspect = Arc<dyn Fn(SessionId) + Send + Sync>;

/// How many calls in a row may run out of time before their node is suspected. One may be the call's fault.
const TIMEOUTS: u32 = 3;

/// How a peer stands.
pub(super) struct Standing {
    session: SessionId,
    name: String,
    clock: Arc<dyn Clock>,
    on_suspect: OnSuspect,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    suspected: Option<(String, Timestamp)>,
    timeouts: u32,
    gone: bool,
}

impl Standing {
    pub(super) fn new(session: SessionId, name: &str, clock: Arc<dyn Clock>, on_suspect: OnSuspect) -> Self {
        Self { session, name: name.to_owned(), clock, on_suspect, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is suspected, and since when, if it is.
    pub(super) fn suspected(&self) -> Option<(String, Timestamp)> {
        self.state().suspected.clone()
    }

    /// Suspects the peer. The first reason stays with the time it was found.
    pub(super) fn suspect(&self, why: &str) {
        {
            let mut state = self.state();
            if state.gone {
                return;
            }
            if state.suspected.is_none() {
                tracing::warn!(peer = self.name, session.id = %self.session, why, "a node is suspected");
                state.suspected = Some((why.to_owned(), self.clock.now()));
            }
        }
        (self.on_suspect)(self.session);
    }

    /// It is no peer any more: what its connection still does says nothing.
    pub(super) fn leave(&self) {
        self.state().gone = true;
    }
}

impl Observer for Standing {
    fn failed(&self, why: &str) {
        self.suspect(why);
    }

    fn broke(&self, why: &str) {
        self.suspect(&format!("its connection ended: {why}"));
    }

    fn answered(&self) {
        let mut state = self.state();
        state.timeouts = 0;
        if let Some((why, _)) = state.suspected.take() {
            tracing::info!(peer = self.name, session.id = %self.session, why, "a node that was suspected answers");
        }
    }

    fn timed_out(&self) {
        let mut state = self.state();
        state.timeouts = state.timeouts.saturating_add(1);
        if state.timeouts >= TIMEOUTS {
            drop(state);
            self.suspect("it does not answer calls in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(7)
        }
    }

    fn standing() -> (Standing, Arc<AtomicUsize>) {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let on_suspect: OnSuspect = Arc::new(move |session| {
            assert_eq!(session, SessionId::from_bytes([1; 16]));
            count.fetch_add(1, Ordering::SeqCst);
        });
        (Standing::new(SessionId::from_bytes([1; 16]), "b", Arc::new(Fixed), on_suspect), told)
    }

    #[test]
    fn each_failure_is_told_the_first_reason_stays_and_an_answer_clears_it() {
        let (standing, told) = standing();
        assert_eq!(standing.suspected(), None);
        standing.broke("reset");
        standing.failed("connection refused");
        let expected = ("its connection ended: reset".to_owned(), Timestamp::from_micros(7));
        assert_eq!(standing.suspected(), Some(expected));
        assert_eq!(told.load(Ordering::SeqCst), 2);
        standing.answered();
        assert_eq!(standing.suspected(), None);
    }

    #[test]
    fn calls_out_of_time_count_in_a_row() {
        let (standing, _) = standing();
        for _ in 0..10 {
            standing.timed_out();
            standing.timed_out();
            standing.answered();
        }
        assert_eq!(standing.suspected(), None);
        for _ in 0..3 {
            standing.timed_out();
        }
        assert!(standing.suspected().is_some());
    }

    #[test]
    fn who_has_left_is_not_suspected() {
        let (standing, told) = standing();
        standing.leave();
        standing.broke("closed");
        assert_eq!((standing.suspected(), told.load(Ordering::SeqCst)), (None, 0));
    }
}
