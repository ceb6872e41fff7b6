//! The Supervisor actor.
