//! Who makes the call of an idempotency key, of the nodes that are asked for it at the same time.
//!
//! A node that is about to make such a call claims its key, by a lock that all nodes share, and renews the claim while the
//! call runs. The others wait for the answer that it keeps ([`Second`](super::Second)), or for the claim to end: then one of
//! them makes the call. What can go wrong costs a second call at most, and never another answer, as long as answers are shared:
//! - The holder dies: its claim is over within [`TTL`], and one that waits calls.
//! - The caller goes away, and with it the call: its claim holds until then, but for the same request at the same node.
//! - The holder is paused for longer than that: another one calls, too. Of the two answers the one that is kept first counts
//!   for the key; the other caller gets that one as well.
//! - The call fails: nothing is kept, the claim is given back, and the next one calls itself.
//! - The claims are away: nobody waits, each node calls as if it were alone. They are then left alone for [`REST`]. As a rule
//!   what nodes share of answers is away with them: then each node keeps, and gives again, the answer to its own call.
//! - The claims are lost: a holder that finds it out claims its key again, unless another one has done so.
//!
//! A claim says what is asked, so another request with the same key is refused at once, if no answer is kept for it.

use super::asked::Key;
use crate::broker::Jitter;
use callboard_ports::locks::{Error, Locks};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a claim holds that is not renewed.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// How often it is renewed: two may be lost.
const RENEW: Duration = Duration::from_secs(3);
/// How long the service that holds claims may take.
const PATIENCE: Duration = Duration::from_millis(250);
/// For how long it is not asked after it did not answer.
const REST: Duration = Duration::from_secs(5);
/// The first pause before it is looked again whether the call of another node has ended; the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(40), Duration::from_millis(500));

/// What claims are made with.
pub(crate) struct Claims {
    locks: Option<Arc<dyn Locks>>,
    draw: Jitter,
    /// Which process this is. It makes one call for a key at a time, so a claim of its own that it finds is one that was left
    /// behind, by a caller that went away: it is had anew.
    id: String,
    rests_until: Mutex<Option<Instant>>,
}

/// What became of an attempt to claim a key.
pub(super) enum Taken<'a> {
    /// It is ours.
    Ours(Claim<'a>),
    /// Another node makes the same call.
    Held,
    /// Another node makes another call with the same key.
    Other,
    /// Nobody knows: claims are away, or there are none.
    Unknown,
}

/// A key that this node makes the call of.
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    locks: &'a dyn Locks,
    name: String,
    owner: String,
}

impl Claims {
    /// Claims by locks, if nodes share some. `draw` tells processes apart.
    pub(crate) fn new(locks: Option<Arc<dyn Locks>>, draw: Jitter) -> Self {
        let id = format!("{:016x}{:016x}", draw().to_bits(), draw().to_bits());
        Self { locks, draw, id, rests_until: Mutex::default() }
    }

    /// Claims a key for a call.
    pub(super) async fn take(&self, Key { at, of }: Key) -> Taken<'_> {
        let Some(locks) = self.locks.as_deref().filter(|_| !self.rests()) else { return Taken::Unknown };
        let owner = format!("{of}/{}", self.id);
        let claim = Claim { claims: self, locks, name: format!("answer/{at}"), owner };
        match claim.acquire().await {
            Some(Ok(())) => Taken::Ours(claim),
            Some(Err(Error::Held { holder })) => match holder.split_once('/') {
                Some((asks, _)) if asks == of.to_string() => Taken::Held,
                _ => Taken::Other,
            },
            Some(Err(Error::Unavailable(_) | Error::Lost)) | None => Taken::Unknown,
        }
    }

    /// The pause before the next look, with a share that is drawn, so that nodes do not look in step.
    pub(super) fn pause(&self, looks: i32) -> Duration {
        let (first, longest) = PAUSES;
        first
            .mul_f64(1.5_f64.powi(looks.min(16)))
            .min(longest)
            .mul_f64(1.0 - 0.3 * (self.draw)().clamp(0.0, 1.0))
    }

    fn rests(&self) -> bool {
        let until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    /// None if the claims are away.
    async fn in_time(&self, call: impl Future<Output = Result<(), Error>>) -> Option<Result<(), Error>> {
        let error = match timeout(PATIENCE, call).await {
            Ok(Err(Error::Unavailable(error))) => error,
            Ok(answer) => return Some(answer),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(
            error,
            "calls with one idempotency key that come to several nodes at once are not told apart for {} s",
            REST.as_secs()
        );
        let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + REST);
        None
    }
}

impl Claim<'_> {
    async fn acquire(&self) -> Option<Result<(), Error>> {
        self.claims.in_time(self.locks.acquire(&self.name, &self.owner, TTL)).await
    }

    /// Keeps the claim while the call runs.
    pub(super) async fn during<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            answer = call => answer,
            never = self.keep() => match never {},
        }
    }

    async fn keep(&self) -> std::convert::Infallible {
        loop {
            sleep(RENEW).await;
            if self.claims.rests() {
                continue;
            }
            let renewed = self.claims.in_time(self.locks.renew(&self.name, &self.owner, TTL)).await;
            // If nobody else holds it, it was forgotten by whoever keeps claims. Else that one calls, too.
            if matches!(renewed, Some(Err(Error::Lost)))
                && !matches!(self.acquire().await, Some(Ok(())) | None)
            {
                tracing::warn!(
                    claim = self.name,
                    "another node makes the call with the same idempotency key, as this one was silent for too long"
                );
                return std::future::pending().await;
            }
        }
    }

    /// Gives it back: the call has failed, and another may be made.
    pub(super) async fn release(self) {
        if !self.claims.rests() {
            self.claims.in_time(self.locks.release(&self.name, &self.owner)).await;
        }
    }
}
