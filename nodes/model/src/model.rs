//! The model as `stateright` wants it.

use crate::action::{Action, candidates};
use crate::properties::always;
use crate::reached::sometimes;
use crate::state::State;
use crate::step::step;
use crate::{Bug, Scenario};
use stateright::{Model, Property};

/// The hand-off in one scenario, as it is or with a bug.
#[derive(Clone, Copy, Debug)]
pub struct HandOff {
    /// What may go wrong.
    pub scenario: Scenario,
    /// What is wrong with the protocol.
    pub bug: Option<Bug>,
}

impl HandOff {
    /// Makes one of all states that are alike: that differ in names only. To be explored with `symmetry_fn`.
    #[must_use]
    pub fn alike(&self) -> fn(&State) -> State {
        let [first, second] = self.scenario.slots;
        if first == second { crate::alike::representative } else { crate::alike::representative_of_unlike }
    }
}

impl Model for HandOff {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.scenario.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        candidates(self, state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        step(self, state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = always();
        properties.extend(sometimes(self));
        properties
    }
}
