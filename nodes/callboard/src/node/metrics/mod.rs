//! What a node counts, gathered for `/metrics` and for a collector of OpenTelemetry.
//!
//! Everything is read where it is counted, when somebody asks: no part of a node knows a metric's name, and what nobody
//! asks for costs nothing but the counting. What the store knows is asked for within a bound of time and work; it is
//! left out if it does not come. Actors are not asked at all: one that is wedged must not hide the others' values.

mod catalogue;
mod cluster;
mod events;
mod otlp;
mod page;
mod process;
mod push;
mod queues;

pub use catalogue::{ALL as METRICS, Kind as MetricKind, Metric, On as MetricOn};
pub(super) use events::TaskEvents;
pub(super) use page::Page;
pub(super) use push::{Push, Settings as PushSettings};

use super::wiring::{Actors, Cluster, Embedded};
use crate::api::HttpMetrics;
use callboard_backends::trace::otlp::Otlp;
use callboard_domain::State;
use callboard_domain::llm::ErrorKind;
use callboard_ports::metrics::BatchesRead;
use callboard_ports::{Clock, Outbox as _, Store, store};
use callboard_provider_broker::{ArmStatus, BreakerState, Broker, ExperimentStatus, Measured, StageCounts};
use callboard_runtime::mesh::RpcMetrics;
use callboard_supervisor::Node as NodeState;
use callboard_worker::Engine;
use catalogue as m;
use cluster::Servers;
use queues::{BANDS, Queues};
use std::sync::Arc;
use std::time::Duration;

/// How long the store may take for what it is asked.
const DEADLINE: Duration = Duration::from_secs(2);

/// What the store counts, or why it does not.
type Counts = Result<[u64; State::ALL.len()], store::Error>;

/// Where a node's values are.
pub(super) struct Sources {
    pub(super) version: &'static str,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Arc<dyn Store>,
    pub(super) embedded: Option<Embedded>,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) state: Arc<NodeState>,
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) broker: Option<Arc<Broker>>,
    pub(super) actors: Actors,
    pub(super) rpc: RpcMetrics,
    pub(super) http: HttpMetrics,
    pub(super) events: Arc<TaskEvents>,
    pub(super) otlp: Option<Arc<Otlp>>,
}

/// Gathers a node's values.
pub(super) struct Metrics {
    of: Sources,
    queues: Queues,
    started: f64,
}

impl Metrics {
    pub(super) fn new(of: Sources) -> Arc<Self> {
        let queues = Queues::new(Arc::clone(&of.store));
        Arc::new(Self { started: of.clock.now().micros() as f64 / 1e6, of, queues })
    }

    /// All values, now.
    pub(super) async fn page(&self) -> Page {
        let backlog = async {
            let cluster = self.of.cluster.as_ref()?;
            within(cluster.store.backlog()).await.ok()
        };
        let (counts, queues) = (within(self.of.store.counts()), within(self.queues.read()));
        let (counts, queues, backlog) = tokio::join!(counts, queues, backlog);
        let mut page = Page::new(self.of.cluster.is_some());
        let store = if self.of.cluster.is_some() { "postgres" } else { "sqlite" };
        page.add(m::BUILD, &[self.of.version, store], 1u64);
        self.rpcs(&mut page);
        self.https(&mut page);
        tasks(&mut page, &counts);
        page.by(m::TASK_EVENTS, self.of.events.read());
        self.waiting(&mut page, queues.unwrap_or_default());
        self.worker(&mut page);
        self.commits(&mut page);
        self.node(&mut page);
        self.providers(&mut page);
        let spans = self.of.otlp.as_ref().map(|otlp| otlp.stats()).unwrap_or_default();
        page.by(m::SPANS, [("exported", spans.exported), ("failed", spans.failed)]);
        process::show(&mut page, self.started);
        let servers = self.of.cluster.as_ref().map(|cluster| Servers::of(cluster, backlog));
        cluster::backends(&mut page, &counts, servers.as_ref());
        if let (Some(cluster), Some(servers)) = (&self.of.cluster, &servers) {
            cluster::members(&mut page, cluster, self.of.state.renewed_ago());
            servers.show(&mut page);
        }
        page
    }

