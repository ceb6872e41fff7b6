//! `cargo xtask jaeger`: is a task one trace in a real Jaeger, whichever replicas it meets?
//!
//! It starts Jaeger, PostgreSQL, RabbitMQ, Redis and three replicas: `a` takes calls, `b` and `c` run tasks, `c` alone
//! asks models. It runs campaigns, kills `b` with SIGKILL under one of them, and asks Jaeger's query API for what
//! became of each. Everything it started ends with it, however it ends: see `replicas::guard`.

mod check;
mod server;
mod tasks;
mod trace;
mod verdict;

#[cfg(test)]
mod tests;

use crate::replicas::guard::Guard;
use crate::replicas::{Cluster, NAMES, Plan};
use crate::{shell, workspace};
use anyhow::{Context as _, Result, bail};
use callboard_services::target_folder;
use check::Submitted;
use server::{Jaeger, Program};
use std::fs;
use std::path::{Path, PathBuf};
use tasks::{Cli, Task};
use verdict::{Line, Traced};

const USAGE: &str = "\
usage: cargo xtask jaeger [--keep] [--no-build]

Runs campaigns on three replicas, kills one of these with kill -9 on the way, and checks in a real Jaeger that every
task is one trace. Jaeger is built with Go under target/jaeger, once; where there is no Go, it is taken from
docker-compose.yml. Exit code 1 if anything is missing from a trace: the verdict names it.

  --keep       leave Jaeger and the replicas up until Ctrl-C, and print where they are
  --no-build   take the release build of callboard as it is";

/// The replicas by what they are for: their roles, beside taking calls, which all do.
const ROLES: [&[&str]; NAMES.len()] =
    [&["supervisor", "alert"], &["supervisor", "worker"], &["supervisor", "worker", "provider-broker"]];
/// The replica that is killed: its tasks can be run by the other one that runs tasks.
const VICTIM: usize = 1;
/// Campaigns that are submitted one by one, and in one call.
const ALONE: usize = 6;
const IN_BATCH: usize = 3;
/// How often it is tried to kill a replica while a task runs on it: a task may be faster.
const TRIES: usize = 5;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    keep: bool,
    no_build: bool,
}

impl Asked {
    /// None if it is how the command is used.
    fn parse(args: &[String]) -> Result<Option<Self>> {
        let mut asked = Self::default();
        for arg in args {
            match arg.as_str() {
                "--keep" => asked.keep = true,
                "--no-build" => asked.no_build = true,
                "--help" | "-h" | "help" => return Ok(None),
                other => bail!("there is no option `{other}`\n{USAGE}"),
            }
        }
        Ok(Some(asked))
    }
}

/// Runs the campaigns and checks their traces.
///
/// # Errors
/// It cannot be run here, or something is missing from a trace.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let Some(asked) = Asked::parse(args)? else {
        shell::say(USAGE);
        return Ok(());
    };
    let root = workspace::root()?;
    let target = target_folder().parent().context("there is no target folder")?.to_owned();
    let home = target.join("jaeger");
    fs::create_dir_all(&home).with_context(|| format!("cannot write {}", home.display()))?;
    let program = Program::find(&home)?;
    if !asked.no_build {
        shell::run(shell::cargo(&root, ["build", "--release", "--package", "callboard"]))?;
    }
    let run = Run { root, home, binary: target.join("release/callboard") };
    let failed = run.carry_out(&program, asked.keep)?;
    if failed > 0 {
        bail!(
            "{failed} of the above do not hold; what Jaeger and the replicas said is in {}",
            run.home.display()
        );
    }
    Ok(())
}

/// One run and where it happens.
struct Run {
    root: PathBuf,
    /// Where Jaeger is, and where logs go.
    home: PathBuf,
    binary: PathBuf,
}

impl Run {
    /// Starts everything, runs the campaigns, prints trees and the verdict. Returns how many of its lines do not hold.
    fn carry_out(&self, program: &Program, keep: bool) -> Result<usize> {
        let data = std::env::temp_dir().join(format!("callboard-jaeger-{}", std::process::id()));
        let guard = Guard::start(Some(&data))?;
        fs::create_dir_all(&data).with_context(|| format!("cannot write {}", data.display()))?;
        shell::complain(&format!("starting {}", program.shown()));
        let jaeger = program.start(&guard, &self.root, &self.home.join("jaeger.log"))?;
        shell::complain("starting PostgreSQL, RabbitMQ, Redis and three replicas");
        let plan = Plan {
            root: &self.root,
            binary: &self.binary,
            data: &data,
            logs: &self.home,
            settings: ROLES.map(|roles| settings(&jaeger, roles)),
        };
        let mut cluster = Cluster::start(&guard, plan)?;
        // The calls go to the first replica, which runs nothing itself.
        let front = cluster.replicas.first().context("there is no replica")?.public.to_string();
        let cli = Cli { binary: self.binary.clone(), addresses: front };
        self.joined(&cluster)?;
        let traced = self.campaigns(&cli, &jaeger, &data)?;
        let mut lines = verdict::campaigns(&jaeger, &traced)?;
        let (again, line) = self.kill(&cli, &jaeger, &mut cluster, &guard)?;
        lines.push(line);
        for (what, one) in [
            (
                "a campaign that crossed replicas",
                traced.iter().find(|one| check::crossing(&one.trace).is_some()),
            ),
            ("a campaign whose replica was killed", Some(&again)),
        ]
        .into_iter()
        .filter_map(|(what, one)| Some((what, one?)))
        {
            shell::say(&format!("{what}: task {}, {}/trace/{}\n", one.task.id, jaeger.url(), one.trace.id));
            shell::say(&one.trace.shown());
        }
        lines.iter().for_each(|line| shell::say(&line.shown()));
        if keep {
            cluster.restart(&guard, VICTIM)?;
            shell::say(&format!(
                "\nJaeger    {}\nreplicas  {}\n\nTry, in another terminal:\n  {} get {} --addr {} --jaeger {}\n\nCtrl-C ends \
                 all of it.",
                jaeger.url(),
                cluster.addresses(),
                self.binary.display(),
                again.task.id,
                cli.addresses,
                jaeger.url()
            ));
            loop {
                std::thread::park();
            }
        }
        Ok(lines.iter().filter(|line| !line.missing.is_empty()).count())
    }

