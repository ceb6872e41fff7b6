//! Each bug that the model can express is found, by the property that it breaks.

use callboard_model::{
    Bug, HandOff, NO_ORPHAN, NONE_NEEDLESS, NONE_STALE, NONE_STRANDED, ON_ITS_WAY, ONE_RESULT, Scenario,
    explore_rounds,
};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeSet;

/// A short way to break a property.
fn breaks(bug: Bug, scenario: Scenario, property: &'static str) {
    let model = HandOff { scenario, bug: Some(bug) };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let explored = model.checker().finish_when(found).spawn_bfs().join();
    let states = explored.unique_state_count();
    let steps = explored.discovery(property).map(|path| path.into_actions()).unwrap_or_default();
    assert!(!steps.is_empty(), "{bug:?} does not break {property:?} in {states} states");
    eprintln!("{bug:?}, {property:?}: {} steps, {states} states: {steps:?}", steps.len());
}

#[test]
fn an_ack_before_the_claim_commits_is_found() {
    breaks(Bug::AckBeforeCommit, Scenario::CLAIMING, NONE_STRANDED);
    breaks(Bug::AckBeforeCommit, Scenario::CLAIMING, ON_ITS_WAY);
    // Where repair puts it right, by that.
    breaks(Bug::AckBeforeCommit, Scenario::REPAIRING, NONE_NEEDLESS);
}

#[test]
fn a_finish_without_a_fence_is_found() {
    breaks(Bug::NoFence, Scenario::RECOVERING, NONE_STALE);
    breaks(Bug::NoFence, Scenario::RECOVERING, ONE_RESULT);
}

#[test]
fn a_publish_before_the_commit_is_found() {
    breaks(Bug::PublishBeforeCommit, Scenario::PUBLISHING, NONE_STRANDED);
}

#[test]
fn a_returned_message_taken_as_confirmed_is_found() {
    breaks(Bug::ReturnedIsConfirmed, Scenario::REPAIRING, NONE_NEEDLESS);
    breaks(Bug::ReturnedIsConfirmed, Scenario { repair: false, ..Scenario::REPAIRING }, ON_ITS_WAY);
}

#[test]
fn a_session_ended_in_one_statement_is_found() {
    breaks(Bug::EndInOneStatement, Scenario::RECOVERING, NONE_STRANDED);
    breaks(Bug::EndInOneStatement, Scenario::RECOVERING, NO_ORPHAN);
}

#[test]
fn a_partial_return_that_keeps_its_number_is_found() {
    breaks(Bug::ReturnKeepsNumber, Scenario::PUBLISHING, NONE_STRANDED);
}

#[test]
fn a_claim_that_skips_locked_rows_is_found() {
    breaks(Bug::SkipLocked, Scenario::CLAIMING, NONE_STRANDED);
    breaks(Bug::SkipLocked, Scenario::REPAIRING, NONE_NEEDLESS);
}

#[test]
fn a_task_taken_under_a_session_that_is_over_is_found() {
    breaks(Bug::TakeUnderAnySession, Scenario::TAKING, NONE_STRANDED);
    breaks(Bug::TakeUnderAnySession, Scenario::TAKING, NO_ORPHAN);
}

#[test]
fn a_full_node_that_takes_and_gives_back_goes_round_for_ever() {
    let bug = Some(Bug::TakeWithoutRoom);
    assert!(explore_rounds(HandOff { scenario: Scenario::CANCELLING, bug }).is_err());
}
