//! How many requests there are, how they end, how long they take.

use callboard_ports::metrics::{Counter, Distribution, Histogram, SLOW};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What is asked for, as it is counted. What clients make up is one: names without end would be series without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Embeddings,
    Images,
    Models,
    Other,
}

impl Route {
    const ALL: [Self; 5] = [Self::Chat, Self::Embeddings, Self::Images, Self::Models, Self::Other];

    /// That of a path.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/images/generations" => Self::Images,
            path if path == "/v1/models" || path.starts_with("/v1/models/") => Self::Models,
            _ => Self::Other,
        }
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Images => "/v1/images/generations",
            Self::Models => "/v1/models",
            Self::Other => "other",
        }
    }
}

/// How requests end: by the status of their answer, or without a whole one.
const OUTCOMES: [&str; 16] = [
    "200",
    "400",
    "401",
    "403",
    "404",
    "405",
    "408",
    "413",
    "429",
    "500",
    "502",
    "503",
    "504",
    "other",
    "broken",
    "cancelled",
];
/// A status that we do not send.
const OTHER: &str = "other";

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With an answer of this status.
    Status(u16),
    /// With a stream that failed.
    Broken,
    /// The caller went away.
    Cancelled,
}

#[derive(Debug)]
struct Counted {
    ended: [Counter; OUTCOMES.len()],
    open: AtomicU64,
    took: Histogram,
}

impl Default for Counted {
    fn default() -> Self {
        Self { ended: Default::default(), open: AtomicU64::new(0), took: Histogram::new(SLOW) }
    }
}

impl Counted {
    fn end(&self, outcome: Outcome) {
        let name = match outcome {
            Outcome::Status(status) => &status.to_string(),
            Outcome::Broken => "broken",
            Outcome::Cancelled => "cancelled",
        };
        let at = |name: &str| OUTCOMES.iter().position(|outcome| *outcome == name);
        if let Some(ended) = at(name).or_else(|| at(OTHER)).and_then(|i| self.ended.get(i)) {
            ended.one();
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The requests of all routes.
#[derive(Clone, Debug, Default)]
pub struct HttpMetrics(Arc<[Counted; Route::ALL.len()]>);

/// What is known of one route.
#[derive(Clone, Debug)]
pub struct RouteRead {
    /// Its path, `other` for those there are not.
    pub route: &'static str,
    /// How many requests have ended, by how. `200` is always there.
    pub ended: Vec<(&'static str, u64)>,
    /// How many go on.
    pub open: u64,
    /// How long it took until the answer began, in nanoseconds.
    pub took: Distribution,
}

impl HttpMetrics {
    /// How each route does.
    #[must_use]
    pub fn read(&self) -> Vec<RouteRead> {
        let routes = Route::ALL.iter().zip(self.0.iter());
        routes
            .map(|(route, counted)| {
                let ended = OUTCOMES.iter().copied().zip(counted.ended.iter().map(Counter::get));
                RouteRead {
                    route: route.name(),
                    ended: ended.filter(|(outcome, count)| *count > 0 || *outcome == OUTCOMES[0]).collect(),
                    open: counted.open.load(Ordering::Relaxed),
                    took: counted.took.read(),
                }
            })
            .collect()
    }

    /// A request has come.
    pub(super) fn begin(&self, route: Route) -> Open {
        let open = Open { metrics: self.clone(), route, began: Instant::now(), outcome: Outcome::Cancelled };
        if let Some(counted) = open.counted() {
            counted.open.fetch_add(1, Ordering::Relaxed);
        }
        open
    }
}

/// A request that goes on. It ends when this is dropped: the caller went away if nothing else was said.
#[derive(Debug)]
pub(super) struct Open {
    metrics: HttpMetrics,
    route: Route,
    began: Instant,
    outcome: Outcome,
}

impl Open {
    fn counted(&self) -> Option<&Counted> {
        Route::ALL.iter().position(|route| *route == self.route).and_then(|i| self.metrics.0.get(i))
    }

    /// The answer begins.
    pub(super) fn begun(&self) {
        if let Some(counted) = self.counted() {
            counted.took.took(self.began.elapsed());
        }
    }

    /// This is how it ends.
    pub(super) const fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(counted) = self.counted() {
            counted.end(self.outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_once_by_how_they_ended_and_while_they_go_on() {
        let metrics = HttpMetrics::default();
        let (mut ok, mut odd, gone) =
            (metrics.begin(Route::Chat), metrics.begin(Route::Chat), metrics.begin(Route::Chat));
        ok.begun();
        ok.ends(Outcome::Status(200));
        odd.ends(Outcome::Status(418));
        let chat = || metrics.read().into_iter().find(|read| read.route == "/v1/chat/completions").unwrap();
        assert_eq!((chat().open, chat().ended), (3, vec![("200", 0)]));
        drop((ok, odd, gone));
        assert_eq!((chat().open, chat().took.count()), (0, 1));
        assert_eq!(chat().ended, [("200", 1), ("other", 1), ("cancelled", 1)]);
        assert_eq!(Route::of("/v1/made/up").name(), "other");
        assert_eq!(Route::of("/v1/models/openai/gpt").name(), "/v1/models");
    }
}
