//! The Alert actor.
