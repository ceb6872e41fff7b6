//! How fast one node is on the embedded default, from outside: a real `up` process, calls over gRPC from
//! this process on the same machine, the store's fsync on.
//!
//! `cargo xtask bench [--tasks N] [--stored N] [--latency-seconds N]`
//!
//! The clock of a throughput figure stops when the last result is committed.

use callboard_client::v1;
use callboard_client::v1::cluster_service_client::ClusterServiceClient;
use callboard_client::v1::task_service_client::TaskServiceClient;
use callboard_testkit::process::{Process, Spec};
use hdrhistogram::Histogram;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Connections of the load.
const CONNECTIONS: usize = 4;
/// Calls in flight where each task is one call.
const IN_FLIGHT: usize = 64;
/// Tasks of one batch.
const BATCH: usize = 500;
/// Bytes of a task's input.
const INPUT: usize = 256;

struct Args {
    /// One call each.
    tasks: usize,
    /// In batches; they stay in the store for the idle figures.
    stored: usize,
    latency: Duration,
}

fn args() -> Result<Args> {
    let mut args = Args { tasks: 20_000, stored: 100_000, latency: Duration::from_secs(10) };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut number = || -> Result<u64> { Ok(given.next().ok_or("a number is missing")?.parse()?) };
        match arg.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--tasks" => args.tasks = usize::try_from(number()?)?,
            "--stored" => args.stored = usize::try_from(number()?)?.max(BATCH),
            "--latency-seconds" => args.latency = Duration::from_secs(number()?),
            other => {
                return Err(
                    format!("`{other}` is no option: --tasks N, --stored N, --latency-seconds N").into()
                );
            }
        }
    }
    Ok(args)
}

struct Node {
    process: Process,
    address: String,
    folder: tempfile::TempDir,
}

impl Node {
    async fn start() -> Result<Self> {
        Self::start_on(tempfile::tempdir()?).await
    }

    /// Stops it and starts another on its data.
    async fn restart(mut self) -> Result<Self> {
        self.process.terminate(Duration::from_secs(20)).await?;
        Self::start_on(self.folder).await
    }

