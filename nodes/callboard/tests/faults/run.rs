//! The run: servers, replicas, load and faults together, and what was measured on the way.

use crate::load::{self, Acked, Load, Told};
use crate::node::{Replica, Urls};
use crate::oracle;
use crate::plan::{Counts, Fault, Moment, NODES};
use crate::proxy::{self, At, Caught, Protocol, Traps, Window};
use crate::report::{Loss, Report};
use crate::sandbox::{Cut, Place, Sandbox};
use crate::servers::Servers;
use crate::sink::{Sink, What};
use anyhow::{Context as _, Result};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a node's session lasts without renewal.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a pause and a partition last.
const SILENCE: Duration = Duration::from_secs(12);
/// How long a fault waits for its window before it happens outside of it, and is not counted.
const WINDOW: Duration = Duration::from_secs(20);
/// How long all may take to end once the faults are over.
const SETTLE: Duration = Duration::from_secs(180);

/// Everything that runs.
struct Stage {
    sandbox: Sandbox,
    servers: Servers,
    replicas: Vec<Replica>,
    traps: Traps,
    sink: Sink,
    acked: Acked,
    report: Report,
    /// Tasks that a fault has interrupted before: another time they wait for their backoff.
    interrupted: HashSet<String>,
    /// When a node was killed last.
    killed: Option<Instant>,
}

/// Runs it all, and returns what it found.
pub(crate) async fn run(
    seed: u64,
    counts: Counts,
    faults: Vec<Fault>,
    folder: &Path,
    keep: Option<&Path>,
) -> Result<Report> {
    let sandbox = Sandbox::new(NODES)?;
    let servers = Servers::start(folder).await?;
    let (traps, stop, tracker) = (Traps::default(), CancellationToken::new(), TaskTracker::new());
    let wires = [
        (Place::Postgres, 5432, servers.postgres_at(), Protocol::Postgres),
        (Place::RabbitMq, 5672, servers.rabbitmq_at(), Protocol::Amqp),
        (Place::Redis, 6379, servers.redis_at(), Protocol::Opaque),
    ];
    for (place, port, target, protocol) in wires {
        let (traps, stop) = (traps.clone(), stop.clone());
        tracker.spawn(async move { proxy::serve(place, port, target, protocol, traps, stop).await });
    }
    let sink = Sink::default();
    tracker.spawn(sink.clone().serve());
    let urls = Urls {
        postgres: servers.postgres_url(Place::Postgres.address(), 5432),
        rabbitmq: servers.rabbitmq_url(Place::RabbitMq.address(), 5672),
        redis: format!("redis://{}:6379/0", Place::Redis.address()),
    };
    let mut replicas = Vec::new();
    for number in 0..NODES {
        let mut replica = Replica::new(number, folder, &urls, keep)?;
        replica.start().await?;
        replicas.push(replica);
    }
    let mut stage = Stage {
        sandbox,
        servers,
        replicas,
        traps,
        sink,
        acked: Acked::default(),
        report: Report::new(seed),
        interrupted: HashSet::new(),
        killed: None,
    };
    let done = play(&mut stage, seed, counts, faults).await;
    stop.cancel();
    for replica in &stage.replicas {
        replica.keep_output()?;
    }
    done?;
    Ok(stage.report)
}

async fn play(stage: &mut Stage, seed: u64, counts: Counts, faults: Vec<Fault>) -> Result<()> {
    let enough = Arc::new(AtomicBool::new(false));
    let told = Arc::new(Told::default());
    let load = Load {
        seed,
        tasks: counts.tasks,
        rate: 50,
        addresses: (0..NODES).map(|n| format!("{}:7070", Place::Node(n).address())).collect(),
    };
    let clients = TaskTracker::new();
    let submitting =
        clients.spawn(load::run(load, stage.acked.clone(), Arc::clone(&told), Arc::clone(&enough)));
    let total = faults.len();
    for (n, fault) in faults.into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        let name = format!("{fault:?}");
        stage.inject(fault).await.with_context(|| format!("fault {} of {total}: {name}", n + 1))?;
        let acked = stage.acked.len();
        stage.report.say(format!(
            "{:>2}/{total} {name} in {:.1?}, {acked} acknowledged",
            n + 1,
            began.elapsed()
        ));
    }
    enough.store(true, Ordering::SeqCst);
    submitting.await.context("the client panicked")??;
    stage.report.failed_calls = told.failed.load(Ordering::SeqCst);
    let ids = stage.acked.ids();
    stage.report.acknowledged = ids.len();
    stage.report.settled_in = oracle::settle(&mut stage.servers, SETTLE).await?;
    oracle::judge(&mut stage.servers, &ids, &stage.sink.entries(), &mut stage.report).await
}

