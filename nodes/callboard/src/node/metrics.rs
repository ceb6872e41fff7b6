//! The page `/metrics`, in the text format of Prometheus.
//!
//! Every label has few values, all of them known when the node starts: states, actors, backends, singletons.

use super::wiring::Cluster;
use callboard_backends::handoff::{rabbitmq, relay};
use callboard_backends::token_buckets::redis as token_buckets;
use callboard_contracts::mesh::v1::{GetLoadResponse, GetStatusResponse};
use callboard_domain::State as TaskState;
use callboard_ports::store;
use callboard_runtime::singleton::Standing;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Whether a value may fall.
#[derive(Clone, Copy)]
enum Type {
    Gauge,
    Counter,
}

/// A label, by its name and value.
type Label<'a> = (&'a str, &'a str);

/// What the store counts, or why it does not.
type Counts = Result<[u64; TaskState::ALL.len()], store::Error>;

/// How a node of a cluster stands to its servers.
pub(super) struct Servers {
    rabbitmq: rabbitmq::Stats,
    relay: relay::Standing,
    /// The rows of the outbox, if the store told.
    backlog: Option<u64>,
    repaired: u64,
    limits: token_buckets::Counts,
    buckets: token_buckets::Standing,
    singletons: Vec<(Arc<str>, Standing)>,
}

impl Servers {
    pub(super) fn of(cluster: &Cluster, backlog: Option<u64>) -> Self {
        Self {
            rabbitmq: cluster.brokered.stats(),
            relay: cluster.brokered.relay(),
            backlog,
            repaired: cluster.brokered.repaired(),
            limits: cluster.buckets.counts(),
            buckets: cluster.buckets.standing(),
            singletons: cluster.singletons.standings(),
        }
    }