    fn rpcs(&self, page: &mut Page) {
        for method in self.of.rpc.read() {
            let of = [method.service.as_str(), method.method.as_str()];
            for (code, count) in method.ended {
                page.add(m::RPC_REQUESTS, &[of[0], of[1], code], count);
            }
            page.add(m::RPC_OPEN, &of, method.open);
            if let Some(took) = method.took {
                page.add(m::RPC_DURATION, &of, took);
            }
        }
    }

    fn https(&self, page: &mut Page) {
        for route in self.of.http.read() {
            for (outcome, count) in route.ended {
                page.add(m::HTTP_REQUESTS, &[route.route, outcome], count);
            }
            page.add(m::HTTP_OPEN, &[route.route], route.open);
            page.add(m::HTTP_DURATION, &[route.route], route.took);
        }
    }

    fn waiting(&self, page: &mut Page, queues: Vec<queues::Queue>) {
        let now = self.of.clock.now();
        for queue in queues {
            for (band, count) in BANDS.into_iter().zip(queue.bands) {
                page.add(m::QUEUE_DEPTH, &[&queue.name, band], count);
            }
            if let Some(since) = queue.since {
                page.add(m::QUEUE_AGE, &[&queue.name], now.since(since));
            }
        }
    }

    fn worker(&self, page: &mut Page) {
        let Some(engine) = &self.of.engine else { return };
        let (load, stats) = (engine.load(), engine.stats());
        page.add(m::SLOTS, &[], load.slots);
        page.add(m::SLOTS_USED, &[], load.slots_used);
        page.add(m::CLAIMED, &[], load.claimed);
        page.add(m::WAITING_RESULTS, &[], load.waiting_results);
        page.add(m::HANDOFF_LAG, &[], stats.waited);
        for kind in stats.kinds {
            for (outcome, count) in kind.ended {
                page.add(m::ATTEMPTS, &[&kind.kind, outcome], count);
            }
            page.add(m::ATTEMPT_DURATION, &[&kind.kind], kind.took);
        }
        page.add(m::STALE_RESULTS, &[], stats.stale);
        page.by(m::DELIVERIES_UNUSED, [("gone", stats.gone), ("not_hosted", stats.not_mine)]);
    }

    fn commits(&self, page: &mut Page) {
        let mut show = |writes: &str, read: BatchesRead| {
            page.add(m::BATCH_ROWS, &[writes], read.rows);
            page.add(m::BATCH_DURATION, &[writes], read.took);
            page.add(m::BATCH_WAITING, &[writes], read.waiting);
        };
        if let Some(embedded) = &self.of.embedded {
            show("all", embedded.store.batches());
        }
        if let Some(cluster) = &self.of.cluster {
            cluster.store.batches().into_iter().for_each(|(writes, read)| show(writes, read));
        }
    }

    fn node(&self, page: &mut Page) {
        let session = self.of.state.session();
        page.add(m::SESSION_HELD, &[], session.is_some());
        // The id of a session begins with the time of its opening, as this node's clock had it.
        let opened = session.and_then(|id| uuid::Uuid::from_bytes(*id.as_bytes()).get_timestamp());
        if let Some(opened) = opened {
            let (seconds, nanos) = opened.to_unix();
            let opened = seconds as f64 + f64::from(nanos) / 1e9;
            page.add(m::SESSION_AGE, &[], (self.of.clock.now().micros() as f64 / 1e6 - opened).max(0.0));
        }
        let restarts = self.of.state.restarts();
        for (actor, waiting) in self.of.actors.waiting() {
            page.add(m::RESTARTS, &[actor], restarts.get(actor).copied().unwrap_or_default());
            page.add(m::MAILBOX, &[actor], waiting);
        }
    }

    fn providers(&self, page: &mut Page) {
        let Some(broker) = &self.of.broker else { return };
        for provider in broker.counts() {
            page.add(m::PROVIDER_REQUESTS, &[&provider.name, "OK"], provider.successes);
            for (kind, count) in provider.failures {
                page.add(m::PROVIDER_REQUESTS, &[&provider.name, kind.reason()], count);
            }
            gen_ai(page, &provider.name, provider.telemetry_name, provider.measured);
            for state in BreakerState::ALL {
                page.add(m::PROVIDER_BREAKER, &[&provider.name, state.as_str()], state == provider.breaker);
            }
            page.add(m::PROVIDER_TRIPS, &[&provider.name], provider.trips);
            page.add(m::PROVIDER_RETRIES, &[&provider.name, "made"], provider.retries);
            page.add(m::PROVIDER_RETRIES, &[&provider.name, "refused"], provider.retries_refused);
            page.add(m::PROVIDER_MAYBE_BILLED, &[&provider.name], provider.sent_after_billing);
            for (model, amount) in &provider.costs {
                page.add(m::PROVIDER_COST, &[&provider.name, model], amount.dollars());
            }
            for quota in &provider.quotas {
                page.add(
                    m::QUOTA_USED,
                    &[&provider.name, &quota.name()],
                    quota.used as f64 / quota.limit as f64,
                );
            }
        }
        for budget in broker.budgets() {
            let used = budget.spent.dollars() / budget.limit.dollars();
            page.add(m::BUDGET_USED, &[&budget.namespace], used);
        }
        page.by(m::LIMIT_LEFT, broker.limits_left());
        stages(page, broker.stage_counts());
        experiments(page, &broker.experiments());
    }
}

