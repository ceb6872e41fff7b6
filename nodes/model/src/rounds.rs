//! Whether the protocol can go round for ever.
//!
//! The properties say that nothing is left undone where all is quiet. That is worth something only if all becomes
//! quiet in the end: if no sequence of duties, however long, comes back to where it was.

use crate::HandOff;
use crate::action::Action;
use crate::state::State;
use stateright::Model as _;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// A state, as it is known here.
type Known = u64;

/// A state that is being looked at, and the duties in it that are still to be followed.
struct Open {
    known: Known,
    after: Vec<State>,
}

/// What is known so far.
struct Search {
    model: HandOff,
    alike: fn(&State) -> State,
    /// Whether each state that duties were followed from is done with.
    done: HashMap<Known, bool>,
    reached: HashSet<Known>,
    todo: Vec<State>,
}

/// Explores a scenario and looks for a way round. Answers how many states there are that are not alike.
///
/// # Errors
/// A state to which duties alone lead back.
pub fn explore(model: HandOff) -> Result<usize, Box<State>> {
    let alike = model.alike();
    let mut search = Search { model, alike, done: HashMap::new(), reached: HashSet::new(), todo: Vec::new() };
    for first in model.init_states() {
        search.reach(first);
    }
    while let Some(state) = search.todo.pop() {
        search.follow(&state)?;
        for next in search.next(&state, |_| true) {
            search.reach(next);
        }
    }
    Ok(search.reached.len())
}

impl Search {
    fn know(&self, state: &State) -> Known {
        BuildHasherDefault::<DefaultHasher>::default().hash_one((self.alike)(state))
    }

    fn reach(&mut self, state: State) {
        if self.reached.insert(self.know(&state)) {
            self.todo.push(state);
        }
    }

    fn next(&self, state: &State, which: impl Fn(Action) -> bool) -> Vec<State> {
        let mut actions = Vec::new();
        self.model.actions(state, &mut actions);
        let which = actions.into_iter().filter(|action| which(*action));
        which.filter_map(|action| self.model.next_state(state, action)).collect()
    }

    /// Depth first along duties. One that leads to a state that is still open closes a circle.
    fn follow(&mut self, state: &State) -> Result<(), Box<State>> {
        let mut path = Vec::new();
        self.enter(state, &mut path)?;
        while let Some(open) = path.last_mut() {
            match open.after.pop() {
                Some(next) => self.enter(&next, &mut path)?,
                None => {
                    self.done.insert(open.known, true);
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, state: &State, path: &mut Vec<Open>) -> Result<(), Box<State>> {
        let known = self.know(state);
        match self.done.get(&known) {
            Some(true) => Ok(()),
            Some(false) => Err(Box::new(state.clone())),
            None => {
                self.done.insert(known, false);
                path.push(Open { known, after: self.next(state, |action| !action.is_optional()) });
                Ok(())
            }
        }
    }
}
