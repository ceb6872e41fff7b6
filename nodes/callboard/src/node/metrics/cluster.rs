//! How a node of a cluster stands to its servers and to the other nodes.

use super::super::wiring::Cluster;
use super::Counts;
use super::catalogue as m;
use super::page::Page;
use callboard_backends::handoff::{rabbitmq, relay};
use callboard_backends::token_buckets::redis as token_buckets;
use callboard_ports::metrics::Distribution;
use callboard_ports::store;
use callboard_runtime::singleton::Standing;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a node of a cluster stands to its servers.
pub(super) struct Servers {
    rabbitmq: rabbitmq::Stats,
    relay: relay::Standing,
    /// How long publishing took.
    published: Distribution,
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
            published: cluster.brokered.published(),
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

    pub(super) fn show(&self, page: &mut Page) {
        self.handoff(page);
        self.limits(page);
        self.singletons(page);
    }

    fn handoff(&self, page: &mut Page) {
        if let Some(backlog) = self.backlog {
            page.add(m::OUTBOX, &[], backlog);
        }
        page.add(m::RELAY_WAITING, &[], self.relay.waiting);
        page.add(m::RELAY_PUBLISH, &[], self.published.clone());
        let stats = &self.rabbitmq;
        let published = [
            ("confirmed", stats.confirmed),
            ("refused", stats.refused),
            ("returned", stats.returned),
            ("failed", stats.failed),
        ];
        page.by(m::PUBLISHED, published);
        page.add(m::REDELIVERED, &[], stats.redelivered);
        page.add(m::UNDECODABLE, &[], stats.undecodable);
        page.add(m::DECLARED, &[], stats.declared);
        page.add(m::REPAIRED, &[], self.repaired);
    }

    fn limits(&self, page: &mut Page) {
        let counts = &self.limits;
        page.by(m::BUCKET_CALLS, [("redis", counts.by_redis), ("share", counts.by_share)]);
        let nodes = match &self.buckets {
            token_buckets::Standing::Redis => 0,
            token_buckets::Standing::Share { nodes, .. } => *nodes,
        };
        page.add(m::BUCKET_NODES, &[], nodes);
        page.add(m::BUCKET_CHUNKS, &[], counts.chunks);
        page.add(m::REDIS_LOST, &[], counts.lost);
    }

    fn singletons(&self, page: &mut Page) {
        for (of, standing) in &self.singletons {
            let now = match standing {
                Standing::Held { .. } => "held",
                Standing::NotHeld { .. } => "standby",
                Standing::Unavailable { working: false, .. } => "unavailable",
                Standing::Unavailable { working: true, .. } => "unlocked",
            };
            for one in ["held", "standby", "unavailable", "unlocked"] {
                page.add(m::SINGLETON, &[of, one], one == now);
            }
        }
    }
}

/// Whether this node reaches what it stands on. A store that has too much to do is there.
pub(super) fn backends(page: &mut Page, counts: &Counts, servers: Option<&Servers>) {
    let store_up = !matches!(counts, Err(store::Error::Unavailable(_)));
    let Some(servers) = servers else {
        return page.add(m::BACKEND_UP, &["sqlite"], store_up);
    };
    page.add(m::BACKEND_UP, &["postgres"], store_up);
    for (server, away) in servers.away() {
        page.add(m::BACKEND_UP, &[server], away.is_none());
        page.add(m::AWAY, &[server], away.map_or(0, |away| away.as_secs()));
    }
}

/// How it stands to the other nodes.
pub(super) fn members(page: &mut Page, cluster: &Cluster, renewed_ago: Option<Duration>) {
    page.add(m::NODES, &[], cluster.nodes.load(Ordering::Relaxed));
    page.add(m::SUSPECTED, &[], cluster.peers.suspects().len());
    if let Some(ago) = renewed_ago {
        page.add(m::RENEWAL_AGE, &[], ago);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_ports::metrics::{FAST, Histogram};

    #[test]
    fn servers_that_are_away_are_seen() {
        let share = token_buckets::Standing::Share {
            away: Duration::from_secs(7),
            nodes: 2,
            error: "refused".into(),
        };
        let unlocked = Standing::Unavailable { working: true, error: "refused".into() };
        let servers = Servers {
            rabbitmq: rabbitmq::Stats { confirmed: 5, ..Default::default() },
            relay: relay::Standing::default(),
            published: Histogram::new(FAST).read(),
            backlog: Some(3),
            repaired: 0,
            limits: token_buckets::Counts::default(),
            buckets: share,
            singletons: vec![("repair".into(), unlocked)],
        };
        let away: Counts = Err(store::Error::Unavailable("refused".into()));
        let mut page = Page::new(true);
        super::super::tasks(&mut page, &away);
        backends(&mut page, &away, Some(&servers));
        servers.show(&mut page);
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
        assert!(!text.contains("callboard_tasks{"), "{text}");
    }
}
