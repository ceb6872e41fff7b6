//! The configuration: one TOML file with comments, every key of which an environment variable can set.

mod cluster;
#[cfg(test)]
mod commented;
mod form;
mod openai;
#[cfg(test)]
mod providers;

pub use cluster::{Backend, Mesh, RabbitMq, Redis, Retention, Role, Store};
pub use openai::{Alias, Key, KeyHash, KeyRole, OpenAi};

use callboard_domain::limits;
use callboard_provider_broker as broker;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use form::{optional_address, optional_span, span};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The default configuration with its comments, as `callboard config default` prints it.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// The prefix of the environment variables that set keys.
const PREFIX: &str = "CALLBOARD_";

/// The configuration of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who the node is.
    pub node: Node,
    /// Where it can be reached.
    pub listen: Listen,
    /// How it works.
    pub worker: Worker,
    /// Where the truth is kept.
    pub store: Store,
    /// What hands tasks off in a cluster.
    pub rabbitmq: RabbitMq,
    /// What holds locks and token buckets in a cluster.
    pub redis: Redis,
    /// How the nodes of a cluster meet.
    pub mesh: Mesh,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// What it refuses.
    pub limits: Limits,
    /// What it logs.
    pub log: Log,
    /// What it records.
    pub traces: Traces,
    /// Its providers.
    pub broker: broker::Config,
    /// The endpoint that speaks OpenAI's API.
    pub openai: OpenAi,
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name; empty: the host's.
    pub name: String,
    /// The folder that holds its data.
    pub data_dir: PathBuf,
    /// What it does.
    pub roles: Vec<Role>,
    /// How long running tasks may go on when it stops.
    #[serde(with = "span")]
    pub drain_grace: Duration,
}

/// Where the node can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where operators look, if anywhere.
    #[serde(with = "optional_address")]
    pub admin: Option<SocketAddr>,
    /// Where other nodes connect, in a cluster.
    pub mesh: SocketAddr,
    /// Whether other than loopback addresses are allowed.
    pub insecure: bool,
}

/// How the worker works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// How many tasks run at once.
    pub slots: usize,
    /// The queues to take from; empty: all.
    pub queues: Vec<String>,
    /// How long a handler may go on after a cancel was asked for.
    #[serde(with = "span")]
    pub cancel_grace: Duration,
}

/// What the node refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many tasks may wait.
    pub waiting_tasks: u64,
}

/// What the node logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Which lines.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// What the node records. Where to is said by OpenTelemetry's variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// What takes so long is kept though its trace is not sampled.
    #[serde(with = "span")]
    pub slow: Duration,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Keys that do not exist, or values that are wrong.
    #[error("the configuration is wrong:\n  {}\n`callboard config default` prints every key", .0.join("\n  "))]
    Wrong(Vec<String>),
}

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `node.name`.
    pub name: Option<String>,
    /// `node.data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `listen.public`.
    pub public: Option<String>,
    /// `listen.admin`.
    pub admin: Option<String>,
    /// `listen.insecure`.
    pub insecure: bool,
    /// `listen.mesh`.
    pub mesh: Option<String>,
    /// Added to the ports of all listeners, so that several nodes fit on one machine.
    pub port_offset: u16,
    /// `node.roles`.
    pub roles: Vec<Role>,
    /// `worker.slots`.
    pub slots: Option<usize>,
    /// Puts a provider with this base URL first.
    pub openai_base_url: Option<String>,
    /// The model it uses.
    pub openai_model: Option<String>,
}

