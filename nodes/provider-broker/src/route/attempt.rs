//! Trying candidates until one answers.

use super::course::Course;
use super::failures::{Failures, Obstacle};
use super::outage;
use super::spans::{Operation, failed, over};
use super::turn::{NoTurn, Tried, Turn};
use super::won::Won;
use super::{Candidate, Candidates, Limits, Router};
use crate::accounts::{Bill, DEFAULT_NAMESPACE};
use crate::admission::Debit;
use crate::breaker::{Outcome, tells_of_key};
use crate::gen_ai::Call;
use crate::keys::{CallKey, Keys, Sending};
use crate::provider::Provider;
use callboard_domain::limits;
use callboard_domain::llm::{Error, ErrorKind};
use callboard_ports::trace::Span;
use callboard_runtime::mesh;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How often a key is looked for again that was in the way of a call, and was not when one looked why.
const RACES: u32 = 8;

/// How the failure of a call counts for the provider's health.
pub(super) fn outcome(error: &Error, blameless: bool) -> Outcome {
    match blameless {
        true => Outcome::Unknown,
        false => Outcome::Failure { kind: error.kind, wait: error.retry_after },
    }
}

/// Whether somebody else could answer what one candidate did not.
enum Lost {
    /// The next one may.
    Next,
    /// Nobody would.
    Over,
}

/// A key for an attempt, and room for it within the limits.
struct Ready {
    turn: Turn,
    debit: Debit,
    sending: Sending,
}

/// What follows a failed attempt at a provider.
enum After {
    /// Another one there, over another key or with another value of the same.
    Key,
    /// Another one there, after so long.
    Pause(Duration),
    /// None there.
    Leave,
}

impl Router {
    /// Opens the bill of a call.
    fn bill(&self, namespace: &str, candidates: &Candidates) -> Result<Bill, Error> {
        let list = candidates.list.iter().map(|c| (c.index, c.model.as_str(), c.local()));
        self.accounts.open(namespace, list, candidates.expected, candidates.images)
    }

    /// Tries the candidates until one answers. `call` is given the model, where a route names it.
    pub(super) async fn attempt_all<'a, T>(
        &'a self,
        operation: Operation,
        candidates: Candidates,
        limits: Limits,
        call: impl Fn(&'a dyn Provider, Option<&str>) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Won<T>, Error> {
        let mut pipeline = self.begin(operation);
        if let Some(trial) = &candidates.trial {
            pipeline.set_with("callboard.experiment", || trial.experiment.clone());
            pipeline.set_with("callboard.experiment.arm", || trial.arm.clone());
        }
        let namespace = Some(mesh::current().namespace).filter(|name| !name.is_empty());
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let bill = self.bill(&namespace, &candidates).inspect_err(|error| failed(&mut pipeline, error))?;
        let mut course = Course {
            operation,
            limits,
            namespace,
            key: CallKey::draw(&*self.random),
            candidate: 0,
            maybe_billed: None,
            bill: Some(bill),
            deadline: Instant::now() + limits.total.min(limits::TIMEOUT),
            estimate: candidates.estimate,
            routed: candidates.routed,
            any_model: candidates.any_model,
            failures: Failures::new(self.providers.len() - candidates.off, candidates.off, candidates.pinned),
            pipeline,
        };
        let route = outage::Route::of(&candidates);
        let mut rest = candidates.list.into_iter();
        while let Some(candidate) = rest.next() {
            course.candidate += 1;
            match self.attempt(&mut course, candidate, rest.as_slice(), &call).await {
                Ok(won) => {
                    route.answers(&self.health);
                    return Ok(won);
                }
                Err(Lost::Next) => {}
                Err(Lost::Over) => break,
            }
        }
        let Course { failures, mut pipeline, .. } = course;
        route.fails(&self.health, &failures);
        let error = failures.into_error();
        failed(&mut pipeline, &error);
        Err(error)
    }

