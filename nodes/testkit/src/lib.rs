//! For tests: a fake provider exact on the wire, real processes, a clock.
