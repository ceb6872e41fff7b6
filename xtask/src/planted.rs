//! `cargo xtask planted`: deliberate bugs, each of which a test must find.
//!
//! The bugs are those of `callboard_ports::planted`. The tests are built once with them. With each bug in effect its
//! test must run and fail; with none, all of these tests must pass.

use crate::servers::Servers;
use crate::{shell, workspace};
use anyhow::{Result, bail};
use std::process::Command;

/// The variable that puts a bug into effect.
const VARIABLE: &str = "CALLBOARD_PLANTED_BUG";

/// The tests of the crates that have bugs, with the bugs.
const TESTS: &[&str] = &[
    "test",
    "--workspace",
    "--features",
    "callboard-backends/planted-bugs,callboard-worker/planted-bugs",
    "--test",
    "planted",
];

/// A bug, and the test that finds it.
const BUGS: &[(&str, &str)] = &[
    (
        "ack-before-claim-commits",
        "it::take::a_delivery_is_acknowledged_once_its_claim_has_committed_and_not_before",
    ),
    ("no-fence-on-finish", "it::postgres_store::contract::a_lost_attempt_cannot_overwrite_a_newer_one"),
    ("publish-before-commit", "it::postgres_store::contract::what_is_told_is_committed"),
    ("blind-lock-delete", "it::redis::locks::only_the_owner_releases"),
    ("returned-taken-as-confirmed", "it::rabbitmq::contract::what_is_answered_for_is_in_a_queue"),
    (
        "session-ended-in-one-statement",
        "it::postgres_store::contract::the_end_of_a_session_finds_a_claim_under_way",
    ),
    ("return-reuses-handoff", "it::postgres_store::outbox::a_late_confirm_spares_what_a_claim_gave_back"),
    ("claim-skips-locked", "it::postgres_store::contract::a_claim_waits_for_a_row_that_is_locked"),
];

/// Builds the tests, starts the servers and tries each bug. It takes no arguments.
///
/// # Errors
/// A test fails without a bug, or a bug is not found.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("usage: cargo xtask planted");
    }
    let root = workspace::root()?;
    shell::run(shell::cargo(&root, TESTS.iter().copied().chain(["--no-run"])))?;
    let servers = Servers::start()?;
    let tests = |names: &[&str]| {
        let mut test = shell::cargo(&root, TESTS.iter().chain(&["--no-fail-fast", "--", "--exact"]).copied());
        test.args(names).env_remove(VARIABLE);
        servers.tell(&mut test);
        test
    };
    let mut missed = 0;
    for (bug, name) in BUGS {
        let mut test = tests(&[name]);
        test.env(VARIABLE, bug);
        let said = output(test)?;
        let line = verdict(bug, name, told(&said, name));
        if line.is_err() {
            missed += 1;
        }
        shell::say(&line.unwrap_or_else(|missed| missed));
    }
    // Last, so that what broke on the way is not taken for a catch.
    let names: Vec<&str> = BUGS.iter().map(|(_, test)| *test).collect();
    let said = output(tests(&names))?;
    for name in names {
        if told(&said, name) != Some(Told::Passed) {
            bail!("without any bug planted, {name} does not pass:\n{said}");
        }
    }
    shell::say(&format!(
        "{} caught, {missed} missed; without a bug the same tests pass",
        BUGS.len() - missed
    ));
    if missed > 0 {
        bail!("a planted bug is not found by its test");
    }
    Ok(())
}

/// What a command prints, however it ends.
fn output(mut command: Command) -> Result<String> {
    let output = command.output()?;
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    Ok(out + &err)
}

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Passed,
    Failed,
}

/// What the test harness says of one test. None if it was not run.
fn told(said: &str, name: &str) -> Option<Told> {
    let verdict =
        said.lines().find_map(|line| line.strip_prefix("test ")?.strip_prefix(name)?.strip_prefix(" ... "));
    match verdict?.trim_end() {
        "ok" => Some(Told::Passed),
        "FAILED" => Some(Told::Failed),
        _ => None,
    }
}

/// The line about a bug: an error if it was not found.
fn verdict(bug: &str, name: &str, told: Option<Told>) -> Result<String, String> {
    match told {
        Some(Told::Failed) => Ok(format!("caught  {bug:<31} by {name}")),
        Some(Told::Passed) => Err(format!("MISSED  {bug:<31} by {name}: it passes")),
        None => Err(format!("MISSED  {bug:<31} by {name}: it was not run")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_caught_only_by_a_test_that_ran_and_failed() {
        let said = "running 2 tests\ntest a::b ... ok\ntest a::b_c ... FAILED\n\nfailures:\n    a::b_c\n";
        assert_eq!(told(said, "a::b"), Some(Told::Passed));
        assert_eq!(told(said, "a::b_c"), Some(Told::Failed));
        assert_eq!(told(said, "a"), None);
        assert_eq!(told("error: could not compile `a`", "a::b"), None);
        assert!(verdict("bug", "a::b_c", Some(Told::Failed)).is_ok());
        assert!(verdict("bug", "a::b", Some(Told::Passed)).is_err());
        assert!(verdict("bug", "a::b", None).is_err());
    }

    #[test]
    fn every_bug_of_the_ports_has_a_test() {
        let source = include_str!("../../nodes/ports/src/planted.rs");
        let quoted = source.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","));
        assert_eq!(quoted.collect::<Vec<_>>(), BUGS.iter().map(|(bug, _)| *bug).collect::<Vec<_>>());
    }
}