    async fn start_on(folder: tempfile::TempDir) -> Result<Self> {
        let spec = Spec::new(env!("CARGO_BIN_EXE_callboard"))
            .args(["up", "--output", "json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--data-dir".as_ref(), folder.path().join("data").as_os_str()])
            .env("CALLBOARD_LOG__FILTER", "warn");
        let ready = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["api"].as_str()?.to_owned())
        };
        let (process, address) = Process::spawn(&spec, ready, Duration::from_secs(20)).await?;
        Ok(Self { process, address, folder })
    }

    async fn channels(&self) -> Result<Vec<Channel>> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true);
        let connect = (0..CONNECTIONS).map(|_| endpoint.connect());
        Ok(futures::future::try_join_all(connect).await?)
    }

    /// Waits until so many tasks have succeeded.
    async fn succeeded(&self, channel: Channel, count: usize) -> Result<()> {
        let mut cluster = ClusterServiceClient::new(channel);
        loop {
            let tasks =
                cluster.get_cluster(v1::GetClusterRequest {}).await?.into_inner().tasks.unwrap_or_default();
            if tasks.failed > 0 {
                return Err("a task failed".into());
            }
            if tasks.succeeded >= count as u64 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A figure of its process, in kB or clock ticks.
    fn memory_mb(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }

    /// The processor time it has used. A tick is 10 ms on Linux.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 =
            after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

fn request() -> v1::SubmitTaskRequest {
    let text = "x".repeat(INPUT - r#"{"text":""}"#.len());
    v1::SubmitTaskRequest {
        kind: "echo".into(),
        input: format!(r#"{{"text":"{text}"}}"#).into(),
        request_id: callboard_client::new_request_id(),
        ..Default::default()
    }
}

struct Rate {
    seconds: f64,
    cpu: Duration,
}

/// Each task is one call.
async fn one_by_one(node: &Node, tasks: usize) -> Result<Rate> {
    let channels = node.channels().await?;
    let left = Arc::new(AtomicUsize::new(tasks));
    let (began, cpu) = (Instant::now(), node.cpu());
    let mut load = JoinSet::new();
    for i in 0..IN_FLIGHT {
        let mut client = TaskServiceClient::new(channels[i % CONNECTIONS].clone());
        let left = Arc::clone(&left);
        load.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                client.submit_task(request()).await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(done) = load.join_next().await {
        done??;
    }
    node.succeeded(channels[0].clone(), tasks).await?;
    Ok(Rate { seconds: began.elapsed().as_secs_f64(), cpu: node.cpu() - cpu })
}

/// Tasks in batches, a batch in flight on each connection.
async fn batched(node: &Node, tasks: usize) -> Result<Rate> {
    let channels = node.channels().await?;
    let batches = Arc::new(AtomicUsize::new(tasks / BATCH));
    let (began, cpu) = (Instant::now(), node.cpu());
    let mut load = JoinSet::new();
    for channel in &channels {
        let mut client = TaskServiceClient::new(channel.clone());
        let batches = Arc::clone(&batches);
        load.spawn(async move {
            while batches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                let requests = (0..BATCH).map(|_| request()).collect();
                let answer = client.batch_submit_tasks(v1::BatchSubmitTasksRequest { requests }).await?;
                for outcome in answer.into_inner().outcomes {
                    if let Some(v1::batch_submit_tasks_outcome::Outcome::Error(error)) = outcome.outcome {
                        return Err(tonic::Status::internal(error.message));
                    }
                }
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(done) = load.join_next().await {
        done??;
    }
    node.succeeded(channels[0].clone(), tasks / BATCH * BATCH).await?;
    Ok(Rate { seconds: began.elapsed().as_secs_f64(), cpu: node.cpu() - cpu })
}

/// From the call until the handler starts, at 50 tasks/s on an idle node.
async fn latency(node: &Node, span: Duration) -> Result<Histogram<u64>> {
    let channels = node.channels().await?;
    let mut client = TaskServiceClient::new(channels[0].clone());
    let mut every = tokio::time::interval(Duration::from_millis(20));
    let mut sent = Vec::new();
    let began = Instant::now();
    while began.elapsed() < span {
        every.tick().await;
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let task = client.submit_task(request()).await?.into_inner().task.ok_or("no task")?;
        sent.push((task.id, at));
    }
    node.succeeded(channels[1].clone(), sent.len()).await?;
    let mut histogram = Histogram::new(3)?;
    for (id, at) in sent {
        let task =
            client.get_task(v1::GetTaskRequest { id, view: 0 }).await?.into_inner().task.ok_or("no task")?;
        let started = task.started_at.ok_or("a task did not start")?;
        let started = Duration::new(u64::try_from(started.seconds)?, u32::try_from(started.nanos)?);
        histogram.record(u64::try_from(started.saturating_sub(at).as_micros())?)?;
    }
    Ok(histogram)
}

/// How long this disk takes for a write of one page and its fsync: what every commit waits for.
fn fsync(folder: &Path) -> Result<Duration> {
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let began = Instant::now();
    const TIMES: u32 = 200;
    for _ in 0..TIMES {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
    }
    Ok(began.elapsed() / TIMES)
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn say_rate(what: &str, tasks: usize, rate: &Rate, node: &Node) -> Result<()> {
    say(&format!(
        "{what:34} {:>8.0} tasks/s   {:>5.0} us of the node's processor time a task   {:>5.0} MB",
        tasks as f64 / rate.seconds,
        rate.cpu.as_secs_f64() * 1e6 / tasks as f64,
        node.memory_mb(),
    ))
}

/// What the node uses while nothing happens.
async fn say_idle(what: &str, node: &Node) -> Result<()> {
    // What a run leaves behind is cleared up first.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (began, cpu) = (Instant::now(), node.cpu());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (node.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    say(&format!("{what:34} {:>8.1} MB   {share:.1} % of a core", node.memory_mb()))
}

fn main() -> Result<()> {
    let args = args()?;
    let cores = std::thread::available_parallelism()?;
    let folder = tempfile::tempdir()?;
    say(&format!(
        "one node, embedded, echo with {INPUT} B, load from this machine; {cores} cores; write + fsync {:?}\n",
        fsync(folder.path())?
    ))?;
    let load = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let node = load.block_on(Node::start())?;
    load.block_on(say_idle("idle, no tasks", &node))?;
    // A client on one thread: its own hops between threads are not the node's.
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = client.block_on(latency(&node, args.latency))?;
    say(&format!(
        "submit to start, 50 tasks/s          p50 {:>5.2} ms   p99 {:>5.2} ms   max {:>5.2} ms   ({} tasks)",
        seen.value_at_quantile(0.5) as f64 / 1e3,
        seen.value_at_quantile(0.99) as f64 / 1e3,
        seen.max() as f64 / 1e3,
        seen.len(),
    ))?;
    drop(node);
    load.block_on(throughput(&args))
}

async fn throughput(args: &Args) -> Result<()> {
    let node = Node::start().await?;
    let rate = one_by_one(&node, args.tasks).await?;
    say_rate(&format!("one call a task, {IN_FLIGHT} in flight"), args.tasks, &rate, &node)?;
    drop(node);
    let node = Node::start().await?;
    let rate = batched(&node, args.stored).await?;
    say_rate(&format!("batches of {BATCH}, {CONNECTIONS} in flight"), args.stored, &rate, &node)?;
    say_idle(&format!("idle, after {} tasks", args.stored), &node).await?;
    let node = node.restart().await?;
    say_idle(&format!("idle, started on {} tasks", args.stored), &node).await
}
