//! When nobody answers: of all providers, or of all that a route leads to.

use super::Candidates;
use super::failures::Failures;
use crate::health::Health;

/// The route that a call goes, if it may go to all that it leads to.
pub(super) struct Route(Option<(String, usize)>);

impl Route {
    /// That of these candidates.
    pub(super) fn of(candidates: &Candidates) -> Self {
        let list = &candidates.list;
        let is_first = |at: usize| list[..at].iter().all(|other| other.index != list[at].index);
        let providers = || (0..list.len()).filter(|at| is_first(*at)).count();
        Self(candidates.route.clone().map(|route| (route, providers())))
    }

    /// Somebody has answered.
    pub(super) fn answers(&self, health: &Health) {
        if let Some((route, _)) = &self.0 {
            health.route_answers(route);
        }
    }

    /// Nobody has. That is an outage if each failed for its own sake: of everything, or of the route.
    pub(super) fn fails(&self, health: &Health, failures: &Failures) {
        if failures.is_outage() {
            health.all_down(&failures.message());
        } else if let Some((route, _)) = self.0.as_ref().filter(|(_, all)| failures.all_down(*all)) {
            health.route_down(route, &failures.message());
        }
    }
}
