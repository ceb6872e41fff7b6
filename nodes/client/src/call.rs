//! One call over as many attempts as it takes: fail over, backoff, deadline.

use crate::error::{Error, Origin};
use crate::route::Routes;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Whether running a call twice is the same as running it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It is: repeat it after an unknown outcome.
    Safe,
    /// It is not: repeat it only if it certainly did not run.
    Unsafe,
}

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Over all attempts.
    pub(crate) total: Duration,
    /// While no address answers.
    pub(crate) patience: Duration,
    /// Whether the server is told the deadline. Not for streams, which it would cut.
    pub(crate) tell: bool,
}

/// An exponential backoff with jitter: each delay lies between a half and the whole of the step.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(BACKOFF_FIRST)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let step = self.0;
        self.0 = (step * 2).min(BACKOFF_MAX);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// What became of a call, and whether an earlier attempt of it may have run.
pub(crate) struct Outcome<T> {
    pub(crate) result: Result<T, Error>,
    pub(crate) ambiguous: bool,
}

pub(crate) async fn call<M, T, F, R>(
    routes: &Routes,
    budget: Budget,
    repeat: Repeat,
    message: M,
    send: F,
) -> Outcome<T>
where
    M: Clone,
    F: Fn(Channel, Request<M>) -> R,
    R: Future<Output = Result<Response<T>, Status>>,
{
    let started = Instant::now();
    let mut backoff = Backoff::new();
    let mut tries = 0;
    let mut ambiguous = false;
    // Since when nothing at all has answered.
    let mut away: Option<Instant> = None;
    loop {
        tries += 1;
        let left = budget.total.saturating_sub(started.elapsed());
        let taken = match routes.take() {
            Ok(taken) => taken,
            Err(error) => return Outcome { result: Err(error), ambiguous },
        };
        let mut request = Request::new(message.clone());
        if budget.tell {
            request.set_timeout(left);
        }
        let error = match tokio::time::timeout(left, send(taken.channel.clone(), request)).await {
            Ok(Ok(response)) => return Outcome { result: Ok(response.into_inner()), ambiguous },
            Ok(Err(status)) => Error::from(status),
            Err(_) => Error::timed_out(budget.total),
        };
        away = if error.is_silence() { away.or_else(|| Some(Instant::now())) } else { None };
        let pause = match pause(&error, repeat, routes.len(), tries, &mut backoff) {
            Some(pause)
                if started.elapsed() + pause < budget.total
                    && (tries < routes.len()
                        || away.is_none_or(|a| a.elapsed() + pause <= budget.patience)) =>
            {
                pause
            }
            _ => return Outcome { result: Err(explain(error, budget, routes)), ambiguous },
        };
        ambiguous |= error.may_have_run;
        tracing::debug!(address = routes.current(), error = %error, pause_ms = pause.as_millis(), "trying again");
        if error.code == tonic::Code::Unavailable {
            routes.leave(&taken);
        }
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait before the next attempt; none if there should be none.
fn pause(
    error: &Error,
    repeat: Repeat,
    routes: usize,
    tries: usize,
    backoff: &mut Backoff,
) -> Option<Duration> {
    if !error.is_passing() || (error.may_have_run && repeat == Repeat::Unsafe) {
        return None;
    }
    if error.code == tonic::Code::Unavailable && error.retry_after.is_none() && !tries.is_multiple_of(routes)
    {
        // Another address may answer at once.
        return Some(Duration::ZERO);
    }
    let pause = backoff.next();
    Some(error.retry_after.map_or(pause, |after| after.max(pause)))
}

/// Adds what the attempt itself does not know: the addresses, and the deadline of the whole call.
fn explain(mut error: Error, budget: Budget, routes: &Routes) -> Error {
    match error.origin {
        Origin::Unreachable => {
            error.metadata.insert("addresses".to_owned(), routes.text());
            error.message = format!("cannot reach {}: {}", routes.text(), error.message);
            error
        }
        Origin::Lost => {
            error.message = format!("lost the connection to {}: {}", routes.current(), error.message);
            error
        }
        Origin::TimedOut => Error::timed_out(budget.total),
        Origin::Server | Origin::Local => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn server(code: Code, reason: &str) -> Error {
        Error::new(code, reason, "", Origin::Server)
    }

    #[test]
    fn the_backoff_doubles_to_its_bound() {
        let mut backoff = Backoff::new();
        let mut step = BACKOFF_FIRST;
        for _ in 0..10 {
            let delay = backoff.next();
            assert!(delay >= step / 2 && delay <= step, "{delay:?} of {step:?}");
            step = (step * 2).min(BACKOFF_MAX);
        }
        assert_eq!(step, BACKOFF_MAX);
    }

    #[test]
    fn what_may_have_run_is_repeated_only_if_that_is_safe() {
        let lost = Error::lost("reset");
        assert!(pause(&lost, Repeat::Safe, 1, 1, &mut Backoff::new()).is_some());
        assert!(pause(&lost, Repeat::Unsafe, 1, 1, &mut Backoff::new()).is_none());
        let draining = server(Code::Unavailable, "DRAINING");
        assert!(pause(&draining, Repeat::Unsafe, 1, 1, &mut Backoff::new()).is_some());
        let missing = server(Code::NotFound, "TASK_NOT_FOUND");
        assert!(pause(&missing, Repeat::Safe, 1, 1, &mut Backoff::new()).is_none());
    }

    #[test]
    fn the_next_address_is_tried_at_once_and_a_new_round_after_a_pause() {
        let away = Error::new(Code::Unavailable, "UNREACHABLE", "", Origin::Unreachable);
        let mut backoff = Backoff::new();
        assert_eq!(pause(&away, Repeat::Unsafe, 2, 1, &mut backoff), Some(Duration::ZERO));
        assert!(pause(&away, Repeat::Unsafe, 2, 2, &mut backoff).is_some_and(|p| p > Duration::ZERO));
    }

    #[test]
    fn the_servers_own_delay_is_kept() {
        let full = Error {
            retry_after: Some(Duration::from_secs(3)),
            ..server(Code::ResourceExhausted, "OVERLOADED")
        };
        assert_eq!(pause(&full, Repeat::Unsafe, 2, 1, &mut Backoff::new()), Some(Duration::from_secs(3)));
    }
}
