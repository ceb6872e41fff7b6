//! Each scenario, explored to its end.

use callboard_model::{Budget, HandOff, Scenario, State, explore_rounds};
use stateright::{Checker, Model};
use std::collections::HashSet;

/// Without a limit of depth, states or time: what is not visited cannot be reached.
fn holds(scenario: Scenario) {
    let model = HandOff { scenario, bug: None };
    let alike = model.alike();
    let explored = model.checker().symmetry_fn(alike).spawn_dfs().join();
    let (states, depth) = (explored.unique_state_count(), explored.max_depth());
    eprintln!("{}: {states} states, up to {depth} steps", scenario.name);
    explored.assert_properties();
}

#[test]
fn holds_while_confirms_are_late_and_messages_come_again() {
    holds(Scenario::PUBLISHING);
}

#[test]
fn holds_while_claims_and_ends_are_cut_off() {
    holds(Scenario::CLAIMING);
}

#[test]
fn holds_while_processes_die_and_sessions_are_ended() {
    holds(Scenario::RECOVERING);
}

#[test]
fn holds_while_a_session_is_ended_with_claims_in_doubt() {
    holds(Scenario::DOUBTING);
}

#[test]
fn holds_while_a_session_is_ended_and_confirms_are_late() {
    holds(Scenario::OVERTAKING);
}

#[test]
fn holds_while_tasks_are_cancelled() {
    holds(Scenario::CANCELLING);
}

#[test]
fn holds_while_tasks_are_taken_as_they_are_admitted() {
    holds(Scenario::TAKING);
}

#[test]
fn holds_while_the_broker_loses_its_queue() {
    holds(Scenario::REPAIRING);
}

#[test]
fn holds_while_the_repair_does_not_wait() {
    holds(Scenario::HASTY);
}

#[test]
fn holds_while_the_broker_loses_its_queue_and_confirms_are_on_their_way() {
    holds(Scenario::LOSING);
}

#[test]
fn holds_while_attempts_fail_and_sessions_are_ended() {
    holds(Scenario::RETRYING);
}

#[test]
fn holds_while_everything_happens_to_one_task() {
    holds(Scenario::EVERYTHING);
}

#[test]
fn duties_never_go_round_for_ever() {
    for scenario in
        [Scenario::CLAIMING, Scenario::TAKING, Scenario::RETRYING, Scenario::CANCELLING, Scenario::HASTY]
    {
        match explore_rounds(HandOff { scenario, bug: None }) {
            Ok(states) => eprintln!("{}: {states} states", scenario.name),
            Err(state) => panic!("{}: duties lead back to {state:#?}", scenario.name),
        }
    }
}

/// Else states would be left out that nothing visited stands for.
#[test]
fn what_follows_from_states_that_are_alike_is_alike() {
    let budget = Budget { cuts: 1, accusations: 1, ..Budget::default() };
    let scenario = Scenario { tasks: 1, prompt: false, budget, ..Scenario::HASTY };
    let model = HandOff { scenario, bug: None };
    let alike = model.alike();
    let after = |state: &State| -> HashSet<State> { model.next_states(state).iter().map(alike).collect() };
    let (mut reached, mut todo) = (HashSet::new(), model.init_states());
    while let Some(state) = todo.pop() {
        assert_eq!(after(&state), after(&alike(&state)), "{state:#?}");
        for next in model.next_states(&state) {
            if reached.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
    let stand: HashSet<State> = reached.iter().map(alike).collect();
    eprintln!("{} states, {} of them not alike", reached.len(), stand.len());
    assert!(stand.len() < reached.len() / 2);
}
