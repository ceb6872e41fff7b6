//! Replicas as real processes, and the cluster they make.
//!
//! Each cluster has a database and prefixes of its own, each replica a data folder and free ports of its own.
//! What a replica said last is printed when its test fails; none outlives its test.

use crate::load::{DEADLINE, eventually, say};
use crate::node;
use crate::room::{self, Room};
use callboard_client::{Client, Options};
use callboard_testkit::process::{Process, Spec};
use callboard_testkit::services::shared;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What replicas say, as RUST_LOG.
const LOG: &str = "CALLBOARD_TEST_LOG";
/// How long a replica may take to start.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The servers of a cluster, and its part of them.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) postgres: String,
    pub(crate) rabbitmq: (String, String),
    pub(crate) redis: (String, String),
}

impl Servers {
    /// A part of the servers that all tests share.
    pub(crate) async fn shared() -> Self {
        let find = || {
            let postgres = shared::database().unwrap();
            Self { postgres, rabbitmq: shared::rabbitmq().unwrap(), redis: shared::redis().unwrap() }
        };
        tokio::task::spawn_blocking(find).await.unwrap()
    }
}

/// What a replica is.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    name: String,
    env: Vec<(String, String)>,
    with_test_kinds: bool,
    config: Option<PathBuf>,
}

impl Settings {
    /// All roles, 16 slots, the product's kinds.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), env: Vec::new(), with_test_kinds: false, config: None }.slots(16)
    }

    /// How many tasks it runs at once.
    pub(crate) fn slots(self, slots: u32) -> Self {
        self.env("CALLBOARD_WORKER__SLOTS", slots.to_string())
    }

    /// It hosts these roles only.
    pub(crate) fn roles(self, roles: &[&str]) -> Self {
        self.env("CALLBOARD_NODE__ROLES", format!("{roles:?}"))
    }

    /// It runs no tasks: what is asked of it is about tasks of others.
    pub(crate) fn without_worker(self) -> Self {
        self.roles(&["supervisor", "provider-broker", "alert"])
    }

    /// Its configuration is in a file of its own.
    pub(crate) fn config(self, file: impl Into<PathBuf>) -> Self {
        Self { config: Some(file.into()), ..self }
    }

    /// It hosts the kinds of [`node`] too.
    pub(crate) fn with_test_kinds(self) -> Self {
        Self { with_test_kinds: true, ..self }
    }

    /// A variable of its environment; the later one wins.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A port below those that the system gives to outgoing connections, so that a replica that is started again
/// finds its own still free.
pub(crate) fn port() -> u16 {
    loop {
        let port = rand::random_range(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// One replica.
pub(crate) struct Replica {
    /// Its name.
    pub(crate) name: String,
    /// Where it serves, in every life of it.
    pub(crate) api: SocketAddr,
    /// A client of it alone.
    pub(crate) client: Client,
    /// Where it shows its metrics, in this life of it.
    admin: SocketAddr,
    spec: Spec,
    process: Option<Process>,
    lives: usize,
}

impl Replica {
    fn new(settings: &Settings, servers: &Servers, folder: PathBuf) -> Self {
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, port()));
        let own = [
            ("CALLBOARD_NODE__NAME", settings.name.clone()),
            ("CALLBOARD_NODE__DATA_DIR", folder.display().to_string()),
            ("CALLBOARD_LISTEN__PUBLIC", api.to_string()),
            ("CALLBOARD_LISTEN__ADMIN", "127.0.0.1:0".into()),
            ("CALLBOARD_LISTEN__MESH", "127.0.0.1:0".into()),
            ("CALLBOARD_STORE__BACKEND", "postgres".into()),
            ("CALLBOARD_STORE__URL", servers.postgres.clone()),
            ("CALLBOARD_STORE__CONNECTIONS", "11".into()),
            ("CALLBOARD_RABBITMQ__URL", servers.rabbitmq.0.clone()),
            ("CALLBOARD_RABBITMQ__PREFIX", servers.rabbitmq.1.clone()),
            ("CALLBOARD_REDIS__URL", servers.redis.0.clone()),
            ("CALLBOARD_REDIS__PREFIX", servers.redis.1.clone()),
            ("CALLBOARD_LOG__FILTER", std::env::var(LOG).unwrap_or_else(|_| "info".into())),
            // A key in the environment of whoever runs the tests must not cost them anything.
            ("OPENAI_API_KEY", String::new()),
        ];
        let spec = if settings.with_test_kinds {
            Spec::new(std::env::current_exe().unwrap()).args(node::ARGS).env(node::IS_NODE, "1")
        } else {
            Spec::new(env!("CARGO_BIN_EXE_callboard")).args(["up", "--output", "json"])
        };
        let file = settings.config.iter().flat_map(|file| ["--config".into(), file.display().to_string()]);
        let spec = spec.args(file);
        let spec = own.into_iter().fold(spec, |spec, (name, value)| spec.env(name, value));
        let spec = settings.env.iter().fold(spec, |spec, (name, value)| spec.env(name, value));
        let client = client([api]);
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { name: settings.name.clone(), api, client, admin, spec, process: None, lives: 0 }
    }

    /// Starts it, once more on the same data and address, and waits until it serves.
    pub(crate) async fn start(&mut self) {
        let ready = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["api"].as_str()?;
            line["admin"].as_str()?.parse().ok()
        };
        let started = Process::spawn(&self.spec, ready, START_WITHIN).await;
        let (process, admin) =
            started.unwrap_or_else(|e| panic!("replica {} does not start: {e}", self.name));
        self.process = Some(process);
        self.admin = admin;
        self.lives += 1;
    }

    fn process(&mut self) -> &mut Process {
        let name = &self.name;
        self.process.as_mut().unwrap_or_else(|| panic!("replica {name} does not run"))
    }

    /// Its metrics, as `/metrics` shows them: each sample with its labels, if its value is a whole number.
    pub(crate) async fn metrics(&self) -> HashMap<String, u64> {
        let page = self.page().await;
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse::<f64>().ok()?))
        };
        let samples = samples.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}")));
        samples.filter(|(_, value)| value.fract() == 0.0).map(|(name, value)| (name, value as u64)).collect()
    }

    /// The page `/metrics`.
    pub(crate) async fn page(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, page) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        page.to_owned()
    }

    /// What it has said, but for what is long past.
    pub(crate) fn said(&mut self) -> String {
        self.process().output()
    }

    /// Its process id.
    pub(crate) fn pid(&mut self) -> u32 {
        self.process().pid()
    }

    /// Whether its process runs.
    pub(crate) fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.is_running().unwrap())
    }

    /// SIGKILL.
    pub(crate) async fn kill9(&mut self) {
        self.process().kill9().await.unwrap();
    }

    /// Sends it a signal by its name.
    pub(crate) async fn signal(&mut self, name: &str) {
        let mut kill = tokio::process::Command::new("sh");
        kill.args(["-c", "kill -s \"$0\" \"$1\"", name]).arg(self.pid().to_string());
        assert!(kill.status().await.unwrap().success(), "cannot send {name} to {}", self.name);
    }

    /// SIGTERM: it drains, and ends.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.process().terminate(START_WITHIN).await.unwrap()
    }

    /// Waits until its process ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.process().wait(START_WITHIN).await.unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.process.as_ref().map(Process::output).unwrap_or_default();
            say(&format!("---- replica {} (life {}) said last:\n{said}\n----", self.name, self.lives));
        }
    }
}

