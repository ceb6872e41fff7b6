//! `cargo xtask test`: every test a machine can run.
//!
//! The servers are found on the machine, unpacked from Debian's packages or run in containers, started once on
//! free ports for all tests, and gone afterwards. What a machine cannot run is named at the end as **not run**;
//! with `--all` that is a failure.

use crate::servers::Servers;
use crate::{faults, planted, shell, workspace};
use anyhow::{Context as _, Result, bail};
use callboard_services::Programs;
use std::time::{Duration, Instant};

/// Something that must be on the machine before anything can be built.
struct Need {
    /// What it is, for a person.
    name: &'static str,
    /// What it is for.
    purpose: &'static str,
    /// Whether it is there.
    present: fn() -> bool,
    /// What to do if it is not.
    advice: &'static str,
}

const NEEDS: &[Need] = &[Need {
    name: "a C compiler (`cc`)",
    purpose: "SQLite and the TLS library are built from C",
    present: c_compiler,
    advice: "Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc; macOS: xcode-select --install",
}];

/// The crates whose tests need the servers.
const WITH_SERVERS: [&str; 3] = ["callboard-backends", "callboard", "callboard-services"];

/// Something that is run after `cargo test`, with `--all`: it takes minutes.
struct Step {
    /// What it is, for a person.
    name: &'static str,
    /// Why it cannot be run here, if so. The servers' programs are none if they cannot be had.
    possible: fn(Option<&Programs>) -> Result<(), String>,
    run: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "planted bugs", possible: servers_there, run: || planted::run(&[]) },
    Step {
        name: "the fault run",
        possible: fault_run_possible,
        // The same each time, so that a change is judged and not the seed. `cargo xtask faults` draws a new one.
        run: || faults::run(&["--short".to_owned(), "--seed".to_owned(), "1".to_owned()]),
    },
];

/// Checks what the tests need, starts the servers, then runs `cargo test --workspace`. `--all` is taken, the
/// other `args` go to `cargo test`.
///
/// # Errors
/// Names everything that is missing; or that a test failed; or, with `--all`, what could not be run.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let missing = missing(NEEDS);
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    let all = args.iter().any(|arg| arg == "--all");
    let args: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--all").collect();
    let root = workspace::root()?;
    let mut times = Vec::new();
    let mut not_run = Vec::new();
    let began = Instant::now();
    let servers = Servers::start();
    times.push(("servers", began.elapsed()));
    let began = Instant::now();
    // One run tells all that fails, not only the first program that does.
    let mut test = shell::cargo(&root, ["test", "--workspace", "--no-fail-fast"]);
    match &servers {
        Ok(servers) => servers.tell(&mut test),
        Err(error) => {
            shell::complain(&format!("{error}"));
            for name in WITH_SERVERS {
                test.args(["--exclude", name]);
                not_run.push(format!("the tests of {name}: they need PostgreSQL, RabbitMQ and Redis"));
            }
        }
    }
    test.args(&args);
    let mut outcome = shell::run(test).context("the tests");
    times.push(("tests", began.elapsed()));
    let programs = servers.as_ref().ok().map(|servers| servers.programs.clone());
    drop(servers);
    for step in STEPS {
        match (step.possible)(programs.as_ref()) {
            Err(why) => not_run.push(format!("{}: {why}", step.name)),
            // A failed test is looked at first.
            Ok(()) if all && outcome.is_ok() => {
                let began = Instant::now();
                outcome = (step.run)().context(step.name);
                times.push((step.name, began.elapsed()));
            }
            Ok(()) => {}
        }
    }
    shell::say(&summary(&times, &not_run));
    outcome?;
    verdict(all, &not_run)
}

/// With `--all`, what was not run is a failure.
fn verdict(all: bool, not_run: &[String]) -> Result<()> {
    if all && !not_run.is_empty() {
        bail!("--all was asked for, and some tests were not run");
    }
    Ok(())
}

/// The planted bugs are tried on real servers.
fn servers_there(programs: Option<&Programs>) -> Result<(), String> {
    programs.map(|_| ()).ok_or_else(|| "it needs PostgreSQL, RabbitMQ and Redis".into())
}

/// The fault run has network namespaces of its own, with the servers in them.
fn fault_run_possible(programs: Option<&Programs>) -> Result<(), String> {
    let Some(programs) = programs else {
        return Err("it needs PostgreSQL, RabbitMQ and Redis".into());
    };
    faults::possible()?;
    match programs.in_containers().as_slice() {
        [] => Ok(()),
        some => Err(format!("in containers, and so out of its network, would be {}", some.join(", "))),
    }
}

/// How long each step took, and what was not run.
fn summary(times: &[(&str, Duration)], not_run: &[String]) -> String {
    let mut lines: Vec<String> = times
        .iter()
        .map(|(step, span)| format!("{step:<13} {:>5.1} min", span.as_secs_f64() / 60.0))
        .collect();
    lines.extend(not_run.iter().map(|what| format!("not run: {what}")));
    lines.join("\n")
}

fn missing(needs: &[Need]) -> Vec<String> {
    needs
        .iter()
        .filter(|need| !(need.present)())
        .map(|need| format!("{} is missing: {}\n  {}", need.name, need.purpose, need.advice))
        .collect()
}

/// The compiler that build scripts use: `CC` if it is set, else `cc`.
fn c_compiler() -> bool {
    match std::env::var("CC") {
        Ok(cc) if !cc.trim().is_empty() => cc.split_whitespace().next().is_some_and(shell::exists),
        _ => shell::exists("cc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_with_the_way_to_get_it() {
        let need = |name, present| Need { name, purpose: "for this test", present, advice: "install it" };
        let missing = missing(&[need("one", || false), need("two", || true), need("three", || false)]);
        assert_eq!(
            missing,
            ["one is missing: for this test\n  install it", "three is missing: for this test\n  install it"]
        );
    }

    #[test]
    fn what_was_not_run_is_a_failure_only_if_all_was_asked_for() {
        let not_run = ["the moon: it is far".to_owned()];
        assert!(verdict(false, &not_run).is_ok());
        assert!(verdict(true, &[]).is_ok());
        assert!(verdict(true, &not_run).is_err());
    }

    #[test]
    fn without_servers_no_step_is_possible() {
        for step in STEPS {
            assert_eq!((step.possible)(None), Err("it needs PostgreSQL, RabbitMQ and Redis".into()));
        }
    }

    #[test]
    fn what_was_not_run_is_named() {
        let text = summary(&[("tests", Duration::from_secs(90))], &["the moon: it is far".into()]);
        assert_eq!(text, "tests           1.5 min\nnot run: the moon: it is far");
    }
}
