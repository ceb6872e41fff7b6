//! The fault run: three replicas as real processes in network namespaces of their own, real servers, a client
//! that writes down what was acknowledged, a sink outside the product that writes down what was done, and
//! faults that hit their window by construction. `cargo xtask faults` starts it.
//!
//! Without arguments it does nothing: it needs root and minutes, so `cargo test` passes it by, and says so.

#![expect(clippy::print_stdout, reason = "its output is for a person")]

mod limit;
mod load;
mod node;
mod oracle;
mod plan;
mod proxy;
mod report;
mod run;
mod sandbox;
mod servers;
mod sink;

use anyhow::{Context as _, Result, bail};
use plan::Counts;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What `run` understands.
const OPTIONS: &str = "\
  --seed N      draw the faults from this number; without it, from a new one
  --short       2,000 tasks and one or a few of each fault
  --tasks N     at least so many tasks
  --only NAMES  only these faults: kill, pause, partition, rabbitmq, redis, postgres, commit, everyone
  --keep DIR    write what each node said last into this folder; what it says is set by FAULTS_LOG, as RUST_LOG";

/// Set in the process that lives in the private namespace.
const INSIDE: &str = "FAULTS_INSIDE";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match start(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &[String]) -> Result<ExitCode> {
    match args.first().map(String::as_str) {
        Some("node") => node::main(Path::new(args.get(1).context("no configuration")?)),
        Some("run") => {
            if std::env::var_os(INSIDE).is_none() {
                return inside(args);
            }
            play(&args[1..])
        }
        _ => {
            println!("not run: the fault run; `cargo xtask faults` runs it");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs this again in a network namespace of its own, whose routing may be changed.
fn inside(args: &[String]) -> Result<ExitCode> {
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe()?)
        .args(args)
        .env(INSIDE, "1")
        .status()
        .context("cannot run `unshare` (Debian: util-linux)")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

fn play(args: &[String]) -> Result<ExitCode> {
    let (mut seed, mut counts, mut only, mut keep) = (None, Counts::LONG, Vec::new(), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => seed = Some(args.next().context("--seed needs a number")?.parse()?),
            "--short" => counts = Counts::SHORT,
            "--tasks" => counts.tasks = args.next().context("--tasks needs a number")?.parse()?,
            "--only" => only.extend(args.next().context("--only needs names")?.split(',').map(str::to_owned)),
            "--keep" => keep = Some(PathBuf::from(args.next().context("--keep needs a folder")?)),
            other => bail!("`{other}` is no option.\n{OPTIONS}"),
        }
    }
    let seed: u64 = seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("the fault run, seed {seed}, {counts:?}");
    let faults = plan::draw(seed, counts);
    let faults: Vec<_> = faults
        .into_iter()
        .filter(|fault| only.is_empty() || only.iter().any(|n| n == fault.name()))
        .collect();
    if faults.is_empty() {
        bail!("no fault has one of these names: {}\n{OPTIONS}", only.join(", "));
    }
    let folder = tempfile::tempdir()?;
    if let Some(keep) = &keep {
        std::fs::create_dir_all(keep)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run::run(seed, counts, faults, folder.path(), keep.as_deref()))?;
    runtime.shutdown_background();
    println!("{report}");
    let failures = report.failures();
    for failure in &failures {
        println!("FAIL {failure}");
    }
    if failures.is_empty() {
        println!("1 passed, 0 failed");
        return Ok(ExitCode::SUCCESS);
    }
    println!("0 passed, 1 failed; again with: cargo xtask faults --seed {seed}");
    Ok(ExitCode::FAILURE)
}