    /// For how long each has been away, if it is.
    fn away(&self) -> [(&'static str, Option<Duration>); 2] {
        let redis = match &self.buckets {
            token_buckets::Standing::Redis => None,
            token_buckets::Standing::Share { away, .. } => Some(*away),
        };
        [("rabbitmq", self.relay.away.as_ref().map(|(away, _)| *away)), ("redis", redis)]
    }
}

/// The page, as far as it is written.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn text(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, kind: Type, help: &str) {
        let kind = match kind {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: u64) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: Type, help: &str, value: u64) {
        self.head(name, kind, help);
        self.sample(name, &[], value);
    }

    fn by(
        &mut self,
        name: &str,
        kind: Type,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) {
        self.head(name, kind, help);
        for (of, value) in values {
            self.sample(name, &[(label, of.as_ref())], value);
        }
    }

    /// What every node has.
    pub(super) fn node(
        &mut self,
        load: &GetLoadResponse,
        status: &GetStatusResponse,
        resident_bytes: Option<u64>,
    ) {
        let (gauge, counter) = (Type::Gauge, Type::Counter);
        self.one("callboard_worker_slots", gauge, "Tasks that can run at once.", load.slots.into());
        self.one("callboard_worker_slots_used", gauge, "Tasks that run.", load.slots_used.into());
        let mut restarts: Vec<_> = status.actor_restarts.iter().map(|(of, count)| (of, *count)).collect();
        restarts.sort_unstable();
        self.by("callboard_actor_restarts_total", counter, "Restarts of each actor.", "actor", restarts);
        let memory = resident_bytes.unwrap_or(0);
        self.one("callboard_memory_bytes", gauge, "Memory of this process.", memory);
    }

    /// What the store counts, if it answers.
    pub(super) fn tasks(&mut self, counts: &Counts) {
        let Ok(counts) = counts else { return };
        let states = TaskState::ALL.iter().map(|state| format!("{state:?}").to_lowercase());
        let help = "Tasks in each state, in the store: of the whole cluster.";
        self.by("callboard_tasks", Type::Gauge, help, "state", states.zip(counts.iter().copied()));
    }

    /// Whether this node reaches what it stands on. A store that has too much to do is there.
    pub(super) fn backends(&mut self, counts: &Counts, servers: Option<&Servers>) {
        let store_up = u64::from(!matches!(counts, Err(store::Error::Unavailable(_))));
        let (name, help) = ("callboard_backend_up", "Whether this node reaches a backend: 1 or 0.");
        let Some(servers) = servers else {
            return self.by(name, Type::Gauge, help, "backend", [("sqlite", store_up)]);
        };
        let away = servers.away();
        let up = away.iter().map(|(server, away)| (*server, u64::from(away.is_none())));
        let up: Vec<_> = [("postgres", store_up)].into_iter().chain(up).collect();
        self.by(name, Type::Gauge, help, "backend", up);
        let seconds = away.map(|(server, away)| (server, away.map_or(0, |away| away.as_secs())));
        let (name, help) = ("callboard_backend_away_seconds", "For how long a backend has been away.");
        self.by(name, Type::Gauge, help, "backend", seconds);
    }

    /// What only a node of a cluster has.
    pub(super) fn servers(&mut self, servers: &Servers) {
        self.handoff(servers);
        self.limits(servers);
        self.singletons(&servers.singletons);
    }

    fn handoff(&mut self, servers: &Servers) {
        let (gauge, counter) = (Type::Gauge, Type::Counter);
        if let Some(backlog) = servers.backlog {
            let help = "Rows in the outbox, of the whole cluster: tasks that the broker has not confirmed.";
            self.one("callboard_outbox_rows", gauge, help, backlog);
        }
        let waiting = u64::try_from(servers.relay.waiting).unwrap_or(u64::MAX);
        let help = "Tasks that wait in this node's memory to be published.";
        self.one("callboard_relay_waiting_tasks", gauge, help, waiting);
        let stats = &servers.rabbitmq;
        let published = [
            ("confirmed", stats.confirmed),
            ("refused", stats.refused),
            ("returned", stats.returned),
            ("failed", stats.failed),
        ];
        let help = "Messages by what the broker did: took them, refused them as the queue was full, gave them \
                    back as it was gone, or did not answer.";
        self.by("callboard_rabbitmq_published_total", counter, help, "outcome", published);
        let help = "Messages that the broker delivered again.";
        self.one("callboard_rabbitmq_redelivered_total", counter, help, stats.redelivered);
        let help = "Messages that this node could not read.";
        self.one("callboard_rabbitmq_undecodable_total", counter, help, stats.undecodable);
        let help = "Queues that were declared and found empty: new, or lost.";
        self.one("callboard_rabbitmq_queues_declared_total", counter, help, stats.declared);
        let help = "Tasks that the broker had lost and this node handed off again.";
        self.one("callboard_tasks_repaired_total", counter, help, servers.repaired);
    }

    fn limits(&mut self, servers: &Servers) {
        let (gauge, counter) = (Type::Gauge, Type::Counter);
        let counts = &servers.limits;
        let decided = [("redis", counts.by_redis), ("share", counts.by_share)];
        let help = "Calls that were decided by Redis, and by this node's share while it was away.";
        self.by("callboard_token_bucket_calls_total", counter, help, "decided_by", decided);
        let nodes = match &servers.buckets {
            token_buckets::Standing::Redis => 0,
            token_buckets::Standing::Share { nodes, .. } => u64::try_from(*nodes).unwrap_or(u64::MAX),
        };
        let help = "By how many nodes each limit is divided; 0: Redis decides for all together.";
        self.one("callboard_token_bucket_share_nodes", gauge, help, nodes);
        let help = "Chunks of tokens leased from Redis.";
        self.one("callboard_token_bucket_chunks_total", counter, help, counts.chunks);
        self.one("callboard_redis_lost_total", counter, "How often Redis went away.", counts.lost);
    }

    fn singletons(&mut self, standings: &[(Arc<str>, Standing)]) {
        let name = "callboard_singleton_standing";
        let help = "How this node stands to what one node does at a time: 1 where it stands. Held: it does it. \
                    Unavailable: nobody knows who holds the lock. Unlocked: nor that, and every node does it.";
        self.head(name, Type::Gauge, help);
        for (of, standing) in standings {
            let now = match standing {
                Standing::Held { .. } => "held",
                Standing::NotHeld { .. } => "standby",
                Standing::Unavailable { working: false, .. } => "unavailable",
                Standing::Unavailable { working: true, .. } => "unlocked",
            };
            for one in ["held", "standby", "unavailable", "unlocked"] {
                self.sample(name, &[("singleton", of), ("standing", one)], u64::from(one == now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_are_away_are_seen_and_each_family_is_written_once() {
        let share = token_buckets::Standing::Share {
            away: Duration::from_secs(7),
            nodes: 2,
            error: "refused".into(),
        };
        let unlocked = Standing::Unavailable { working: true, error: "refused".into() };
        let servers = Servers {
            rabbitmq: rabbitmq::Stats { confirmed: 5, ..Default::default() },
            relay: relay::Standing::default(),
            backlog: Some(3),
            repaired: 0,
            limits: token_buckets::Counts::default(),
            buckets: share,
            singletons: vec![("repair".into(), unlocked)],
        };
        let away: Counts = Err(store::Error::Unavailable("refused".into()));
        let mut page = Page::default();
        page.tasks(&away);
        page.backends(&away, Some(&servers));
        page.servers(&servers);
        let text = page.text();
        for line in [
            "callboard_backend_up{backend=\"postgres\"} 0",
            "callboard_backend_up{backend=\"rabbitmq\"} 1",
            "callboard_backend_up{backend=\"redis\"} 0",
            "callboard_backend_away_seconds{backend=\"redis\"} 7",
            "callboard_outbox_rows 3",
            "callboard_rabbitmq_published_total{outcome=\"confirmed\"} 5",
            "callboard_token_bucket_share_nodes 2",
            "callboard_singleton_standing{singleton=\"repair\",standing=\"unlocked\"} 1",
            "callboard_singleton_standing{singleton=\"repair\",standing=\"held\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let mut families: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), all, "{text}");
        assert!(!text.contains("callboard_tasks{"), "{text}");
    }
}