/// Reads the configuration: defaults, a file, the environment, the command line, the later winning.
///
/// # Errors
/// The file cannot be read, or something in it or in the environment is wrong.
pub fn load(
    file: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Config, Error> {
    let mut figment = Figment::from(Toml::string(DEFAULT));
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        figment = figment.merge(Toml::string(&text));
    }
    // Variables without a section, such as CALLBOARD_ADDR, are the command line's.
    figment = figment.merge(Env::prefixed(PREFIX).filter(|key| key.as_str().contains("__")).split("__"));
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            figment = std::mem::take(&mut figment).merge(Serialized::default(key, value));
        }
    };
    set("node.name", overrides.name.clone());
    set("node.data_dir", overrides.data_dir.as_ref().map(|p| p.display().to_string()));
    set("listen.public", overrides.public.clone());
    set("listen.admin", overrides.admin.clone());
    set("listen.mesh", overrides.mesh.clone());
    if !overrides.roles.is_empty() {
        figment = figment.merge(Serialized::default("node.roles", &overrides.roles));
    }
    if let Some(slots) = overrides.slots {
        figment = figment.merge(Serialized::default("worker.slots", slots));
    }
    if overrides.insecure {
        figment = figment.merge(Serialized::default("listen.insecure", true));
    }
    let named = figment.contains("broker.providers");
    let mut config: Config = figment.extract().map_err(wrong)?;
    if !named {
        config.broker.providers = broker::Config::from_env_defaults(env).providers;
    }
    if let Some(url) = &overrides.openai_base_url {
        config.broker = config.broker.with_openai_base_url(url, overrides.openai_model.clone());
    } else if let Some(model) = &overrides.openai_model {
        let openai = config.broker.providers.iter_mut().find(|p| p.name == "openai");
        match openai {
            Some(provider) => provider.text_model = Some(model.clone()),
            None => {
                let message = "--openai-model: there is no provider `openai`: set OPENAI_API_KEY, or give --openai-base-url";
                return Err(Error::Wrong(vec![message.into()]));
            }
        }
    }
    shift(&mut config, overrides.port_offset)?;
    check(config)
}

/// Moves the ports of all listeners; a port that the system chooses stays so.
fn shift(config: &mut Config, offset: u16) -> Result<(), Error> {
    let listeners = [
        ("listen.public", Some(&mut config.listen.public)),
        ("listen.admin", config.listen.admin.as_mut()),
        ("listen.mesh", Some(&mut config.listen.mesh)),
    ];
    for (key, address) in listeners {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        let port = address.port().checked_add(offset);
        let port = port.ok_or_else(|| {
            Error::Wrong(vec![format!("{key}: {} and --port-offset {offset} is no port", address.port())])
        })?;
        address.set_port(port);
    }
    Ok(())
}

fn wrong(error: figment::Error) -> Error {
    let one = |error: figment::Error| {
        let key = error.path.join(".");
        let variable = error.metadata.as_ref().is_some_and(|m| m.name.contains("environment"));
        let place = if variable {
            format!(" (in the environment: {PREFIX}{})", key.to_uppercase().replace('.', "__"))
        } else {
            String::new()
        };
        match key.is_empty() {
            true => format!("{}{place}", error.kind),
            false => format!("{key}: {}{place}", error.kind),
        }
    };
    Error::Wrong(error.into_iter().map(one).collect())
}

