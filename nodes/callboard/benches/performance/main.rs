//! How fast the product is, from outside: real `up` processes, calls over gRPC from this process on the same
//! machine, fsync on everywhere.
//!
//! `cargo xtask bench [embedded|cluster|deep] [--against celery,bullmq] [--runs N] [--tasks N] [--batched N]
//! [--waiting N] [--latency-seconds N]`
//!
//! The clock of a throughput figure stops when the last result is committed. On cluster backends the floor is
//! measured beside it, in each run: see `floor`.

mod against;
mod deep;
mod floor;
mod load;
mod node;

use against::Other;
use callboard_client::v1;
use callboard_client::v1::cluster_service_client::ClusterServiceClient;
use callboard_client::v1::task_service_client::TaskServiceClient;
use callboard_testkit::Collector;
use floor::Floor;
use hdrhistogram::Histogram;
use load::{BATCH, CONNECTIONS, IN_FLIGHT, INPUT, Way};
use node::{Node, Servers, succeeded};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::transport::Endpoint;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often it is looked whether all is done: where the node counts what it has, and where it keeps the counts.
const COUNTS_KEPT: Duration = Duration::from_millis(5);
const COUNTS_MADE: Duration = Duration::from_millis(50);
/// How many tasks a node that is about to die runs, and how long each takes.
const RUNNING: usize = 20;
const TAKES: Duration = Duration::from_secs(3);

struct Args {
    embedded: bool,
    cluster: bool,
    /// With a million waiting tasks.
    deep: bool,
    runs: usize,
    /// One call each.
    tasks: usize,
    /// In batches.
    batched: usize,
    /// How many wait, where it is deep.
    waiting: usize,
    latency: Duration,
    /// What it is compared with, in each run.
    against: Vec<Other>,
}

fn args() -> Result<Args> {
    let mut args = Args {
        embedded: true,
        cluster: true,
        deep: true,
        runs: 3,
        tasks: 20_000,
        batched: 100_000,
        waiting: 1_000_000,
        latency: Duration::from_secs(10),
        against: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        if arg == "--against" {
            let list = given.next().ok_or("--against: celery, bullmq or both")?;
            args.against = list.split(',').map(Other::parse).collect::<Result<_>>()?;
            continue;
        }
        let mut number = || -> Result<u64> { Ok(given.next().ok_or("a number is missing")?.parse()?) };
        match arg.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "embedded" => (args.embedded, args.cluster, args.deep) = (true, false, false),
            "cluster" => (args.embedded, args.cluster, args.deep) = (false, true, false),
            "deep" => (args.embedded, args.cluster, args.deep) = (false, false, true),
            "--runs" => args.runs = usize::try_from(number()?)?.max(1),
            "--tasks" => args.tasks = usize::try_from(number()?)?.max(1),
            "--batched" => args.batched = usize::try_from(number()?)?.max(BATCH),
            "--waiting" => args.waiting = usize::try_from(number()?)?.max(BATCH),
            "--latency-seconds" => args.latency = Duration::from_secs(number()?.max(1)),
            other => {
                return Err(format!(
                    "`{other}` is no option: [embedded|cluster|deep] --against celery,bullmq, --runs N, --tasks N, --batched N, --waiting N, --latency-seconds N"
                )
                .into());
            }
        }
    }
    Ok(args)
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// One measure of a throughput.
#[derive(Clone, Copy)]
struct Rate {
    tasks: usize,
    took: Duration,
    /// The processor time of the product's processes.
    cpu: Duration,
    memory_mb: f64,
}

impl Rate {
    fn a_second(&self) -> f64 {
        self.tasks as f64 / self.took.as_secs_f64()
    }

    fn show(&self, what: &str) -> String {
        let line = format!("  {what:38} {:>8.0} tasks/s", self.a_second());
        if self.cpu.is_zero() {
            return line;
        }
        let each = self.cpu.as_secs_f64() * 1e6 / self.tasks as f64;
        format!("{line}   {each:>5.0} us of the nodes' processor a task   {:>5.0} MB", self.memory_mb)
    }
}

