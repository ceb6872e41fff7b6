//! The testkit itself: what others' tests rest on.

mod fake_provider;
mod process;