    /// Waits until every replica reaches the others.
    fn joined(&self, cluster: &Cluster) -> Result<()> {
        cluster.replicas.iter().try_for_each(|replica| {
            let cli = Cli { binary: self.binary.clone(), addresses: replica.public.to_string() };
            cli.joined(cluster.replicas.len())
        })
    }

    /// Campaigns to their ends, and their traces.
    fn campaigns(&self, cli: &Cli, jaeger: &Jaeger, data: &Path) -> Result<Vec<Traced>> {
        shell::complain(&format!("running {} campaigns", ALONE + IN_BATCH));
        let brief = self.brief();
        let alone = (0..ALONE).map(|_| Ok(cli.submit(&brief)?.id)).collect::<Result<Vec<_>>>()?;
        let text = fs::read_to_string(&brief).with_context(|| format!("cannot read {}", brief.display()))?;
        // A line is a task.
        let line = text.lines().map(str::trim).collect::<String>() + "\n";
        let file = data.join("batch.ndjson");
        fs::write(&file, line.repeat(IN_BATCH))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let in_batch = cli.submit_batch(&file)?;
        let all = alone.into_iter().map(|id| (id, Submitted::Alone));
        let all: Vec<_> = all.chain(in_batch.into_iter().map(|id| (id, Submitted::InBatch))).collect();
        let ended: Vec<(Task, Submitted)> =
            all.into_iter().map(|(id, submitted)| Ok((cli.end(&id)?, submitted))).collect::<Result<_>>()?;
        ended
            .into_iter()
            .map(|(task, submitted)| {
                let trace = verdict::fetch(jaeger, &task.trace, |trace| verdict::whole(trace, submitted))?;
                Ok(Traced { task, submitted, trace })
            })
            .collect()
    }

    /// Kills a replica while a campaign runs on it. Returns that campaign, and whether its trace is as it should be.
    fn kill(
        &self,
        cli: &Cli,
        jaeger: &Jaeger,
        cluster: &mut Cluster,
        guard: &Guard,
    ) -> Result<(Traced, Line)> {
        let victim = NAMES[VICTIM];
        shell::complain(&format!("killing {victim} under a campaign"));
        for _ in 0..TRIES {
            let ids = (0..ALONE).map(|_| Ok(cli.submit(&self.brief())?.id)).collect::<Result<Vec<_>>>()?;
            let Some(id) = cli.running_on(victim, &ids)? else { continue };
            cluster.kill(VICTIM);
            let task = cli.end(&id)?;
            if task.attempt > 1 {
                let missing = |trace: &trace::Trace| check::run_again(trace, victim);
                let trace = verdict::fetch(jaeger, &task.trace, missing)?;
                let line = Line {
                    what: "a task whose replica is killed goes on in its trace",
                    seen: format!("kill -9 of {victim}, attempt {} on {}", task.attempt, task.node),
                    missing: missing(&trace),
                };
                return Ok((Traced { task, submitted: Submitted::Alone, trace }, line));
            }
            // Its end was recorded between the look and the kill.
            cluster.restart(guard, VICTIM)?;
            self.joined(cluster)?;
        }
        bail!("no campaign was seen to run on {victim}");
    }

    fn brief(&self) -> PathBuf {
        self.root.join("examples/campaign.json")
    }
}

/// What a replica is told.
fn settings(jaeger: &Jaeger, roles: &[&str]) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("CALLBOARD_NODE__ROLES", format!("{roles:?}")),
        // Long enough that a task is seen running.
        ("CALLBOARD_BROKER__OFFLINE_LATENCY", "500ms".into()),
        // Jaeger takes traces, and nothing else that a replica may export.
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("http://{}", jaeger.otlp)),
        ("OTEL_TRACES_EXPORTER", "otlp".into()),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_on".into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
        ("OTEL_SERVICE_NAME", "callboard".into()),
    ];
    // What whoever runs this has set for other programs. Empty is as good as not set.
    let other = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_SDK_DISABLED",
        "OTEL_TRACES_SAMPLER_ARG",
    ];
    settings.extend(other.map(|name| (name, String::new())));
    settings
}
