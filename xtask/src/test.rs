//! `cargo xtask test`: every test a machine can run.
//!
//! The servers are found on the machine or unpacked from Debian's packages, started once on free ports for
//! all tests, and gone afterwards. What a machine cannot run is named at the end as **not run**; with `--all`
//! that is a failure.

use crate::{shell, workspace};
use anyhow::{Context as _, Result, bail};
use callboard_services::{Postgres, Programs, RabbitMq, Redis, shared, target_folder};
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

/// The servers of one run.
struct Servers {
    postgres: Postgres,
    rabbitmq: RabbitMq,
    redis: Redis,
}

impl Servers {
    fn start() -> Result<Self, callboard_services::Error> {
        let programs = Programs::find(&target_folder())?;
        Ok(Self {
            postgres: Postgres::start(&programs)?,
            rabbitmq: RabbitMq::start(&programs)?,
            redis: Redis::start(&programs, &std::env::temp_dir())?,
        })
    }
}

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
    let mut test = shell::cargo(&root, ["test", "--workspace"]);
    match &servers {
        Ok(servers) => {
            test.env(shared::POSTGRES_URL, servers.postgres.url("postgres"));
            test.env(shared::RABBITMQ_URL, servers.rabbitmq.url());
            test.env(shared::REDIS_URL, servers.redis.url(0));
        }
        Err(error) => {
            shell::complain(&format!("{error}"));
            for name in WITH_SERVERS {
                test.args(["--exclude", name]);
                not_run.push(format!("the tests of {name}: they need PostgreSQL, RabbitMQ and Redis"));
            }
        }
    }
    test.args(&args);
    let tested = shell::run(test).context("the tests");
    times.push(("tests", began.elapsed()));
    drop(servers);
    shell::say(&summary(&times, &not_run));
    tested?;
    if all && !not_run.is_empty() {
        bail!("--all was asked for, and some tests were not run");
    }
    Ok(())
}

/// How long each step took, and what was not run.
fn summary(times: &[(&str, Duration)], not_run: &[String]) -> String {
    let mut lines: Vec<String> = times
        .iter()
        .map(|(step, span)| format!("{step:<10} {:>5.1} min", span.as_secs_f64() / 60.0))
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
    fn what_was_not_run_is_named() {
        let text = summary(&[("tests", Duration::from_secs(90))], &["the moon: it is far".into()]);
        assert_eq!(text, "tests        1.5 min\nnot run: the moon: it is far");
    }
}
