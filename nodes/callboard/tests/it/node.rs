//! Real nodes for tests: [`InProcess`] in this process, [`UpProcess`] as `callboard up`.
//!
//! Both have a folder of their own, listen on free ports of 127.0.0.1, answer from the offline generator
//! unless told otherwise, and come with a [`Client`]. Nothing here waits by sleeping alone: what is waited
//! for has a deadline ([`eventually`]).

use bytes::Bytes;
use callboard::config::{self, Config, Overrides};
use callboard::log::Log;
use callboard::node::{self, Deps, Running};
use callboard_client::{Client, Options, Submitted, v1};
use callboard_ports::SystemClock;
use callboard_provider_broker::config::ProviderConfig;
use callboard_sdk::{Failure, Handler, KindSpec, Registry, TaskContext};
use callboard_testkit::process::{self, Process, Spec};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything that should happen may take. Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What a node in this process is started with.
pub(crate) struct Builder {
    folder: Arc<TempDir>,
    config: Config,
    registry: Registry,
    env: callboard_provider_broker::Env,
}

impl Builder {
    fn new(folder: Arc<TempDir>) -> Self {
        let overrides = Overrides {
            data_dir: Some(folder.path().join("data")),
            public: Some("127.0.0.1:0".into()),
            admin: Some("127.0.0.1:0".into()),
            ..Overrides::default()
        };
        let mut config = config::load(None, &|_| None, &overrides).unwrap();
        config.broker.providers = vec![ProviderConfig::offline()];
        Self { folder, config, registry: callboard_kinds::all().unwrap(), env: Arc::new(|_| None) }
    }

    /// Changes the configuration.
    pub(crate) fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes the kinds it hosts: the built-in ones, if nothing is done.
    pub(crate) fn kinds(mut self, change: impl FnOnce(Registry) -> Registry) -> Self {
        self.registry = change(self.registry);
        self
    }

