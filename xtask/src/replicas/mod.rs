//! Three replicas on servers of their own.
//!
//! Everything that is started here ends with this process, however it ends: see [`guard`].

pub(crate) mod guard;
pub(crate) mod http;

use anyhow::{Context as _, Result, bail};
use callboard_services::{Postgres, Programs, RabbitMq, Redis, target_folder};
use guard::{Guard, Guarded};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The names of the replicas.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
/// How long a replica may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a page of a replica's may take; it is asked for once a second.
const PAGE_WITHIN: Duration = Duration::from_millis(900);
/// A key in the environment of whoever runs this must not cost them anything.
const NO_KEY: (&str, &str) = ("OPENAI_API_KEY", "");

/// What the replicas run, where, and what they are told.
pub(crate) struct Plan<'a> {
    /// The root of the workspace.
    pub(crate) root: &'a Path,
    /// The program.
    pub(crate) binary: &'a Path,
    /// Where what they hold goes.
    pub(crate) data: &'a Path,
    /// Where what they say goes.
    pub(crate) logs: &'a Path,
    /// The environment of each, in the order of [`NAMES`], beside `deploy/cluster.toml`.
    pub(crate) settings: [Vec<(&'static str, String)>; NAMES.len()],
}

/// PostgreSQL, RabbitMQ and Redis, as in `cargo xtask services`. They end when this is dropped.
struct Servers {
    postgres: Postgres,
    rabbitmq: RabbitMq,
    redis: Redis,
}

/// The replicas and their servers. All end when this is dropped.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    servers: Servers,
    binary: PathBuf,
    config: PathBuf,
}

/// One replica.
pub(crate) struct Replica {
    pub(crate) name: &'static str,
    pub(crate) public: SocketAddr,
    admin: SocketAddr,
    mesh: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    settings: Vec<(&'static str, String)>,
    process: Option<Guarded>,
}

impl Cluster {
    /// Starts the servers and the replicas, and waits until these are ready.
    ///
    /// # Errors
    /// A server cannot be had, or a replica does not start: what it said is in the error.
    pub(crate) fn start(guard: &Guard, plan: Plan<'_>) -> Result<Self> {
        let programs = Programs::find(&target_folder())?;
        let postgres = Postgres::start(&programs)?;
        let rabbitmq = RabbitMq::start(&programs)?;
        let redis = Redis::start(&programs, &std::env::temp_dir())?;
        postgres.create_database("callboard")?;
        let ports = ports(3 * NAMES.len())?;
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let each = NAMES.iter().zip(ports.chunks_exact(3)).zip(plan.settings);
        let replicas = each.map(|((name, ports), settings)| Replica {
            name,
            public: at(ports[0]),
            admin: at(ports[1]),
            mesh: at(ports[2]),
            data: plan.data.join(name),
            log: plan.logs.join(format!("{name}.log")),
            settings,
            process: None,
        });
        let mut cluster = Self {
            replicas: replicas.collect(),
            servers: Servers { postgres, rabbitmq, redis },
            binary: plan.binary.to_owned(),
            config: plan.root.join("deploy/cluster.toml"),
        };
        for index in 0..NAMES.len() {
            // What an earlier run said, if its logs were kept in the same folder, is not of this one.
            let _ = cluster.replicas.get(index).map(|replica| std::fs::remove_file(&replica.log));
            cluster.launch(guard, index)?;
        }
        for replica in &mut cluster.replicas {
            replica.ready()?;
        }
        Ok(cluster)
    }

    /// The replicas' public addresses, as a client is told them.
    pub(crate) fn addresses(&self) -> String {
        let addresses: Vec<_> = self.replicas.iter().map(|replica| replica.public.to_string()).collect();
        addresses.join(",")
    }

