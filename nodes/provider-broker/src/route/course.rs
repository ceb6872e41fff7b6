//! What a call has on its way past the candidates: its time, its bill, and what failed.

use super::failures::Failures;
use super::spans::Operation;
use super::{Candidate, Limits};
use crate::accounts::Bill;
use crate::keys::CallKey;
use callboard_domain::llm::{Error, ErrorKind};
use callboard_ports::trace::Span;
use std::time::Duration;
use tokio::time::Instant;

/// The most time that is kept back for a local provider at the end of the line, so that a provider that
/// hangs does not take the call's last resort with it. No call is made again for less, either.
const RESERVE: Duration = Duration::from_secs(1);

/// What a call has left, and what became of it so far.
pub(super) struct Course {
    pub(super) operation: Operation,
    pub(super) limits: Limits,
    pub(super) deadline: Instant,
    /// How many tokens it will take, as far as can be told.
    pub(super) estimate: u32,
    /// Whether each candidate has the model that a route names.
    pub(super) routed: bool,
    /// The call names no model: each candidate has its own.
    pub(super) any_model: bool,
    pub(super) failures: Failures,
    pub(super) pipeline: Span,
    /// Whose call it is.
    pub(super) namespace: String,
    /// By what a provider recognises it, should it come again and have no key of its caller's.
    pub(super) key: CallKey,
    /// Which of its candidates is tried, from 1.
    pub(super) candidate: usize,
    /// The provider that may have billed it without an answer, until it is sent again.
    pub(super) maybe_billed: Option<usize>,
    /// What it is charged; none once it is answered.
    pub(super) bill: Option<Bill>,
}

impl Course {
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether another provider could answer. One that does not have the model, or whose model takes no prompt as long, ends a
    /// call, as the next would answer with another model than was asked for; but a route names other models, and who
    /// names no model is answered by any.
    pub(super) const fn allows_fallback(&self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::ModelNotFound => self.routed || self.any_model,
            ErrorKind::ContextTooLong => self.routed,
            kind => kind.allows_fallback(),
        }
    }

    /// An attempt failed. `unreached`: it is certain that the provider got nothing of it.
    ///
    /// What breaks off or takes too long may have been worked on, and is billed then; a provider that says that it failed does
    /// not bill.
    pub(super) fn failed(&mut self, candidate: &Candidate, kind: ErrorKind, unreached: bool) {
        let lost = matches!(kind, ErrorKind::Timeout | ErrorKind::Connection) && !unreached;
        self.maybe_billed = (lost && !candidate.local()).then_some(candidate.index);
    }

    /// An attempt at a candidate begins.
    pub(super) fn charge(&mut self, candidate: &Candidate) -> Result<(), Error> {
        let begin = |bill: &mut Bill| bill.begin(candidate.index, &candidate.model, candidate.local());
        self.bill.as_mut().map_or(Ok(()), begin)
    }

    /// It does not, after all.
    pub(super) fn uncharge(&mut self) {
        self.bill.as_mut().into_iter().for_each(Bill::undo);
    }

    /// The time that is kept back; a tenth of what the call has at most.
    pub(super) fn reserve(&self) -> Duration {
        RESERVE.min(self.limits.total / 10)
    }
}
