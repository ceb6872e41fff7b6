//! One replica: the product as it is, with one more kind, in a process of its own.

use crate::oracle;
use crate::plan::NODES;
use crate::sandbox::{Place, Sandbox};
use crate::sink;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use callboard::config::{self, Overrides};
use callboard_backends::redis_link::{self, Link};
use callboard_backends::token_buckets::redis::{self as redis_buckets, TokenBuckets};
use callboard_ports::TokenBuckets as _;
use callboard_ports::token_buckets::{Decision, Level};
use callboard_sdk::{Failure, Handler, KindSpec, TaskContext};
use callboard_testkit::process::{Process, Spec};
use futures::future::BoxFuture;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::OnceCell;

/// What nodes say.
const LOG: &str = "FAULTS_LOG";
/// Names the number of the node to its handlers.
const NUMBER: &str = "FAULTS_NODE";

/// Tokens a second of the limit that all tasks share, over all nodes, and the most it saves up. Far below what
/// the load asks for.
pub(crate) const RATE: f64 = 20.0;
pub(crate) const BURST: f64 = 20.0;

/// Tells the sink that it began, asks for a token, works, fails as often as asked, tells its effect.
struct Work {
    node: String,
    /// Where Redis is.
    redis: String,
    /// Made by the first task: they need the node's runtime.
    buckets: OnceCell<TokenBuckets>,
}

impl Work {
    /// Asks for a token of the limit. If it got one: when it asked, and when it knew.
    async fn token(&self) -> Option<(i64, i64)> {
        let make = async || {
            let link = Link::new(&redis_link::Options::new(self.redis.clone(), "faults"))?;
            // As many as there are, killed ones included: what a limit is divided by.
            Ok::<_, redis_link::Error>(TokenBuckets::new(
                link,
                redis_buckets::Options::new(|| usize::from(NODES)),
            ))
        };
        let buckets = self.buckets.get_or_try_init(make).await.ok()?;
        let limit = Level { key: "faults".into(), rate: RATE, burst: BURST };
        let asked = oracle::now();
        match buckets.take(&[limit], 1.0).await {
            Ok(Decision::Allowed) => Some((asked, oracle::now())),
            Ok(Decision::Denied { .. }) | Err(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Input {
    ms: u64,
    #[serde(default)]
    fail: u32,
}

impl Handler for Work {
    fn spec(&self) -> KindSpec {
        callboard_sdk::spec("fault.work", "Works for a while and tells the world.")
            .example(r#"{"ms":1}"#)
            .max_attempts(10)
            .build()
    }

    fn run<'a>(&'a self, ctx: &'a TaskContext, input: Bytes) -> BoxFuture<'a, Result<Bytes, Failure>> {
        Box::pin(async move {
            let input: Input =
                serde_json::from_slice(&input).map_err(|e| Failure::permanent(e.to_string()))?;
            let key = ctx.idempotency_key("work");
            let (attempt, node) = (ctx.attempt(), &self.node);
            let outside = |e: std::io::Error| Failure::retryable(format!("the sink: {e}"));
            sink::tell(&format!("start {key} {attempt} {node}")).await.map_err(outside)?;
            let token =
                self.token().await.map_or(String::new(), |(asked, known)| format!(" {asked} {known}"));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(input.ms)) => {}
                () = ctx.cancelled().cancelled() => return Err(Failure::retryable("stopped")),
            }
            if ctx.failures() < input.fail {
                sink::tell(&format!("failure {key} {attempt} {node}{token}")).await.map_err(outside)?;
                return Err(Failure::retryable("failed as asked"));
            }
            sink::tell(&format!("effect {key} {attempt} {node}{token}")).await.map_err(outside)?;
            Ok(format!("{{\"attempt\":{attempt}}}").into())
        })
    }
}

/// What a child process of the run does: serves until it is told to stop.
pub(crate) fn main(config: &Path) -> Result<ExitCode> {
    let config = config::load(Some(config), &|name| std::env::var(name).ok(), &Overrides::default())?;
    let node = std::env::var(NUMBER).context("no number")?;
    let redis = config.redis.url.clone();
    let registry = callboard_kinds::all()?.with_handler(Work { node, redis, buckets: OnceCell::new() })?;
    callboard::up::run(config, registry, |_| {
        use std::io::Write as _;
        writeln!(std::io::stdout(), "ready")?;
        Ok(())
    })
}

/// A replica, from the outside.
pub(crate) struct Replica {
    pub(crate) number: u8,
    config: PathBuf,
    process: Option<Process>,
    /// Where what it says is kept, and how often it was started.
    keep: Option<PathBuf>,
    lives: usize,
}

impl Replica {
    /// Writes its configuration; it is not started yet.
    pub(crate) fn new(number: u8, folder: &Path, urls: &Urls, keep: Option<&Path>) -> Result<Self> {
        let address = Place::Node(number).address();
        let data = folder.join(format!("node{number}"));
        let text = format!(
            "[node]\nname = \"node{number}\"\ndata_dir = {data:?}\ndrain_grace = \"5s\"\n\
             [listen]\npublic = \"{address}:7070\"\nadmin = \"{address}:7072\"\nmesh = \"{address}:7071\"\ninsecure = true\n\
             [mesh]\ninsecure = true\n[worker]\nslots = 40\n\
             [store]\nbackend = \"postgres\"\nurl = {:?}\n[rabbitmq]\nurl = {:?}\n[redis]\nurl = {:?}\n\
             [log]\nfilter = {:?}\n",
            urls.postgres,
            urls.rabbitmq,
            urls.redis,
            std::env::var(LOG).as_deref().unwrap_or("info,lapin=off")
        );
        let config = folder.join(format!("node{number}.toml"));
        std::fs::write(&config, text)?;
        Ok(Self { number, config, process: None, keep: keep.map(Path::to_owned), lives: 0 })
    }

    /// Starts it, and waits until it serves.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let this = std::env::current_exe()?;
        let namespace = Sandbox::namespace(self.number);
        let spec = Spec::new("ip")
            .args(["netns", "exec", &namespace])
            .args([this.into_os_string(), "node".into(), self.config.clone().into_os_string()])
            .env(NUMBER, self.number.to_string());
        let (process, ()) =
            Process::spawn(&spec, |line| (line == "ready").then_some(()), Duration::from_secs(30))
                .await
                .with_context(|| format!("node{} does not start", self.number))?;
        self.process = Some(process);
        self.lives += 1;
        Ok(())
    }

    /// Whether it runs.
    pub(crate) fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.is_running().unwrap_or(false))
    }

    /// Writes what it said last into the folder that keeps it, if there is one.
    pub(crate) fn keep_output(&self) -> Result<()> {
        let (Some(folder), Some(process)) = (&self.keep, &self.process) else { return Ok(()) };
        let file = folder.join(format!("node{}-life{}.log", self.number, self.lives));
        std::fs::write(&file, process.output()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.keep_output()?;
        if let Some(mut process) = self.process.take() {
            // `ip netns exec` becomes the node: it has its process id.
            process.kill9().await?;
        }
        Ok(())
    }

    /// Sends it a signal by name.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let status = tokio::process::Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", name])
            .arg(process.pid().to_string())
            .status()
            .await?;
        anyhow::ensure!(status.success(), "cannot send {name}");
        Ok(())
    }
}

/// Where the servers are, as the nodes see them.
pub(crate) struct Urls {
    pub(crate) postgres: String,
    pub(crate) rabbitmq: String,
    pub(crate) redis: String,
}
