//! The Worker actor.