const TRACED: &str = "the same, a tenth of the traces exported";
const THREE: &str = "the same on three replicas";

/// Some measures, of several runs.
#[derive(Default)]
struct Table(Vec<Row>);

/// What one measure was in each run, and as a share of what.
struct Row {
    what: String,
    rates: Vec<f64>,
    /// In each run, if it is held against anything.
    shares: Vec<f64>,
    of: &'static str,
}

impl Table {
    /// What a run has measured, and what it is held against.
    fn add(&mut self, what: &str, rate: Rate, beside: Option<(f64, &'static str)>) {
        let of = beside.map_or("", |(_, of)| of);
        let place = self.0.iter().position(|row| row.what == what).unwrap_or_else(|| {
            self.0.push(Row { what: what.to_owned(), rates: Vec::new(), shares: Vec::new(), of });
            self.0.len() - 1
        });
        if let Some(row) = self.0.get_mut(place) {
            row.rates.push(rate.a_second());
            row.shares.extend(beside.map(|(beside, _)| rate.a_second() / beside));
        }
    }

    fn show(&self, runs: usize) -> String {
        let lines = self.0.iter().map(|Row { what, rates, shares, of }| {
            let line = format!("  {what:40} {:>8.0} tasks/s", median(rates.clone()));
            match shares.is_empty() {
                true => line,
                false => format!("{line}   {:>4.0} % {of}", 100.0 * median(shares.clone())),
            }
        });
        let head = format!("  median of {runs} runs, each share within its run:");
        std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
    }
}

/// All of `tasks` through nodes that have none yet.
async fn rate(nodes: &[Node], way: Way, tasks: usize, look_every: Duration) -> Result<Rate> {
    let endpoints = nodes.iter().map(Node::endpoint).collect::<Result<Vec<_>>>()?;
    let channels = load::connect(&endpoints).await?;
    let used = || nodes.iter().map(Node::cpu).sum::<Duration>();
    let (began, cpu) = (Instant::now(), used());
    load::submit(&channels, way, tasks).await?;
    succeeded(channels[0].clone(), tasks, look_every).await?;
    let memory_mb = nodes.iter().map(Node::memory_mb).fold(0.0, f64::max);
    Ok(Rate { tasks, took: began.elapsed(), cpu: used() - cpu, memory_mb })
}

async fn floor_rate(servers: &mut Servers, way: Way, tasks: usize) -> Result<Rate> {
    let mut floor = Floor::start(&servers.place()?).await?;
    let channels = load::connect(&[floor.endpoint()?]).await?;
    let began = Instant::now();
    load::submit(&channels, way, tasks).await?;
    floor.ended(tasks).await?;
    Ok(Rate { tasks, took: began.elapsed(), cpu: Duration::ZERO, memory_mb: 0.0 })
}

async fn replicas(servers: &mut Servers, count: usize, slots: Option<usize>) -> Result<Vec<Node>> {
    let place = servers.place()?;
    let mut nodes = Vec::new();
    for n in 0..count {
        nodes.push(Node::replica(&place, &format!("n{n}"), slots, None).await?);
    }
    Ok(nodes)
}

/// What a replica does that exports a tenth of its traces, and how many spans came.
async fn traced(servers: &mut Servers, tasks: usize) -> Result<(Rate, usize)> {
    let collector = Collector::start().await?;
    let nodes = [Node::replica(&servers.place()?, "n0", None, Some(&collector)).await?];
    let rate = rate(&nodes, Way::OneByOne, tasks, COUNTS_MADE).await?;
    Ok((rate, collector.spans().len()))
}

/// From the call until the handler starts, at 50 tasks/s on idle nodes.
async fn latency(endpoint: Endpoint, span: Duration) -> Result<Histogram<u64>> {
    let channels = load::connect(&[endpoint]).await?;
    let sent = load::slowly(&channels[0], span).await?;
    succeeded(channels[1].clone(), sent.len(), COUNTS_MADE).await?;
    let mut client = TaskServiceClient::new(channels[0].clone());
    let mut histogram = Histogram::new(3)?;
    for (id, at) in sent {
        let started = load::started(&mut client, id).await?;
        histogram.record(u64::try_from(started.saturating_sub(at).as_micros())?)?;
    }
    Ok(histogram)
}

fn show_latency(seen: &Histogram<u64>) -> String {
    let ms = |micros: u64| micros as f64 / 1e3;
    format!(
        "  {:38} p50 {:>5.2} ms   p99 {:>5.2} ms   max {:>5.2} ms   ({} tasks)",
        "submit to start, 50 tasks/s",
        ms(seen.value_at_quantile(0.5)),
        ms(seen.value_at_quantile(0.99)),
        ms(seen.max()),
        seen.len(),
    )
}

/// How long after the kill of one of two nodes all that it ran is done by the other.
async fn killed(servers: &mut Servers) -> Result<Duration> {
    let place = servers.place()?;
    // It runs all of them, because it is alone at first; the other has a free slot for each.
    let mut first = Node::replica(&place, "n0", Some(RUNNING), None).await?;
    let mut client = TaskServiceClient::new(first.endpoint()?.connect().await?);
    let input = format!(r#"{{"sleep_ms":{}}}"#, TAKES.as_millis());
    let requests =
        (0..RUNNING).map(|_| v1::SubmitTaskRequest { input: input.clone().into(), ..load::request() });
    client.batch_submit_tasks(v1::BatchSubmitTasksRequest { requests: requests.collect() }).await?;
    let second = Node::replica(&place, "n1", Some(RUNNING), None).await?;
    let channel = second.endpoint()?.connect().await?;
    let mut cluster = ClusterServiceClient::new(channel.clone());
    loop {
        let tasks = cluster.get_cluster(v1::GetClusterRequest {}).await?.into_inner().tasks;
        if tasks.unwrap_or_default().running == RUNNING as u64 {
            break;
        }
        tokio::time::sleep(COUNTS_MADE).await;
    }
    let began = Instant::now();
    first.kill9().await?;
    succeeded(channel, RUNNING, COUNTS_MADE).await?;
    Ok(began.elapsed())
}

/// How long this disk takes for a write of one page and its fsync: what every commit waits for.
fn fsync(folder: &Path) -> Result<Duration> {
    const TIMES: u32 = 200;
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let began = Instant::now();
    for _ in 0..TIMES {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
    }
    Ok(began.elapsed() / TIMES)
}

/// What a node uses while nothing happens.
async fn show_idle(what: &str, node: &Node) -> Result<String> {
    // What a run leaves behind is cleared up first.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (began, cpu) = (Instant::now(), node.cpu());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (node.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    Ok(format!("  {what:38} {:>8.1} MB   {share:.1} % of a core", node.memory_mb()))
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<()> {
    let args = args()?;
    let cores = std::thread::available_parallelism()?;
    let folder = tempfile::tempdir()?;
    say(&format!(
        "echo with {INPUT} B, {CONNECTIONS} connections, load and servers on this machine; {cores} cores; \
         write + fsync {:?}",
        fsync(folder.path())?
    ))?;
    let load = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // A client on one thread: its own hops between threads are not the node's.
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let one_by_one = format!("one call a task, {IN_FLIGHT} in flight");
    let batched = format!("batches of {BATCH}, {CONNECTIONS} in flight");
    if args.embedded {
        say("\nembedded, one node")?;
        let node = load.block_on(Node::embedded())?;
        say(&load.block_on(show_idle("idle, no tasks", &node))?)?;
        say(&show_latency(&client.block_on(latency(node.endpoint()?, args.latency))?))?;
        drop(node);
        let mut table = Table::default();
        for _ in 0..args.runs {
            let nodes = [load.block_on(Node::embedded())?];
            let one = load.block_on(rate(&nodes, Way::OneByOne, args.tasks, COUNTS_KEPT))?;
            say(&one.show(&one_by_one))?;
            drop(nodes);
            let nodes = [load.block_on(Node::embedded())?];
            let many = load.block_on(rate(&nodes, Way::Batched, args.batched, COUNTS_KEPT))?;
            say(&many.show(&batched))?;
            table.add(&one_by_one, one, None);
            table.add(&batched, many, None);
        }
        say(&table.show(args.runs))?;
        let nodes = [load.block_on(Node::embedded())?];
        load.block_on(rate(&nodes, Way::Batched, args.batched, COUNTS_KEPT))?;
        let what = format!("idle, after {} tasks", args.batched);
        say(&load.block_on(show_idle(&what, &nodes[0]))?)?;
        let [node] = nodes;
        let node = load.block_on(node.restart())?;
        let what = format!("idle, started on {} tasks", args.batched);
        say(&load.block_on(show_idle(&what, &node))?)?;
    }
    if args.cluster {
        say("\ncluster: PostgreSQL, RabbitMQ, Redis")?;
        let mut servers = Servers::start()?;
        let nodes = load.block_on(replicas(&mut servers, 1, None))?;
        say(&load.block_on(show_idle("idle, no tasks", &nodes[0]))?)?;
        say(&show_latency(&client.block_on(latency(nodes[0].endpoint()?, args.latency))?))?;
        drop(nodes);
        let mut table = Table::default();
        for _ in 0..args.runs {
            let floor = load.block_on(floor_rate(&mut servers, Way::OneByOne, args.tasks))?;
            say(&floor.show(&format!("floor: {one_by_one}")))?;
            let nodes = load.block_on(replicas(&mut servers, 1, None))?;
            let one = load.block_on(rate(&nodes, Way::OneByOne, args.tasks, COUNTS_MADE))?;
            say(&one.show(&one_by_one))?;
            drop(nodes);
            let (with_traces, spans) = load.block_on(traced(&mut servers, args.tasks))?;
            say(&format!("{}   {spans} spans", with_traces.show(TRACED)))?;
            let nodes = load.block_on(replicas(&mut servers, 3, None))?;
            let three = load.block_on(rate(&nodes, Way::OneByOne, args.tasks, COUNTS_MADE))?;
            say(&three.show(THREE))?;
            drop(nodes);
            let many_floor = load.block_on(floor_rate(&mut servers, Way::Batched, args.batched))?;
            say(&many_floor.show(&format!("floor: {batched}")))?;
            let nodes = load.block_on(replicas(&mut servers, 1, None))?;
            let many = load.block_on(rate(&nodes, Way::Batched, args.batched, COUNTS_MADE))?;
            say(&many.show(&batched))?;
            table.add(&one_by_one, one, Some((floor.a_second(), "of the floor")));
            table.add(TRACED, with_traces, Some((one.a_second(), "of the same without")));
            table.add(THREE, three, Some((one.a_second(), "of one replica")));
            table.add(&batched, many, Some((many_floor.a_second(), "of the floor")));
            for other in &args.against {
                let theirs = load.block_on(other.rate(args.tasks))?;
                let name = format!("{}: one by one", other.name());
                say(&format!("  {name:38} {theirs:>8.0} tasks/s"))?;
                table.add(&format!("beside {}", other.name()), one, Some((theirs, "of its tasks/s")));
            }
        }
        say(&table.show(args.runs))?;
        let done = load.block_on(killed(&mut servers))?;
        say(&format!(
            "  one of two nodes killed, {RUNNING} tasks of {TAKES:?} each: all done {:.2} s later",
            done.as_secs_f64()
        ))?;
    }
    if args.deep {
        say("\ncluster, on a store that is not empty")?;
        let mut servers = Servers::start()?;
        load.block_on(deep::run(&mut servers, args.waiting, args.tasks, args.runs))?;
    }
    Ok(())
}
