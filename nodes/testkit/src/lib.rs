//! For tests: a fake provider exact on the wire, a collector of spans, real processes, free ports and a clock.
//!
//! Everything here is real from the outside: the fake provider is an HTTP server on a port of its own, a
//! [`Process`] is a process. Nothing waits by sleeping: what can be waited for has a deadline.
//!
//! It knows the ports and the domain's types, and no actor, no backend.

mod clock;
pub mod collector;
pub mod fake_provider;
pub mod ports;
pub mod process;

pub use callboard_services as services;
pub use clock::ManualClock;
pub use collector::Collector;
pub use fake_provider::FakeProvider;
pub use process::Process;
