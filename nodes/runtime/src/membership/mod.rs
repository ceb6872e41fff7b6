//! Who is alive: the decisions, as pure state machines. Time is passed in; nothing here waits or calls.
//!
//! - [`Lease`]: how a node's own renewals go, whether it may claim, and when it is cut off;
//! - [`Silence`]: which other sessions have not been renewed for a whole timeout, as seen from here;
//! - [`judge`]: what the answer of a suspected node's address proves;
//! - [`Refusals`]: how many sessions may be ended because a connection was refused;
//! - [`Wedge`]: whether this process still works behind renewals that go on.
//!
//! Invariants: an outage of the store or a pause of this process is never taken for the silence of others;
//! time-outs and unreachable networks prove nothing; whatever is decided wrongly here, the store's fence keeps
//! results right, and only work is repeated.
//!
//! All spans follow from the session timeout ([`Timing::of`]), so that a cluster with a short one behaves as
//! one with a long one does, only faster.

mod lease;
mod proof;
mod refusals;
mod silence;
mod wedge;

pub use lease::Lease;
pub use proof::{Probe, Suspect, Verdict, judge};
pub use refusals::Refusals;
pub use silence::Silence;
pub use wedge::{Fault, Wedge, WorkSeen};

use callboard_domain::SessionId;
use std::time::Duration;

/// How a node stands, as those see it who take work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The session it holds tasks under. `None`: it has none, and nothing may be claimed.
    pub session: Option<SessionId>,
    /// Whether it may claim now: it has a session, and its last renewal succeeded.
    pub may_claim: bool,
    /// Whether it knows that the store answers others and not it: its handlers were cancelled.
    pub cut_off: bool,
}

/// The spans of membership, all in proportion to the session timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a node may be silent before its session may be ended.
    pub timeout: Duration,
    /// How often a session is renewed, and how often others are looked at. At most a second.
    pub period: Duration,
    /// How long one renewal may take.
    pub deadline: Duration,
    /// A longer gap between a loop's own steps is a pause of this process: what it saw before is void.
    pub pause: Duration,
    /// A counter that stood still for so long makes its session suspected.
    pub quiet: Duration,
    /// For so long the last renewal says that the store can be reached.
    pub fresh: Duration,
    /// How long after its last renewal a node that is cut off cancels its handlers: 80% of the timeout.
    pub cancel_at: Duration,
}

impl Timing {
    /// The spans for a session timeout. With 5 s: a renewal each second, 2 s for one, cancelled at 4 s.
    #[must_use]
    pub fn of(timeout: Duration) -> Self {
        let period = (timeout / 5).min(Duration::from_secs(1));
        Self {
            timeout,
            period,
            deadline: timeout * 2 / 5,
            pause: period * 2,
            quiet: period * 3 / 2,
            fresh: period * 3 / 2,
            cancel_at: timeout * 4 / 5,
        }
    }
}

impl Default for Timing {
    /// For the default session timeout of 5 s.
    fn default() -> Self {
        Self::of(Duration::from_secs(5))
    }
}
