//! By what a provider recognises a call that comes again, where its caller gave it no key.

use std::fmt;

/// How many bits of a random fraction are taken.
const BITS: u32 = 52;

/// A key for one call of one model at one key of one provider: the same each time it is sent there, and nowhere else. What
/// goes to another model is another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallKey {
    random: [u64; 2],
    candidate: usize,
    key: usize,
}

impl CallKey {
    /// A key for a call, not yet anywhere.
    pub(crate) fn draw(random: &dyn Fn() -> f64) -> Self {
        let draw = || (random() * (1_u64 << BITS) as f64) as u64;
        Self { random: [draw(), draw()], candidate: 0, key: 0 }
    }

    /// The one for a candidate, by its place among those of the call, and for a key of its provider.
    pub(crate) const fn at(self, candidate: usize, key: usize) -> Self {
        Self { candidate, key, ..self }
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { random: [high, low], candidate, key } = self;
        write!(f, "callboard-{high:013x}{low:013x}-{candidate}-{key}")
    }
}
