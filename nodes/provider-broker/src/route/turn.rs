//! Which key of a provider a call goes over.

use super::failures::Obstacle;
use super::{Candidate, Router, Switched};
use crate::breaker::{Permit, Refusal};
use crate::keys::{InFlight, Keys};
use callboard_domain::llm::{Error, ErrorKind};
use tokio::time::Instant;

/// What a call has tried at one provider.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    /// The keys it was sent over.
    pub(super) sent: Keys,
    /// The keys that are left out, as another call over them would fail alike.
    pub(super) out: Keys,
    /// The keys that had another value when they were rejected, and were tried with it.
    pub(super) renewed: Keys,
}

impl Tried {
    /// Whether nothing was tried yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.sent.is_empty() && self.out.is_empty()
    }
}

/// Leave for a call to go over a key.
pub(super) struct Turn {
    /// The key, by its place.
    pub(super) key: usize,
    /// Of the breakers, which wait for what becomes of the call.
    pub(super) permit: Permit,
    /// A place among the calls over the key.
    pub(super) place: InFlight,
}

/// Why a call goes over no key.
pub(super) enum NoTurn {
    /// An admin has switched the provider off since the call was given its way.
    Off,
    /// The provider is left out.
    Provider(Refusal),
    /// Each of its keys has an [`Obstacle`], or is left out.
    Keys,
}

impl Router {
    /// Picks the key for the next attempt at a candidate, of those that are not left out and would take the call.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn turn(&self, candidate: &Candidate, tokens: u32, tried: &Tried) -> Result<Turn, NoTurn> {
        if self.switches.is_off(candidate.index) {
            return Err(NoTurn::Off);
        }
        let (now, ring) = (Instant::now(), &self.rings[candidate.index]);
        if let Some(refusal) = self.breakers.refusal(candidate.index, &candidate.model, now) {
            return Err(NoTurn::Provider(refusal));
        }
        let mut among = Keys::default();
        for key in (0..candidate.keys).filter(|key| !tried.out.has(*key)) {
            if self.obstacle(candidate, key, tokens, now).is_none() {
                among.add(key);
            }
        }
        while let Some(key) = ring.pick(among) {
            let place = ring.key(key).enter();
            let admit = || self.breakers.admit(candidate.index, key, &candidate.model).ok();
            match place.and_then(|place| Some((admit()?, place))) {
                // Looked at again once the call is counted in flight: who drains waits for it, or it does not go.
                Some(_) if self.switches.is_off(candidate.index) => return Err(NoTurn::Off),
                Some((permit, place)) => return Ok(Turn { key, permit, place }),
                // Others pick at the same time.
                None => among.remove(key),
            }
        }
        let refusal = self.breakers.refusal(candidate.index, &candidate.model, Instant::now());
        Err(refusal.map_or(NoTurn::Keys, NoTurn::Provider))
    }

    /// Why a call does not go to a candidate that was switched off since it was given its way.
    pub(super) fn is_off(&self, candidate: &Candidate) -> Error {
        let view = self.switches.view();
        let how = view.off.get(candidate.index).and_then(Option::as_ref);
        let how = how.map_or_else(|| "switched off".to_owned(), Switched::describe);
        Error::new(ErrorKind::Disabled, format!("{} is {how}", candidate.name))
    }

    /// Whether some key of a candidate that is not left out would take a call at that moment, as things are now.
    pub(super) fn is_available(&self, candidate: &Candidate, tokens: u32, out: Keys, at: Instant) -> bool {
        self.breakers.refusal(candidate.index, &candidate.model, at).is_none()
            && (0..candidate.keys)
                .any(|key| !out.has(key) && self.obstacle(candidate, key, tokens, at).is_none())
    }

    /// Whether some key of a candidate that is not left out lacks no more than a place for a call.
    pub(super) fn is_busy(&self, candidate: &Candidate, tokens: u32, out: Keys, at: Instant) -> bool {
        self.breakers.refusal(candidate.index, &candidate.model, at).is_none()
            && (0..candidate.keys)
                .filter(|key| !out.has(*key))
                .any(|key| matches!(self.obstacle(candidate, key, tokens, at), Some(Obstacle::Busy)))
    }

    /// What keeps a call from going over a key, if anything does.
    pub(super) fn obstacle(
        &self,
        candidate: &Candidate,
        key: usize,
        tokens: u32,
        at: Instant,
    ) -> Option<Obstacle> {
        let Candidate { index, model, .. } = candidate;
        let breaker = self.breakers.refusal_of_key(*index, key, model, at).map(Obstacle::Open);
        let key = self.rings[*index].key(key);
        breaker
            .or_else(|| key.spent(model, tokens, at).map(Obstacle::Spent))
            .or_else(|| (!key.has_room()).then_some(Obstacle::Busy))
    }
}
