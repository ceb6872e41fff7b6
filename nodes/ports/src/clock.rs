//! The wall clock, passed in so that tests can move it. Spans are measured on tokio's clock instead.

use callboard_domain::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The present, in UTC. It may step; nothing measures a span with it.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }
}
