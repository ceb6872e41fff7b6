//! By what a provider recognises a call that comes again, where its caller gave it no key.

use std::fmt;

/// How many bits of a random fraction are taken.
const BITS: u32 = 52;

/// A key for one call at one key of one provider: the same each time it is sent there, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallKey {
    random: [u64; 2],
    provider: usize,
    key: usize,
}

impl CallKey {
    /// A key for a call, not yet anywhere.
    pub(crate) fn draw(random: &dyn Fn() -> f64) -> Self {
        let draw = || (random() * (1_u64 << BITS) as f64) as u64;
        Self { random: [draw(), draw()], provider: 0, key: 0 }
    }

    /// The one for a key of a provider, by their places.
    pub(crate) const fn at(self, provider: usize, key: usize) -> Self {
        Self { provider, key, ..self }
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { random: [high, low], provider, key } = self;
        write!(f, "callboard-{high:013x}{low:013x}-{provider}-{key}")
    }
}