fn check(mut config: Config) -> Result<Config, Error> {
    let mut wrong = Vec::new();
    cluster::resolve(&mut config, &mut wrong);
    let mut bad = |key: &str, what: String| wrong.push(format!("{key}: {what}"));
    if !(1..=10_000).contains(&config.worker.slots) {
        bad("worker.slots", format!("must be 1 to 10000, not {}", config.worker.slots));
    }
    if config.node.name.len() > limits::NAME_CHARS {
        bad("node.name", format!("must be at most {} characters", limits::NAME_CHARS));
    }
    if config.limits.waiting_tasks == 0 {
        bad("limits.waiting_tasks", "must be over zero".into());
    }
    for (key, span) in
        [("node.drain_grace", config.node.drain_grace), ("worker.cancel_grace", config.worker.cancel_grace)]
    {
        if span > limits::TIMEOUT {
            bad(key, "must be at most 24h".into());
        }
    }
    if let Err(why) = crate::log::parse(&config.log.filter) {
        bad("log.filter", why);
    }
    for violation in config.broker.violations() {
        bad(&format!("broker.{}", violation.field), violation.description);
    }
    // Which providers there are is known where they are called from.
    let providers =
        config.node.roles.contains(&Role::ProviderBroker).then_some(config.broker.providers.as_slice());
    openai::check(&config.openai, providers, &mut bad);
    let open = [Some(config.listen.public), config.listen.admin];
    if !config.listen.insecure && open.iter().flatten().any(|a| !a.ip().is_loopback()) {
        bad(
            "listen",
            "an address other than loopback would let anyone who reaches it run tasks: this version has neither \
             TLS nor access control. Put a proxy that has them in front, or allow it with --insecure"
                .into(),
        );
    }
    if wrong.is_empty() { Ok(config) } else { Err(Error::Wrong(wrong)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figment::Provider;

    fn with_file(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), &|_| None, &Overrides::default())
    }

    fn wrong(text: &str) -> String {
        with_file(text).unwrap_err().to_string()
    }

    #[test]
    fn the_default_file_is_complete_and_true() {
        let config = load(None, &|_| None, &Overrides::default()).unwrap();
        assert_eq!(config.broker, broker::Config::default());
        assert_eq!(config.worker.slots, 64);
        // Every key that exists stands in the file.
        let keys = Figment::from(Serialized::defaults(&config));
        let file = Figment::from(Toml::string(DEFAULT));
        for (section, value) in keys.data().unwrap().remove(&figment::Profile::Default).unwrap() {
            for (key, _) in value.into_dict().unwrap() {
                let key = format!("{section}.{key}");
                let commented = DEFAULT.contains(&format!("\n# [[{key}]]\n"));
                assert!(commented || file.contains(&key), "{key} is missing");
            }
        }
    }

    #[test]
    fn a_wrong_key_or_value_is_named() {
        assert!(wrong("[worker]\nslotz = 3").contains("slotz"), "{}", wrong("[worker]\nslotz = 3"));
        assert!(wrong("[worker]\nslots = \"many\"").contains("worker.slots"));
        assert!(wrong("[worker]\nslots = 0").contains("worker.slots: must be 1 to 10000"));
        assert!(wrong("[node]\ndrain_grace = \"10\"").contains("node.drain_grace"));
        assert!(wrong("[listen]\npublic = \"0.0.0.0:7070\"").contains("--insecure"));
        assert!(with_file("[listen]\npublic = \"0.0.0.0:7070\"\ninsecure = true").is_ok());
        assert!(
            wrong("[[broker.providers]]\nname = \"A b\"\nadapter = \"offline\"")
                .contains("broker.providers[0].name")
        );
        let offline = "[[broker.providers]]\nname = \"a\"\nadapter = \"offline\"\n";
        let limit = |text: &str| format!("{offline}[[broker.limits]]\n{text}");
        assert!(with_file(&limit("provider = \"a\"\nrequests_per_minute = 600\nburst = \"6s\"")).is_ok());
        for (text, field) in [
            ("provider = \"a\"", "requests_per_minute"),
            ("provider = \"b\"\ntokens_per_minute = 1", "provider"),
            ("model = \"m\"\ntokens_per_minute = 1", "model"),
            ("tokens_per_minute = 0", "tokens_per_minute"),
            ("tokens_per_minute = 1\nburst = \"2h\"", "burst"),
        ] {
            let said = wrong(&limit(text));
            assert!(said.contains(&format!("broker.limits[0].{field}")), "{said}");
        }
    }

    const CLUSTER: &str = "[store]\nbackend = \"postgres\"\nurl = \"postgres://a:secret@db/c\"\n\
        [rabbitmq]\nurl = \"amqp://mq\"\n[redis]\nurl = \"redis://r\"\n";

    #[test]
    fn a_cluster_names_its_servers_and_never_says_their_passwords() {
        let config = with_file(CLUSTER).unwrap();
        assert_eq!(config.store.backend, Backend::Postgres);
        assert!(!format!("{config:?}").contains("secret"));
        let missing = wrong("[store]\nbackend = \"postgres\"");
        for key in ["store.url", "rabbitmq.url", "redis.url"] {
            assert!(missing.contains(&format!("{key}: is needed")), "{missing}");
        }
        assert!(wrong("[redis]\nurl = \"redis://r\"").contains("redis.url: is for a cluster"));
        assert!(wrong("[store]\nbackend = \"mysql\"").contains("store.backend"));
        let scheme = wrong(&CLUSTER.replace("amqp://", "http://"));
        assert!(scheme.contains("rabbitmq.url: must begin with amqp://"), "{scheme}");
        let open = wrong(&format!("{CLUSTER}[listen]\nmesh = \"0.0.0.0:7071\""));
        assert!(open.contains("callboard certs init") && open.contains("mesh.advertise"), "{open}");
        let half = wrong(&format!("{CLUSTER}[mesh]\nca_file = \"ca.pem\""));
        assert!(half.contains("go together"), "{half}");
        let few = wrong(&CLUSTER.replace("[store]\n", "[store]\nconnections = 10\n"));
        assert!(few.contains("store.connections: must be 11 to 1000"), "{few}");
        assert!(with_file(&format!("{CLUSTER}[mesh]\nadvertise = \"auto:7071\"")).is_ok());
        assert!(wrong("[node]\nroles = [\"worker\"]").contains("node.roles"));
        assert!(with_file(&format!("{CLUSTER}[node]\nroles = [\"worker\"]")).is_ok());
    }

    #[test]
    fn tasks_are_kept_for_ever_or_for_some_days_in_a_cluster() {
        let kept = |span: &str| with_file(&format!("{CLUSTER}[retention]\ntasks = \"{span}\""));
        assert_eq!(with_file(CLUSTER).unwrap().retention.tasks, None);
        assert_eq!(kept("").unwrap().retention.tasks, None);
        assert_eq!(kept("30d").unwrap().retention.tasks, Some(Duration::from_secs(30 * 86_400)));
        let short = kept("23h").unwrap_err().to_string();
        assert!(short.contains("retention.tasks: must be at least 1d"), "{short}");
        assert!(kept("a month").unwrap_err().to_string().contains("retention.tasks"));
        let embedded = wrong("[retention]\ntasks = \"30d\"");
        assert!(embedded.contains("retention.tasks: is for a cluster"), "{embedded}");
    }

    #[test]
    fn an_address_may_stand_in_a_file_and_ports_move_together() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("url");
        std::fs::write(&secret, "postgres://from-a-file\n").unwrap();
        let text = CLUSTER.replace("url = \"postgres://a:secret@db/c\"", &format!("url_file = {secret:?}"));
        assert_eq!(with_file(&text).unwrap().store.url, "postgres://from-a-file");
        let overrides = Overrides { port_offset: 100, ..Overrides::default() };
        let config = load(None, &|_| None, &overrides).unwrap();
        let ports =
            [config.listen.public, config.listen.admin.unwrap(), config.listen.mesh].map(|a| a.port());
        assert_eq!(ports, [7170, 7172, 7171]);
        let far = Overrides { port_offset: 60_000, ..Overrides::default() };
        assert!(load(None, &|_| None, &far).unwrap_err().to_string().contains("--port-offset"));
    }

    #[test]
    fn a_key_in_the_environment_puts_openai_first_and_the_command_line_wins() {
        let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-1".to_owned());
        let names = |overrides: &Overrides| -> Vec<String> {
            load(None, &env, overrides).unwrap().broker.providers.into_iter().map(|p| p.name).collect()
        };
        assert_eq!(names(&Overrides::default()), ["openai", "offline"]);
        let url = Some("http://localhost:11434/v1".to_owned());
        let overrides = Overrides { openai_base_url: url.clone(), slots: Some(3), ..Overrides::default() };
        let config = load(None, &env, &overrides).unwrap();
        assert_eq!((config.broker.providers[0].base_url.clone(), config.worker.slots), (url, 3));
    }
}