    /// Starts a replica, also once more on its data and addresses. It is not waited for.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn launch(&mut self, guard: &Guard, index: usize) -> Result<()> {
        let replica = self.replicas.get_mut(index).context("there is no such replica")?;
        let log = File::options().create(true).append(true).open(&replica.log)?;
        let mut command = Command::new(&self.binary);
        command
            .arg("up")
            .arg("--config")
            .arg(&self.config)
            .args(["--name", replica.name])
            .arg("--data-dir")
            .arg(&replica.data)
            .args(["--listen", &replica.public.to_string()])
            .args(["--admin-listen", &replica.admin.to_string()])
            .args(["--mesh-listen", &replica.mesh.to_string()])
            .envs([NO_KEY])
            .envs(replica.settings.iter().map(|(name, value)| (name, value)))
            .env("CALLBOARD_STORE__URL", self.servers.postgres.url("callboard"))
            .env("CALLBOARD_RABBITMQ__URL", self.servers.rabbitmq.url())
            .env("CALLBOARD_REDIS__URL", self.servers.redis.url(0))
            .stdout(log.try_clone()?)
            .stderr(log);
        replica.process = Some(guard.spawn(&mut command)?);
        Ok(())
    }

    /// Starts a replica once more, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start: what it said is in the error.
    pub(crate) fn restart(&mut self, guard: &Guard, index: usize) -> Result<()> {
        self.launch(guard, index)?;
        self.replicas.get_mut(index).map_or(Ok(()), Replica::ready)
    }

    /// SIGKILL for a replica.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(replica) = self.replicas.get_mut(index) {
            replica.process = None;
        }
    }

    /// The names of replicas that have ended by themselves.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn ended(&mut self) -> Result<Vec<&'static str>> {
        let mut ended = Vec::new();
        for replica in &mut self.replicas {
            if let Some(process) = &mut replica.process
                && !process.runs()?
            {
                ended.push(replica.name);
            }
        }
        Ok(ended)
    }

    /// The process of each replica. None while it is down.
    pub(crate) fn pids(&self) -> Vec<Option<u32>> {
        self.replicas.iter().map(|replica| replica.process.as_ref().map(Guarded::pid)).collect()
    }

    /// What the first replica answers that is up and knows the answer: `read` is given its page of metrics.
    pub(crate) fn ask<T>(&self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut up = self.replicas.iter().filter(|replica| replica.process.is_some());
        up.find_map(|replica| read(&http::get(replica.admin, "/metrics", PAGE_WITHIN).ok()?))
    }
}

impl Replica {
    fn ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            let Err(error) = http::get(self.admin, "/readyz", PAGE_WITHIN) else { return Ok(()) };
            let runs = self.process.as_mut().map_or(Ok(false), Guarded::runs)?;
            if !runs || Instant::now() > until {
                bail!("replica {} is not ready: {error:#}\n{}", self.name, last_words(&self.log));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The last lines of a log.
pub(crate) fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}

/// Ports that nobody listens on, below those that the system gives to outgoing connections: a replica that is
/// started again must find its own still free.
///
/// # Errors
/// There are not as many.
pub(crate) fn ports(count: usize) -> Result<Vec<u16>> {
    const FROM: u16 = 10_000;
    const RANGE: u16 = 22_000;
    // Runs that begin at the same time look in different places.
    let start = u16::try_from(std::process::id() % u32::from(RANGE)).unwrap_or_default();
    // Held until all are found, so that they differ.
    let mut held = Vec::new();
    for n in 0..RANGE {
        let port = FROM + (start + n) % RANGE;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
            if held.len() == count {
                return Ok(held.into_iter().map(|(port, _)| port).collect());
            }
        }
    }
    bail!("there are no {count} free ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let mut found = ports(9).unwrap();
        assert!(found.iter().all(|port| (10_000..32_000).contains(port)), "{found:?}");
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 9);
    }

    #[test]
    fn the_last_words_are_the_last_lines() {
        let log = std::env::temp_dir().join(format!("callboard-last-words-{}", std::process::id()));
        std::fs::write(&log, (0..30).map(|n| format!("{n}\n")).collect::<String>()).unwrap();
        let words = last_words(&log);
        std::fs::remove_file(&log).unwrap();
        assert!(words.starts_with("10\n") && words.ends_with("29"), "{words}");
        assert_eq!(last_words(Path::new("no-such-file")), "");
    }
}
