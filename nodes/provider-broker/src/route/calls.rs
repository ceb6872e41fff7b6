//! Ids for the tools that a model calls, where its provider gives none: results are known by them.

use crate::broker::Jitter;
use callboard_domain::llm::{ToolCall, ToolCallDelta};

/// The ids of one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallIds(u64);

impl CallIds {
    pub(super) fn draw(random: &Jitter) -> Self {
        // As many bits as a fraction has.
        Self((random() * (1_u64 << 52) as f64) as u64)
    }

    fn id(self, index: u32) -> String {
        format!("call_{:013x}{index}", self.0)
    }

    /// Gives each call an id that has none.
    pub(super) fn name(self, calls: &mut [ToolCall]) {
        for (index, call) in (0..).zip(calls).filter(|(_, call)| call.id.is_empty()) {
            call.id = self.id(index);
        }
    }

    /// Gives a call an id, on its first piece, if it has none.
    pub(super) fn name_piece(self, piece: &mut ToolCallDelta) {
        if !piece.name.is_empty() && piece.id.is_empty() {
            piece.id = self.id(piece.index);
        }
    }
}