impl Stage {
    async fn inject(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill { node, moment } => self.kill(node, moment).await,
            Fault::Pause { node, moment } => self.pause(node, moment).await,
            Fault::Partition { links, how, moment, node } => self.partition(&links, how, moment, node).await,
            Fault::RabbitMq => self.rabbitmq().await,
            Fault::Redis { flush } => self.redis(flush).await,
            Fault::Postgres => self.postgres().await,
            Fault::Commit { window, at } => self.commit(window, at).await,
            Fault::Everyone => self.everyone().await,
        }
    }

    /// Waits for the moment on the node. `Some`: it is held there.
    async fn moment(&mut self, fault: &'static str, node: u8, moment: Moment) -> Option<Caught> {
        match moment {
            Moment::Wire(window) => {
                let caught = self.traps.arm(Some(node), window, At::Open);
                match tokio::time::timeout(WINDOW, caught).await {
                    Ok(Ok(caught)) => {
                        self.report.window(fault, moment);
                        Some(caught)
                    }
                    _ => {
                        self.report.missed(fault, moment);
                        None
                    }
                }
            }
            Moment::Run => {
                let until = Instant::now() + WINDOW;
                while self.sink.running_on(node).is_empty() {
                    if Instant::now() > until {
                        self.report.missed(fault, moment);
                        return None;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                self.report.window(fault, moment);
                None
            }
        }
    }

    async fn kill(&mut self, node: u8, moment: Moment) -> Result<()> {
        // On refusals alone, one of three nodes is ended per timeout; and a revived one only for its silence.
        if let Some(last) = self.killed {
            tokio::time::sleep_until(last + SESSION_TIMEOUT + Duration::from_secs(1)).await;
        }
        let revived = self.revived(node).await?;
        self.calm().await?;
        let caught = self.moment("kill", node, moment).await;
        let ran = self.sink.running_on(node);
        let at = Instant::now();
        self.replicas[usize::from(node)].kill().await?;
        if let Some(caught) = caught {
            caught.cut();
        }
        self.killed = Some(at);
        let how = if revived { Loss::Silent } else { Loss::Killed };
        self.recovered(ran, at, Duration::from_secs(15), how).await;
        self.replicas[usize::from(node)].start().await
    }

    /// Waits until the cluster has caught up with what the fault before held up. How soon the tasks of a killed node
    /// run again is how soon it is found dead and they are handed off: not how long the line is that they join.
    async fn calm(&mut self) -> Result<()> {
        const LINE: i64 = 20;
        let began = Instant::now();
        // QUEUED is 2 in the store.
        let count = "SELECT count(*) FROM tasks WHERE state = 2";
        while self.servers.sql(count.into()).await?.trim().parse::<i64>()? > LINE {
            anyhow::ensure!(began.elapsed() < SETTLE, "the cluster does not catch up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Whether a node's session is one that it opened because another of its own was ended.
    async fn revived(&mut self, node: u8) -> Result<bool> {
        let sql = format!(
            "SELECT revival FROM node_sessions WHERE node = 'node{node}' AND ended_at IS NULL \
             ORDER BY started_at DESC LIMIT 1"
        );
        Ok(self.servers.sql(sql).await?.trim() == "t")
    }

    async fn pause(&mut self, node: u8, moment: Moment) -> Result<()> {
        let caught = self.moment("pause", node, moment).await;
        let ran = self.sink.running_on(node);
        let at = Instant::now();
        self.replicas[usize::from(node)].signal("STOP").await?;
        if let Some(caught) = caught {
            caught.release();
        }
        self.recovered(ran, at, SILENCE, Loss::Silent).await;
        tokio::time::sleep_until(at + SILENCE).await;
        self.replicas[usize::from(node)].signal("CONT").await?;
        // It comes back by itself, or has ended itself and is started again, as an operator's tool would.
        self.revive(node).await
    }

    async fn partition(
        &mut self,
        links: &[(Place, Place)],
        how: Cut,
        moment: Moment,
        node: u8,
    ) -> Result<()> {
        let isolated = links.len() >= 8;
        let caught = self.moment("partition", node, moment).await;
        let ran = self.sink.running_on(node);
        let (at, from) = (Instant::now(), oracle::now());
        for (from, to) in links {
            self.sandbox.cut(*from, *to, how)?;
        }
        if let Some(caught) = caught {
            caught.release();
        }
        if isolated {
            self.recovered(ran, at, SILENCE, Loss::Silent).await;
        }
        tokio::time::sleep_until(at + SILENCE).await;
        self.sandbox.heal()?;
        self.revive(node).await?;
        if links.iter().any(|(_, to)| *to == Place::Redis) {
            self.report.apart.push((from, oracle::now()));
        }
        Ok(())
    }

    /// Waits a little for a node to serve; starts it again if it has exited.
    async fn revive(&mut self, node: u8) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let replica = &mut self.replicas[usize::from(node)];
        if !replica.is_up() {
            self.report.exits += 1;
            self.replicas[usize::from(node)].start().await?;
        }
        Ok(())
    }

    async fn rabbitmq(&mut self) -> Result<()> {
        let caught = self.traps.arm(None, Window::Publish, At::Open);
        let moment = Moment::Wire(Window::Publish);
        let caught = tokio::time::timeout(WINDOW, caught).await;
        match &caught {
            Ok(Ok(_)) => self.report.window("rabbitmq", moment),
            _ => self.report.missed("rabbitmq", moment),
        }
        self.servers.kill_rabbitmq().await?;
        if let Ok(Ok(caught)) = caught {
            caught.cut();
        }
        let seen = self.sink.entries().len();
        self.servers.restart_rabbitmq().await?;
        let back = Instant::now();
        // Every task that begins now was handed off by the broker that has come back.
        let begins =
            |sink: &Sink| sink.entries().iter().skip(seen).any(|e| e.what == What::Start && e.at > back);
        while !begins(&self.sink) && back.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.report.broker_back.push(back.elapsed());
        Ok(())
    }

    async fn redis(&mut self, flush: bool) -> Result<()> {
        if flush {
            return self.servers.flush_redis().await;
        }
        self.servers.kill_redis().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.servers.restart_redis().await
    }

    async fn postgres(&mut self) -> Result<()> {
        let from = oracle::now();
        self.servers.kill_postgres().await?;
        tokio::time::sleep(Duration::from_secs(8)).await;
        self.servers.restart_postgres().await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.report.outages.push((from, oracle::now()));
        Ok(())
    }

    async fn commit(&mut self, window: Window, at: At) -> Result<()> {
        let caught = self.traps.arm(None, window, at);
        match tokio::time::timeout(WINDOW, caught).await {
            Ok(Ok(caught)) => {
                self.report.window("commit", Moment::Wire(window));
                if at == At::AfterCommit {
                    // The server carries it out while its answer is held.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                caught.cut();
            }
            _ => self.report.missed("commit", Moment::Wire(window)),
        }
        Ok(())
    }

    async fn everyone(&mut self) -> Result<()> {
        self.killed = Some(Instant::now());
        for replica in &mut self.replicas {
            replica.kill().await?;
        }
        for replica in &mut self.replicas {
            replica.start().await?;
        }
        Ok(())
    }

    /// Waits until the tasks that ran on a node have begun elsewhere (or had just told their effect), and
    /// notes how long each took.
    async fn recovered(&mut self, tasks: Vec<String>, from: Instant, within: Duration, how: Loss) {
        let mut open: HashSet<String> =
            tasks.into_iter().filter(|task| self.interrupted.insert(task.clone())).collect();
        let mut took = Vec::new();
        while !open.is_empty() && from.elapsed() < within {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for entry in self.sink.entries().iter().rev().take_while(|entry| entry.at > from) {
                let moved = entry.what == What::Start;
                if open.remove(&entry.task) && moved {
                    took.push((entry.at - from, entry.task.clone()));
                }
            }
        }
        took.extend(open.into_iter().map(|task| (within, task)));
        let latest = took.iter().map(|(span, _)| *span).max().unwrap_or_default();
        self.report.say(format!("      {} of its tasks run again, the last after {latest:.2?}", took.len()));
        let late = took.iter().filter(|(span, _)| *span > how.limit());
        self.report.late.extend(late.map(|(_, task)| task.clone()));
        let spans = if how == Loss::Killed { &mut self.report.killed } else { &mut self.report.silent };
        spans.extend(took.into_iter().map(|(span, _)| span));
    }
}