/// How calls to a provider went, by the names of OpenTelemetry's conventions.
fn gen_ai(page: &mut Page, provider: &str, system: &str, measured: Vec<Measured>) {
    for Measured { operation, model, took, first_chunk, input_tokens, output_tokens } in measured {
        let model = &*model;
        for (error, took) in took {
            let error = error.map_or("", ErrorKind::reason);
            page.add(m::GEN_AI_DURATION, &[operation, system, model, error, provider], took);
        }
        if let Some(first_chunk) = first_chunk {
            page.add(m::GEN_AI_FIRST_CHUNK, &[operation, system, model, provider], first_chunk);
        }
        for (kind, tokens) in [("input", input_tokens), ("output", output_tokens)] {
            if let Some(tokens) = tokens {
                page.add(m::GEN_AI_TOKENS, &[operation, system, model, kind, provider], tokens);
            }
        }
    }
}

/// What came of the arms of experiments.
fn experiments(page: &mut Page, list: &[ExperimentStatus]) {
    for experiment in list {
        for ArmStatus { name, own: tally, fraction, .. } in &experiment.arms {
            let experiment = &*experiment.name;
            page.add(m::EXPERIMENT_CALLS, &[experiment, name, "answered"], tally.successes);
            page.add(m::EXPERIMENT_CALLS, &[experiment, name, "failed"], tally.failures);
            let seconds = tally.seconds.mean * tally.seconds.count as f64;
            let of = [experiment, name];
            page.add(m::EXPERIMENT_TIME, &of, seconds);
            page.add(m::EXPERIMENT_SHARE, &of, *fraction);
            page.add(m::EXPERIMENT_TOKENS, &of, tally.tokens);
            page.add(m::EXPERIMENT_COST, &of, tally.cost.dollars());
            page.add(m::EXPERIMENT_SCORES, &of, tally.score.count);
            page.add(m::EXPERIMENT_SCORE, &of, tally.score.mean * tally.score.count as f64);
        }
    }
}

/// What calls passed before providers, and what is kept of them.
fn stages(page: &mut Page, counts: StageCounts) {
    let StageCounts { hits, misses, shared, replayed, made_do, conflicts, .. } = counts;
    let sources = [("exact", hits), ("shared", shared), ("replayed", replayed), ("similar", made_do)];
    page.by(m::REUSED, sources);
    page.by(m::CACHE_LOOKUPS, [("hit", hits), ("miss", misses)]);
    let warmed = [("warmed", counts.warmed), ("failed", counts.not_warmed), ("held", counts.held)];
    page.by(m::CACHE_WARMED, warmed);
    let caches = [("exact", counts.cached), ("idempotency", counts.by_key), ("similar", counts.similar)];
    for (cache, (entries, bytes)) in caches {
        page.add(m::CACHE_ENTRIES, &[cache], entries);
        page.add(m::CACHE_BYTES, &[cache], bytes);
    }
    page.add(m::KEY_CONFLICTS, &[], conflicts);
    page.by(m::REDACTED, counts.redacted);
}

/// What the store counts, if it answers.
fn tasks(page: &mut Page, counts: &Counts) {
    let Ok(counts) = counts else { return };
    let states = State::ALL.iter().map(|state| format!("{state:?}").to_lowercase());
    page.by(m::TASKS, states.zip(counts.iter().copied()));
}

/// Asks the store, for a bounded time.
async fn within<T>(asked: impl Future<Output = Result<T, store::Error>>) -> Result<T, store::Error> {
    let late = |_| Err(store::Error::Unavailable("no answer in time".into()));
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(late)
}