/// A client of these addresses.
pub(crate) fn client(addresses: impl IntoIterator<Item = SocketAddr>) -> Client {
    let addresses = addresses.into_iter().map(|address| address.to_string()).collect();
    Client::connect(Options { addresses, ..Options::default() }).unwrap()
}

/// Replicas on the same servers.
pub(crate) struct Cluster {
    /// In the order of the settings.
    pub(crate) replicas: Vec<Replica>,
    servers: Servers,
    folder: TempDir,
    _room: Room,
}

impl Cluster {
    /// Replicas named `a`, `b`, and so on, alike, beside another cluster.
    pub(crate) async fn of(replicas: usize) -> Self {
        let names = ["a", "b", "c", "d", "e"];
        let settings: Vec<_> = names[..replicas].iter().map(|name| Settings::new(name)).collect();
        Self::start(room::shared().await, &settings).await
    }

    /// Replicas on the shared servers.
    pub(crate) async fn start(room: Room, settings: &[Settings]) -> Self {
        let servers = Servers::shared().await;
        Self::start_on(room, servers, settings).await
    }

    /// Replicas on given servers.
    pub(crate) async fn start_on(room: Room, servers: Servers, settings: &[Settings]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self { replicas: Vec::new(), servers, folder, _room: room };
        for settings in settings {
            cluster.add(settings).await;
        }
        cluster.settled().await;
        cluster
    }

    /// One more replica, which serves when this returns.
    pub(crate) async fn add(&mut self, settings: &Settings) {
        let mut replica = Replica::new(settings, &self.servers, self.folder.path().join("data"));
        replica.start().await;
        self.replicas.push(replica);
    }

    /// A client of all replicas.
    pub(crate) fn client(&self) -> Client {
        client(self.replicas.iter().map(|replica| replica.api))
    }

    /// The replica of that name.
    pub(crate) fn replica(&mut self, name: &str) -> &mut Replica {
        let found = self.replicas.iter_mut().find(|replica| replica.name == name);
        found.unwrap_or_else(|| panic!("there is no replica {name}"))
    }

    /// Clients of the replicas but one.
    pub(crate) fn others(&self, name: &str) -> Vec<Client> {
        self.replicas.iter().filter(|r| r.name != name).map(|r| r.client.clone()).collect()
    }

    /// Waits until every replica that runs sees all of them, and no others, and reaches each.
    pub(crate) async fn settled(&mut self) {
        let mut names = Vec::new();
        let mut clients = Vec::new();
        for replica in &mut self.replicas {
            if replica.is_up() {
                names.push(replica.name.clone());
                clients.push(replica.client.clone());
            }
        }
        names.sort();
        for client in clients {
            eventually(&format!("{} sees {names:?}", client.address()), DEADLINE, async || {
                let nodes = client.nodes().await.ok()?;
                let well = nodes.iter().all(|node| node.unreachable.is_empty() && node.suspects.is_empty());
                let mut seen: Vec<_> = nodes.into_iter().map(|node| node.name).collect();
                seen.sort();
                (well && seen == names).then_some(())
            })
            .await;
        }
    }

    /// The session of each node, by its name, as a replica sees them.
    pub(crate) async fn sessions(&self, client: &Client) -> Vec<(String, String)> {
        let nodes = client.nodes().await.unwrap();
        let mut sessions: Vec<_> = nodes.into_iter().map(|node| (node.name, node.session_id)).collect();
        sessions.sort();
        sessions
    }
}
