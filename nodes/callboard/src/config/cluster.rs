//! What a node needs to be one of a cluster: where its servers are, and how it meets its peers.

use super::{Config, Path, PathBuf, optional_span, span};
use callboard_domain::limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Where the truth about tasks is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In the data folder: one node by itself.
    Sqlite,
    /// In PostgreSQL, with RabbitMQ and Redis beside it: a cluster.
    Postgres,
}

/// A part of what a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Keeps the session, runs the reconcilers. Every node does.
    Supervisor,
    /// Runs tasks.
    Worker,
    /// Calls models; the only one that knows providers' keys.
    ProviderBroker,
    /// Keeps alerts.
    Alert,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Supervisor, Self::Worker, Self::ProviderBroker, Self::Alert];

    /// Its name, as it is configured.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Worker => "worker",
            Self::ProviderBroker => "provider-broker",
            Self::Alert => "alert",
        }
    }
}

/// The store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Which.
    pub backend: Backend,
    /// The address of PostgreSQL, with user, password and database.
    pub url: String,
    /// A file that holds that address.
    pub url_file: PathBuf,
    /// The address past a pooler such as `PgBouncer`; empty: the same.
    pub direct_url: String,
    /// The most connections of this node, at least 11; beside them it has a few of its own, see the file.
    pub connections: u32,
}

/// The hand-off.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitMq {
    /// Its address, with user, password and virtual host.
    pub url: String,
    /// A file that holds that address.
    pub url_file: PathBuf,
    /// What the names of its queues begin with.
    pub prefix: String,
    /// The most messages of one queue.
    pub queue_limit: u32,
}

/// Locks and token buckets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Its address.
    pub url: String,
    /// A file that holds that address.
    pub url_file: PathBuf,
    /// What its keys begin with.
    pub prefix: String,
}

/// How nodes meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// Where other nodes reach this one, as `host:port`; empty: the address it listens on.
    pub advertise: String,
    /// How long a node may be silent before its session is ended.
    #[serde(with = "span")]
    pub session_timeout: Duration,
    /// The cluster's CA.
    pub ca_file: PathBuf,
    /// This node's certificate.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Whether nodes may meet without certificates beyond this machine.
    pub insecure: bool,
}

/// How long what has ended is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// How long tasks are kept after the day of their submission, at least a day; `None`: for ever.
    #[serde(with = "optional_span")]
    pub tasks: Option<Duration>,
}

impl Mesh {
    /// Whether certificates are given.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        [&self.ca_file, &self.cert_file, &self.key_file].iter().all(|file| !file.as_os_str().is_empty())
    }
}

macro_rules! hides_its_address {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            /// Addresses hold passwords.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
hides_its_address!(Store, RabbitMq, Redis);

/// The address that is given, or stands in the file.
///
/// # Errors
/// The file cannot be read.
fn address(url: &str, file: &Path) -> Result<String, String> {
    if !url.is_empty() || file.as_os_str().is_empty() {
        return Ok(url.to_owned());
    }
    let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// Reads the files that hold addresses, and names what is wrong.
pub(super) fn resolve(config: &mut Config, wrong: &mut Vec<String>) {
    let mut read = |key: &str, url: &mut String, file: &Path| match address(url, file) {
        Ok(found) => *url = found,
        Err(error) => wrong.push(format!("{key}.url_file: {error}")),
    };
    read("store", &mut config.store.url, &config.store.url_file);
    read("rabbitmq", &mut config.rabbitmq.url, &config.rabbitmq.url_file);
    read("redis", &mut config.redis.url, &config.redis.url_file);
    check(config, wrong);
}

fn check(config: &Config, wrong: &mut Vec<String>) {
    let mut bad = |key: &str, what: &str| wrong.push(format!("{key}: {what}"));
    if config.node.roles.is_empty() {
        bad("node.roles", "must name at least one of supervisor, worker, provider-broker, alert");
    }
    let session_timeout = config.mesh.session_timeout;
    if session_timeout < Duration::from_secs(2) || session_timeout > Duration::from_secs(60) {
        bad("mesh.session_timeout", "must be 2s to 60s");
    }
    if !(11..=1_000).contains(&config.store.connections) {
        bad("store.connections", "must be 11 to 1000: nine connections write, and others read");
    }
    if config.rabbitmq.queue_limit < 1_000 {
        bad("rabbitmq.queue_limit", "must be at least 1000");
    }
    for (key, prefix) in
        [("rabbitmq.prefix", &config.rabbitmq.prefix), ("redis.prefix", &config.redis.prefix)]
    {
        if prefix.is_empty() || prefix.len() > limits::NAME_CHARS {
            bad(key, &format!("must be 1 to {} characters", limits::NAME_CHARS));
        }
    }
    // Partitions are days.
    if config.retention.tasks.is_some_and(|span| span < DAY) {
        bad("retention.tasks", "must be at least 1d, or empty: for ever");
    }
    if config.store.backend == Backend::Sqlite {
        if config.retention.tasks.is_some() {
            bad(
                "retention.tasks",
                "is for a cluster: a node by itself keeps every task; leave it empty, or set store.backend = \"postgres\"",
            );
        }
        if config.node.roles.len() != Role::ALL.len() {
            bad(
                "node.roles",
                "a node by itself hosts all roles: name them all, or set store.backend = \"postgres\"",
            );
        }
        for (key, url) in [
            ("store.url", &config.store.url),
            ("rabbitmq.url", &config.rabbitmq.url),
            ("redis.url", &config.redis.url),
        ] {
            if !url.is_empty() {
                bad(key, "is for a cluster: set store.backend = \"postgres\" too");
            }
        }
        return;
    }
    let schemes: [(&str, &String, &[&str]); 3] = [
        ("store.url", &config.store.url, &["postgres://", "postgresql://"]),
        ("rabbitmq.url", &config.rabbitmq.url, &["amqp://", "amqps://"]),
        ("redis.url", &config.redis.url, &["redis://", "rediss://"]),
    ];
    for (key, url, schemes) in schemes {
        // The address itself may hold a password: it is not repeated.
        if url.is_empty() {
            bad(key, "is needed with store.backend = \"postgres\"");
        } else if !url.is_empty() && !schemes.iter().any(|scheme| url.starts_with(scheme)) {
            bad(key, &format!("must begin with {}", schemes.join(" or ")));
        }
    }
    let mesh = &config.mesh;
    let files = [&mesh.ca_file, &mesh.cert_file, &mesh.key_file];
    let given = files.iter().filter(|file| !file.as_os_str().is_empty()).count();
    if given != 0 && given != files.len() {
        bad("mesh", "ca_file, cert_file and key_file go together; `callboard certs init` makes all three");
    }
    if given == 0 && !mesh.insecure && !config.listen.mesh.ip().is_loopback() {
        bad(
            "listen.mesh",
            "an address other than loopback needs certificates: `callboard certs init` makes them; or allow it \
             without with mesh.insecure = true",
        );
    }
    if config.listen.mesh.ip().is_unspecified() && mesh.advertise.is_empty() {
        bad("mesh.advertise", "is needed where listen.mesh is every address: the host and port others reach");
    }
    if !mesh.advertise.is_empty()
        && mesh.advertise.rsplit_once(':').is_none_or(|(_, p)| p.parse::<u16>().is_err())
    {
        bad("mesh.advertise", "must be a host and a port, such as node-1:7071");
    }
}
