//! What one would pick instead, with the same tasks on servers of the same kind: Celery on RabbitMQ and Redis, BullMQ
//! on Redis. Each is installed once, below the target folder, and set up to lose nothing.

use crate::{Result, say};
use callboard_testkit::services::{RabbitMq, Redis, shared, target_folder};
use std::path::{Path, PathBuf};
use std::process::{Command as Setup, Stdio};
use std::time::Duration;
use tokio::process::Command;

const CELERY: [&str; 2] = ["celery==5.5.3", "redis==5.2.1"];
const BULLMQ: &str = "bullmq@5.81.5";
/// How long a worker may take to end.
const END: Duration = Duration::from_secs(10);

/// A system to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    Celery,
    BullMq,
}

impl Other {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "celery" => Ok(Self::Celery),
            "bullmq" => Ok(Self::BullMq),
            other => Err(format!("there is nothing to compare with called `{other}`: celery, bullmq").into()),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Celery => "Celery 5.5 on RabbitMQ",
            Self::BullMq => "BullMQ 5 on Redis",
        }
    }

    /// Installs it, if it is not yet.
    fn install(self) -> Result<PathBuf> {
        let folder = target_folder()
            .parent()
            .ok_or("there is no target folder")?
            .join("baselines")
            .join(self.folder());
        let ready = folder.join("ready");
        if ready.exists() {
            return Ok(folder);
        }
        say(&format!("installing {} below the target folder", self.name()))?;
        std::fs::create_dir_all(&folder)?;
        match self {
            Self::Celery => {
                run(Setup::new("python3").args(["-m", "venv"]).arg(&folder))?;
                run(Setup::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(CELERY))?;
            }
            Self::BullMq => {
                run(Setup::new("npm").args(["install", "--silent", "--prefix"]).arg(&folder).arg(BULLMQ))?;
            }
        }
        std::fs::write(ready, "")?;
        Ok(folder)
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Celery => "celery",
            Self::BullMq => "bullmq",
        }
    }

    /// Tasks a second, from the first call to the last result.
    pub(crate) async fn rate(self, tasks: usize) -> Result<f64> {
        let folder = self.install()?;
        let place = tempfile::tempdir()?;
        let programs = shared::programs()?;
        let redis = Redis::start(programs, place.path())?;
        match self {
            Self::Celery => {
                let rabbitmq = RabbitMq::start(programs)?;
                let python = || {
                    let mut python = Command::new(folder.join("bin/python"));
                    python.env("BENCH_BROKER", rabbitmq.url()).env("BENCH_BACKEND", redis.url(0));
                    python.current_dir(scripts());
                    python
                };
                let (mut worker, mut load) = (python(), python());
                worker.args(["-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2"]);
                worker.args(["--loglevel", "ERROR", "--without-gossip", "--without-mingle"]);
                load.arg("celery_tasks.py");
                measure(worker, load, tasks).await
            }
            Self::BullMq => {
                // Modules are found from where a script lies.
                std::fs::copy(scripts().join("bullmq.mjs"), folder.join("bullmq.mjs"))?;
                redis.command(&["config", "set", "appendonly", "yes"])?;
                redis.command(&["config", "set", "appendfsync", "always"])?;
                let node = |what: &str| {
                    let mut node = Command::new("node");
                    node.arg(folder.join("bullmq.mjs")).arg(what).env("BENCH_REDIS", redis.url(0));
                    node
                };
                measure(node("worker"), node("load"), tasks).await
            }
        }
    }
}

/// What the load prints.
#[derive(serde::Deserialize)]
struct Measured {
    tasks: usize,
    seconds: f64,
}

async fn measure(mut worker: Command, mut load: Command, tasks: usize) -> Result<f64> {
    let quiet = worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = quiet.kill_on_drop(true).spawn()?;
    let load = load.arg(tasks.to_string()).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    // Asked to end, it ends its children too.
    if let Some(pid) = worker.id() {
        Command::new("kill").arg(pid.to_string()).status().await?;
    }
    let _ = tokio::time::timeout(END, worker.wait()).await;
    if !load.status.success() {
        return Err(format!("its load failed:\n{}", String::from_utf8_lossy(&load.stderr)).into());
    }
    let Measured { tasks, seconds } = serde_json::from_slice(&load.stdout)?;
    Ok(tasks as f64 / seconds)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/performance/against")
}

fn run(command: &mut Setup) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}").into()) }
}