    /// The environment it reads keys from: an empty one, if nothing is done.
    pub(crate) fn env(mut self, env: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.env = Arc::new(env);
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> InProcess {
        let deps = Deps {
            read_config: None,
            clock: Arc::new(SystemClock),
            env: self.env,
            registry: self.registry,
            log: Log::default(),
        };
        let running = node::start(self.config, deps).await.unwrap();
        InProcess { client: client(running.public), running, folder: self.folder }
    }
}

/// A node in this process. Its folder is removed when it is dropped.
pub(crate) struct InProcess {
    /// A client of it.
    pub(crate) client: Client,
    /// The node.
    pub(crate) running: Running,
    folder: Arc<TempDir>,
}

impl InProcess {
    /// Starts one as it is by default: the built-in kinds, 64 slots, the offline generator.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// The settings of one to start.
    pub(crate) fn builder() -> Builder {
        Builder::new(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Stops it, and returns the settings of the next one on the same data.
    pub(crate) async fn stop(self) -> Builder {
        self.running.stop().await;
        Builder::new(self.folder)
    }

    /// Submits a task of a kind.
    pub(crate) async fn submit(&self, kind: &str, input: impl AsRef<[u8]>) -> v1::Task {
        self.client.submit(request(kind, input)).await.unwrap().task
    }

    /// Submits a task and waits for its end. It comes with its result.
    pub(crate) async fn run(&self, kind: &str, input: impl AsRef<[u8]>) -> v1::Task {
        let task = self.submit(kind, input).await;
        self.wait(&task.id).await
    }

    /// Waits for a task's end. It comes with its result.
    pub(crate) async fn wait(&self, id: &str) -> v1::Task {
        wait(&self.client, id).await
    }

    /// All events of a task.
    pub(crate) async fn events(&self, id: &str) -> Vec<v1::TaskEvent> {
        self.client.events_all(id).try_collect().await.unwrap()
    }

    /// How many tasks there are in each state.
    pub(crate) async fn counts(&self) -> v1::TaskCounts {
        self.client.cluster().await.unwrap().tasks.unwrap()
    }

    /// Waits until a task is in a state. It must not end before.
    pub(crate) async fn reaches(&self, id: &str, state: v1::TaskState) -> v1::Task {
        let task = self.reaches_or_ends(id, state).await;
        assert_eq!(task.state(), state, "{task:?}");
        task
    }

    /// Waits until a task is in a state or has ended.
    pub(crate) async fn reaches_or_ends(&self, id: &str, state: v1::TaskState) -> v1::Task {
        eventually(&format!("{id} in {state:?}"), async || {
            let task = self.client.get(id, false).await.unwrap();
            let there = task.state() == state || callboard_client::is_terminal(task.state());
            there.then_some(task)
        })
        .await
    }
}

/// A node as a process. It is killed when this is dropped.
pub(crate) struct UpProcess {
    /// The process.
    pub(crate) process: Process,
    /// Where it serves.
    pub(crate) api: SocketAddr,
    /// Where operators look.
    pub(crate) admin: Option<SocketAddr>,
    /// Its data, in full.
    pub(crate) data_dir: PathBuf,
    /// A client of it.
    pub(crate) client: Client,
}

/// The line that `up --output json` prints.
#[derive(serde::Deserialize)]
struct Ready {
    api: SocketAddr,
    admin: Option<SocketAddr>,
    data_dir: PathBuf,
}

impl UpProcess {
    /// Starts `callboard up` on a data folder and waits until it serves. It listens on free ports unless
    /// `--listen` or `--admin-listen` is among the arguments.
    pub(crate) async fn start(data_dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::try_start(data_dir, args, env).await.unwrap()
    }

    /// As [`start`](Self::start), where it may fail.
    pub(crate) async fn try_start(
        data_dir: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self, process::Error> {
        let ready = |line: &str| serde_json::from_str::<Ready>(line).ok();
        let (process, Ready { api, admin, data_dir }) =
            Process::spawn(&up(data_dir, args, env), ready, DEADLINE).await?;
        Ok(Self { process, api, admin, data_dir, client: client(api) })
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        self.process.terminate(DEADLINE).await.unwrap()
    }

    /// Runs a command against it.
    pub(crate) async fn cli(&self, args: &[&str]) -> Said {
        callboard(args, &[("CALLBOARD_ADDR", &self.api.to_string())]).await
    }
}

/// What `callboard up` is started with.
fn up(data_dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Spec {
    let mut all: Vec<OsString> = ["up", "--output", "json", "--data-dir"].map(OsString::from).into();
    all.push(data_dir.into());
    for listener in ["--listen", "--admin-listen"] {
        if !args.contains(&listener) {
            all.extend([listener, "127.0.0.1:0"].map(OsString::from));
        }
    }
    all.extend(args.iter().map(OsString::from));
    let spec = Spec::new(env!("CARGO_BIN_EXE_callboard")).args(all);
    // A key in the environment of whoever runs the tests must not cost them anything.
    let spec = spec.env("CALLBOARD_LOG__FILTER", "warn").env("OPENAI_API_KEY", "");
    env.iter().fold(spec, |spec, (name, value)| spec.env(name, value))
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Said {
    /// Its standard output, each line of which is JSON.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs a command to its end.
pub(crate) async fn callboard(args: &[&str], env: &[(&str, &str)]) -> Said {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_callboard"));
    command.args(args).envs(env.iter().copied()).env("NO_COLOR", "1");
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output());
    let output = output.await.unwrap_or_else(|_| unreachable!("`callboard {args:?}` does not end")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Runs `callboard up` where it is expected to end by itself.
pub(crate) async fn up_refused(data_dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Said {
    let spec = up(data_dir, args, env);
    let args: Vec<_> = spec.args.iter().map(|arg| arg.to_str().unwrap()).collect();
    let env: Vec<_> = spec.env.iter().map(|(n, v)| (n.to_str().unwrap(), v.to_str().unwrap())).collect();
    callboard(&args, &env).await
}

/// A client of a node that runs.
pub(crate) fn client(address: SocketAddr) -> Client {
    Client::connect(Options { addresses: vec![address.to_string()], ..Options::default() }).unwrap()
}

/// A request for a task of a kind, with the defaults.
pub(crate) fn request(kind: &str, input: impl AsRef<[u8]>) -> v1::SubmitTaskRequest {
    v1::SubmitTaskRequest {
        kind: kind.into(),
        input: input.as_ref().to_vec().into(),
        ..v1::SubmitTaskRequest::default()
    }
}

/// Waits for a task's end. It comes with its result.
pub(crate) async fn wait(client: &Client, id: &str) -> v1::Task {
    let task = tokio::time::timeout(DEADLINE, client.wait(id)).await;
    task.unwrap_or_else(|_| unreachable!("task {id} does not end")).unwrap()
}

/// Submits many tasks at once; all must be taken.
pub(crate) async fn submit_all(client: &Client, requests: Vec<v1::SubmitTaskRequest>) -> Vec<v1::Task> {
    let submitted = client.submit_batch(requests).await.unwrap();
    submitted.into_iter().map(|outcome| outcome.map(|Submitted { task, .. }| task).unwrap()).collect()
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, asking).await;
    found.unwrap_or_else(|_| unreachable!("not in {DEADLINE:?}: {what}"))
}

/// A task kind made of a closure. It takes any object and gives anything; an attempt may take 30 s.
pub(crate) fn scripted<F>(name: &'static str, run: F) -> impl Handler
where
    F: for<'a> Fn(&'a TaskContext, Bytes) -> Worked<'a> + Send + Sync + 'static,
{
    Scripted { name, run }
}

/// What a handler is doing.
pub(crate) type Worked<'a> = BoxFuture<'a, Result<Bytes, Failure>>;

struct Scripted<F> {
    name: &'static str,
    run: F,
}

impl<F> Handler for Scripted<F>
where
    F: for<'a> Fn(&'a TaskContext, Bytes) -> Worked<'a> + Send + Sync + 'static,
{
    fn spec(&self) -> KindSpec {
        callboard_sdk::spec(self.name, "Made for a test.").timeout(Duration::from_secs(30)).build()
    }

    fn run<'a>(&'a self, ctx: &'a TaskContext, input: Bytes) -> Worked<'a> {
        (self.run)(ctx, input)
    }
}