    /// Tries one candidate: over each of its keys, and again, if nobody else is left and it could help.
    async fn attempt<'a, T>(
        &'a self,
        course: &mut Course,
        candidate: Candidate,
        rest: &[Candidate],
        call: &impl Fn(&'a dyn Provider, Option<&str>) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Won<T>, Lost> {
        let limits = course.limits;
        let reserve = if rest.iter().any(Candidate::local) { course.reserve() } else { Duration::ZERO };
        let ring = &self.rings[candidate.index];
        self.look_for_other_keys(&candidate).await;
        // One span for all tries.
        let mut span: Option<Span> = None;
        let (mut tried, mut retries) = (Tried::default(), 0);
        loop {
            if course.left().saturating_sub(reserve).is_zero() {
                course.failures.out_of_time = true;
                break;
            }
            let Some(Ready { turn, debit, sending }) =
                self.ready(course, &candidate, rest, reserve, &mut tried).await
            else {
                break;
            };
            let started = Instant::now();
            let budget = course.left().saturating_sub(reserve).min(limits.attempt);
            let Turn { key: place_of_key, mut permit, place } = turn;
            let sending = sending.known_by(course.key.at(course.candidate, place_of_key));
            if !candidate.local() {
                self.retries.sent_again(course.maybe_billed.take());
            }
            let key = ring.key(place_of_key);
            if tried.sent.is_empty() {
                self.retries.call(candidate.index);
            }
            tried.sent.add(place_of_key);
            let operation = course.operation;
            let mut open =
                span.take().unwrap_or_else(|| operation.call(&self.tracer, &candidate, &course.pipeline));
            let version = key.version();
            let call = call(ring.with(place_of_key), course.routed.then_some(candidate.model.as_str()));
            let call = self.routes.timed(candidate.index, &candidate.model, call);
            let (ended, unreached) = sending.during(timeout(budget, call)).await;
            let error = match ended {
                Ok(Ok(value)) => {
                    let (provider, model) = (&candidate.name, &candidate.model);
                    tracing::debug!(provider, key = key.id(), model, "provider answered");
                    over(&mut open, key);
                    let degraded = course.failures.degraded(&candidate);
                    let failed = std::mem::take(&mut course.failures.attempts);
                    let Some(bill) = course.bill.take() else { return Err(Lost::Over) };
                    return Ok(Won {
                        operation,
                        bill,
                        cost: None,
                        usage_estimated: false,
                        dropped: Vec::new(),
                        value,
                        candidate,
                        key: key.id().to_owned(),
                        started,
                        failed,
                        degraded,
                        span: open,
                        permit,
                        _place: place,
                        debit: Some(debit),
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, format!("no answer in {budget:?}")),
            };
            drop(place);
            // A provider is not to blame for a call that gave it much less time than it may take.
            let cut_short = error.kind == ErrorKind::Timeout && budget < limits.attempt / 2;
            let renewed = self.renewed(&candidate, place_of_key, version, &error, &mut tried).await;
            permit.settle(outcome(&error, cut_short));
            course.failed(&candidate, error.kind, unreached);
            course.bill.as_mut().into_iter().for_each(|bill| bill.failed(error.kind));
            debit.failed(error.kind).await;
            let failed_call = Call { operation, model: &candidate.model, took: started.elapsed() };
            self.health.failure(candidate.index, failed_call, error.kind);
            let after =
                match renewed || self.has_other_key(course, &candidate, place_of_key, &error, &mut tried) {
                    true => After::Key,
                    false => match self.pause(course, &candidate, rest, &error, retries + 1) {
                        Some(pause) => After::Pause(pause),
                        None => After::Leave,
                    },
                };
            let fallback = course.allows_fallback(error.kind);
            if matches!(after, After::Leave) {
                over(&mut open, key);
                failed(&mut open, &error);
            }
            course.failures.add(&candidate, key, started.elapsed(), error, cut_short);
            match after {
                After::Key => {}
                After::Pause(pause) => {
                    retries += 1;
                    tried.out = Keys::default();
                    tokio::time::sleep(pause).await;
                }
                After::Leave if fallback => {
                    self.say_obstacles(course, &candidate, tried);
                    break;
                }
                After::Leave => return Err(Lost::Over),
            }
            span = Some(open);
        }
        if let Some(mut open) = span {
            open.fail(|| "it could not be made again any more".into());
        }
        Err(Lost::Next)
    }

    /// Waits for a place over a key, if that is all that a call wants for, and no other provider would take it. Returns whether
    /// there may be one now.
    async fn wait_for_place(
        &self,
        course: &Course,
        candidate: &Candidate,
        rest: &[Candidate],
        reserve: Duration,
        tried: Tried,
    ) -> bool {
        let (now, none) = (Instant::now(), Keys::default());
        let waits = self.is_busy(candidate, course.estimate, tried.out, now)
            // A stand-in answers after the wait, not instead of it.
            && !rest.iter().any(|c| !c.local() && self.is_available(c, course.estimate, none, now));
        let until = now + course.left().saturating_sub(reserve);
        waits && timeout_at(until, self.rings[candidate.index].freed()).await.is_ok()
    }

    /// Gets a key and room within the limits for the next attempt. Says of what stands in the way that it does, unless
    /// it was tried in this call, which has said it.
    async fn ready(
        &self,
        course: &mut Course,
        candidate: &Candidate,
        rest: &[Candidate],
        reserve: Duration,
        tried: &mut Tried,
    ) -> Option<Ready> {
        let ring = &self.rings[candidate.index];
        let (mut races, mut woken) = (0, false);
        loop {
            let turn = match self.turn(candidate, course.estimate, tried) {
                Ok(turn) => turn,
                Err(NoTurn::Off) => {
                    course.failures.limited(candidate, ring.key(0), self.is_off(candidate));
                    if woken {
                        ring.pass_on();
                    }
                    return None;
                }
                Err(NoTurn::Provider(refusal)) => {
                    if tried.sent.is_empty() {
                        course.failures.skip(candidate, None, refusal);
                    }
                    if woken {
                        ring.pass_on();
                    }
                    return None;
                }
                Err(NoTurn::Keys) => {
                    if self.wait_for_place(course, candidate, rest, reserve, *tried).await {
                        woken = true;
                        continue;
                    }
                    if woken {
                        // Who was woken and cannot use the place wakes the next, who may.
                        ring.pass_on();
                    }
                    // What was in the way may have gone in the same moment.
                    races += 1;
                    if self.say_obstacles(course, candidate, *tried) || !tried.is_fresh() || races > RACES {
                        return None;
                    }
                    continue;
                }
            };
            let (key, model) = (ring.key(turn.key), &candidate.model);
            // Dropped, the permit of the breaker is somebody else's.
            if let Err(spent) = course.charge(candidate) {
                course.failures.limited(candidate, key, spent);
                return None;
            }
            let Course { namespace, estimate, .. } = &*course;
            let debit =
                match self.admission.admit(namespace, &candidate.name, key.id(), model, *estimate).await {
                    Ok(debit) => debit,
                    Err(reached) => {
                        course.uncharge();
                        course.failures.limited(candidate, key, reached);
                        if !self.admission.tells_keys_apart(&candidate.name) {
                            return None;
                        }
                        tried.out.add(turn.key);
                        continue;
                    }
                };
            // Last, so that it is sent in the order in which it is counted.
            match key.send(model, course.estimate, Instant::now()) {
                Ok(sending) => return Some(Ready { turn, debit, sending }),
                Err(spent) => {
                    debit.unused().await;
                    course.uncharge();
                    course.failures.obstacle(candidate, key, Obstacle::Spent(spent));
                    tried.out.add(turn.key);
                }
            }
        }
    }

    /// Says why those keys are not used that the call was not sent over. Returns whether there was anything to say.
    fn say_obstacles(&self, course: &mut Course, candidate: &Candidate, tried: Tried) -> bool {
        let mut said = false;
        for key in (0..candidate.keys).filter(|key| !tried.sent.has(*key) && !tried.out.has(*key)) {
            if let Some(obstacle) = self.obstacle(candidate, key, course.estimate, Instant::now()) {
                course.failures.obstacle(candidate, self.rings[candidate.index].key(key), obstacle);
                said = true;
            }
        }
        said
    }

    /// Reads again the keys of a provider that may have changed.
    async fn look_for_other_keys(&self, candidate: &Candidate) {
        let ring = &self.rings[candidate.index];
        let changed = ring.refresh().await;
        for key in (0..ring.keys().len()).filter(|key| changed.has(*key)) {
            self.breakers.replaced(candidate.index, key);
        }
    }

    /// Whether a key that was rejected has another value by now, with which it was not tried yet.
    async fn renewed(
        &self,
        candidate: &Candidate,
        key: usize,
        version: u64,
        error: &Error,
        tried: &mut Tried,
    ) -> bool {
        if error.kind != ErrorKind::Authentication || tried.renewed.has(key) {
            return false;
        }
        let ring = &self.rings[candidate.index];
        if ring.rejected(key).await {
            self.breakers.replaced(candidate.index, key);
        }
        let renewed = ring.key(key).version() != version;
        if renewed {
            tried.renewed.add(key);
        }
        renewed
    }

    /// Whether a failure was that of the key alone, and another one of the provider would take the call.
    fn has_other_key(
        &self,
        course: &Course,
        candidate: &Candidate,
        key: usize,
        error: &Error,
        tried: &mut Tried,
    ) -> bool {
        if candidate.keys == 1 || !tells_of_key(error.kind) {
            return false;
        }
        tried.out.add(key);
        self.is_available(candidate, course.estimate, tried.out, Instant::now())
    }

    /// How long to wait before a failed call is made again at the same provider; `None` if it is not.
    ///
    /// Somebody else is preferred: who has not just failed, needs no wait, and is not made worse by it.
    fn pause(
        &self,
        course: &Course,
        candidate: &Candidate,
        rest: &[Candidate],
        error: &Error,
        failures: u32,
    ) -> Option<Duration> {
        let now = Instant::now();
        let available = |of: &Candidate, at| self.is_available(of, course.estimate, Keys::default(), at);
        if rest.iter().any(|other| available(other, now)) {
            return None;
        }
        let pause = self.retries.pause(error, failures)?;
        let in_time = pause + course.reserve() < course.left();
        let open = !available(candidate, now + pause);
        (in_time && !open && self.retries.take(candidate.index)).then_some(pause)
    }
}
