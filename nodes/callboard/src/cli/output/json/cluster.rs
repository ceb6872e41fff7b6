//! Nodes, providers, kinds, alerts and generated texts.

use super::providers::{Attempt, Switch, Weight};
use super::{raw, seconds, set, time};
use crate::cli::output::style::word;
use callboard_client::v1;
use callboard_domain::Money;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The nodes.
#[derive(Serialize)]
pub struct Nodes<'a> {
    nodes: Vec<Node<'a>>,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    session_id: &'a str,
    version: &'a str,
    roles: &'a [String],
    started_at: Option<String>,
    draining: bool,
    slots: u32,
    slots_used: u32,
    actor_restarts: BTreeMap<&'a String, u64>,
    memory_bytes: u64,
    addresses: BTreeMap<&'a String, &'a String>,
    data_dir: Option<&'a str>,
    suspects: Vec<Suspicion<'a>>,
    backends: BTreeMap<&'a String, &'a String>,
    unreachable: Option<&'a str>,
}

#[derive(Serialize)]
struct Suspicion<'a> {
    node: &'a str,
    reason: &'a str,
    since: Option<String>,
}

/// What became of a node that was told to leave.
#[derive(Serialize)]
pub struct Drained {
    took_seconds: Option<f64>,
}

impl From<&v1::DrainNodeResponse> for Drained {
    fn from(left: &v1::DrainNodeResponse) -> Self {
        Self { took_seconds: seconds(left.took.as_ref()) }
    }
}

/// What nodes log.
#[derive(Serialize)]
pub struct LogFilters<'a> {
    nodes: Vec<LogFilter<'a>>,
}

#[derive(Serialize)]
struct LogFilter<'a> {
    node: &'a str,
    filter: Option<&'a str>,
    previous: Option<&'a str>,
    error: Option<&'a str>,
}

impl<'a> LogFilters<'a> {
    /// What nodes answered to a filter, or to the question what theirs is.
    #[must_use]
    pub fn new(nodes: &'a [v1::NodeLogFilter], set: Option<&'a str>) -> Self {
        let nodes = nodes.iter().map(|answer| {
            let said = Some(answer.previous.as_str()).filter(|_| answer.error.is_empty());
            LogFilter {
                node: &answer.node,
                filter: said.map(|said| set.unwrap_or(said)),
                previous: said.filter(|_| set.is_some()),
                error: super::set(&answer.error),
            }
        });
        Self { nodes: nodes.collect() }
    }
}

impl<'a> From<&'a [v1::Node]> for Nodes<'a> {
    fn from(nodes: &'a [v1::Node]) -> Self {
        let nodes = nodes.iter().map(|n| Node {
            name: &n.name,
            session_id: &n.session_id,
            version: &n.version,
            roles: &n.roles,
            started_at: time(n.started_at.as_ref()),
            draining: n.draining,
            slots: n.slots,
            slots_used: n.slots_used,
            actor_restarts: n.actor_restarts.iter().map(|(name, count)| (name, *count)).collect(),
            memory_bytes: n.memory_bytes,
            addresses: n.addresses.iter().collect(),
            data_dir: set(&n.data_dir),
            suspects: n
                .suspects
                .iter()
                .map(|s| Suspicion { node: &s.node, reason: &s.reason, since: time(s.since.as_ref()) })
                .collect(),
            backends: n.backends.iter().collect(),
            unreachable: set(&n.unreachable),
        });
        Self { nodes: nodes.collect() }
    }
}

/// An amount of picodollars, in dollars and exact.
fn usd(amount: i64) -> String {
    Money::from_picodollars(amount).to_string()
}

#[derive(Serialize)]
struct Quota<'a> {
    name: &'a str,
    used: u64,
    limit: u64,
    resets_at: Option<String>,
    spent_at: Option<String>,
}

impl<'a> From<&'a v1::ProviderQuota> for Quota<'a> {
    fn from(quota: &'a v1::ProviderQuota) -> Self {
        Self {
            name: &quota.name,
            used: quota.used,
            limit: quota.limit,
            resets_at: time(quota.resets_at.as_ref()),
            spent_at: time(quota.spent_at.as_ref()),
        }
    }
}

#[derive(Serialize)]
struct Budget<'a> {
    namespace: &'a str,
    spent_usd: String,
    limit_usd: String,
    resets_at: Option<String>,
    spent_at: Option<String>,
}

impl<'a> From<&'a v1::Budget> for Budget<'a> {
    fn from(budget: &'a v1::Budget) -> Self {
        Self {
            namespace: &budget.namespace,
            spent_usd: usd(budget.spent_picodollars),
            limit_usd: usd(budget.limit_picodollars),
            resets_at: time(budget.resets_at.as_ref()),
            spent_at: time(budget.spent_at.as_ref()),
        }
    }
}

/// The providers.
#[derive(Serialize)]
pub struct Providers<'a> {
    providers: Vec<Provider<'a>>,
    budgets: Vec<Budget<'a>>,
    policy: Option<&'a str>,
    routes: Vec<Route<'a>>,
}

#[derive(Serialize)]
struct Route<'a> {
    name: &'a str,
    policy: &'a str,
    targets: Vec<Target<'a>>,
}

#[derive(Serialize)]
struct Target<'a> {
    provider: &'a str,
    model: Option<&'a str>,
    weight: u32,
}

impl<'a> From<&'a v1::ProviderRoute> for Route<'a> {
    fn from(route: &'a v1::ProviderRoute) -> Self {
        let target = |t: &'a v1::ProviderRouteTarget| Target {
            provider: &t.provider,
            model: set(&t.model),
            weight: t.weight,
        };
        Self { name: &route.name, policy: &route.policy, targets: route.targets.iter().map(target).collect() }
    }
}

#[derive(Serialize)]
struct Provider<'a> {
    name: &'a str,
    adapter: &'a str,
    base_url: Option<&'a str>,
    text_model: Option<&'a str>,
    image_model: Option<&'a str>,
    has_key: bool,
    successes: u64,
    failures: u64,
    last_error: Option<&'a str>,
    last_error_at: Option<String>,
    breakers: Vec<Breaker<'a>>,
    keys: Vec<Key<'a>>,
    place: u32,
    in_flight: u32,
    switch: Option<Switch<'a>>,
    primary: Option<Switch<'a>>,
    weights: Vec<Weight<'a>>,
    quotas: Vec<Quota<'a>>,
    spent_today_usd: Option<String>,
}

#[derive(Serialize)]
struct Key<'a> {
    id: &'a str,
    weight: u32,
    in_flight: u32,
    max_in_flight: Option<u32>,
    state: String,
    cause: Option<&'a str>,
    spent: BTreeMap<&'a str, Option<String>>,
}

impl<'a> From<&'a v1::ProviderKey> for Key<'a> {
    fn from(key: &'a v1::ProviderKey) -> Self {
        Self {
            id: &key.id,
            weight: key.weight,
            in_flight: key.in_flight,
            max_in_flight: (key.max_in_flight > 0).then_some(key.max_in_flight),
            state: word(key.state().as_str_name(), "BREAKER_STATE_"),
            cause: set(&key.cause),
            spent: key.spent.iter().map(|(model, until)| (model.as_str(), time(Some(until)))).collect(),
        }
    }
}

#[derive(Serialize)]
struct Breaker<'a> {
    model: &'a str,
    key: Option<&'a str>,
    state: String,
    cause: Option<&'a str>,
    since: Option<String>,
    until: Option<String>,
    trips: u64,
}

impl<'a> From<&'a v1::ProviderBreaker> for Breaker<'a> {
    fn from(breaker: &'a v1::ProviderBreaker) -> Self {
        Self {
            model: &breaker.model,
            key: set(&breaker.key),
            state: word(breaker.state().as_str_name(), "BREAKER_STATE_"),
            cause: set(&breaker.cause),
            since: time(breaker.since.as_ref()),
            until: time(breaker.until.as_ref()),
            trips: breaker.trips,
        }
    }
}

impl<'a> From<&'a v1::ListProvidersResponse> for Providers<'a> {
    fn from(known: &'a v1::ListProvidersResponse) -> Self {
        let providers = known.providers.iter().map(|p| Provider {
            name: &p.name,
            adapter: &p.adapter,
            base_url: set(&p.base_url),
            text_model: set(&p.text_model),
            image_model: set(&p.image_model),
            has_key: p.has_key,
            successes: p.successes,
            failures: p.failures,
            last_error: set(&p.last_error),
            last_error_at: time(p.last_error_at.as_ref()),
            breakers: p.breakers.iter().map(Breaker::from).collect(),
            keys: p.keys.iter().map(Key::from).collect(),
            place: p.place,
            in_flight: p.in_flight,
            switch: p.switch.as_ref().map(Switch::from),
            primary: p.primary.as_ref().map(Switch::from),
            weights: p.weights.iter().map(Weight::from).collect(),
            quotas: p.quotas.iter().map(Quota::from).collect(),
            spent_today_usd: p.spent_today_picodollars.map(usd),
        });
        let routes = known.routes.iter().map(Route::from).collect();
        let budgets = known.budgets.iter().map(Budget::from).collect();
        Self { providers: providers.collect(), budgets, policy: set(&known.policy), routes }
    }
}

/// The kinds.
#[derive(Serialize)]
pub struct Kinds<'a> {
    kinds: Vec<Kind<'a>>,
}

/// A task kind.
#[derive(Serialize)]
pub struct Kind<'a> {
    name: &'a str,
    version: u32,
    description: &'a str,
    input_schema: Option<&'a RawValue>,
    result_schema: Option<&'a RawValue>,
    example_input: Option<&'a RawValue>,
    queue: &'a str,
    timeout_seconds: Option<f64>,
    max_attempts: u32,
}

impl<'a> From<&'a v1::Kind> for Kind<'a> {
    fn from(k: &'a v1::Kind) -> Self {
        Self {
            name: &k.name,
            version: k.version,
            description: &k.description,
            input_schema: raw(k.input_schema.as_bytes()),
            result_schema: raw(k.result_schema.as_bytes()),
            example_input: raw(k.example_input.as_bytes()),
            queue: &k.queue,
            timeout_seconds: seconds(k.timeout.as_ref()),
            max_attempts: k.max_attempts,
        }
    }
}

impl<'a> From<&'a [v1::Kind]> for Kinds<'a> {
    fn from(kinds: &'a [v1::Kind]) -> Self {
        Self { kinds: kinds.iter().map(Into::into).collect() }
    }
}

/// The alerts.
#[derive(Serialize)]
pub struct Alerts<'a> {
    alerts: Vec<Alert<'a>>,
}

#[derive(Serialize)]
struct Alert<'a> {
    id: &'a str,
    rule: &'a str,
    subject: &'a str,
    severity: String,
    state: String,
    message: &'a str,
    count: u64,
    first_at: Option<String>,
    last_at: Option<String>,
    resolved_at: Option<String>,
}

impl<'a> From<&'a [v1::Alert]> for Alerts<'a> {
    fn from(alerts: &'a [v1::Alert]) -> Self {
        let alerts = alerts.iter().map(|a| Alert {
            id: &a.id,
            rule: &a.rule,
            subject: &a.subject,
            severity: word(a.severity().as_str_name(), "ALERT_SEVERITY_"),
            state: word(a.state().as_str_name(), "ALERT_STATE_"),
            message: &a.message,
            count: a.count,
            first_at: time(a.first_at.as_ref()),
            last_at: time(a.last_at.as_ref()),
            resolved_at: time(a.resolved_at.as_ref()),
        });
        Self { alerts: alerts.collect() }
    }
}

/// A generated text.
#[derive(Serialize)]
pub struct Generated<'a> {
    text: &'a str,
    summary: Option<Summary<'a>>,
}

/// A piece of a generated text.
#[derive(Serialize)]
pub struct Piece<'a> {
    delta: &'a str,
    summary: Option<Summary<'a>>,
}

/// How an answer came about.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    provider: &'a str,
    key: Option<&'a str>,
    model: &'a str,
    finish_reason: &'a str,
    input_tokens: u32,
    output_tokens: u32,
    cached_input_tokens: u32,
    cache_write_tokens: u32,
    usage_estimated: bool,
    cost_usd: Option<String>,
    prices_version: Option<&'a str>,
    attempts: Vec<Attempt<'a>>,
    degraded: bool,
    degraded_reason: Option<&'a str>,
    from_cache: Option<String>,
    similarity_percent: Option<u32>,
    experiment: Option<&'a str>,
    arm: Option<&'a str>,
    dropped_parameters: &'a [String],
}

impl<'a> From<&'a v1::GenerateSummary> for Summary<'a> {
    fn from(s: &'a v1::GenerateSummary) -> Self {
        Self {
            provider: &s.provider,
            key: set(&s.key),
            model: &s.model,
            finish_reason: &s.finish_reason,
            input_tokens: s.input_tokens,
            output_tokens: s.output_tokens,
            cached_input_tokens: s.cached_input_tokens,
            cache_write_tokens: s.cache_write_tokens,
            usage_estimated: s.usage_estimated,
            cost_usd: s.cost_picodollars.map(usd),
            prices_version: set(&s.prices_version),
            attempts: s.attempts.iter().map(Attempt::from).collect(),
            degraded: s.degraded,
            degraded_reason: set(&s.degraded_reason),
            from_cache: cache_source(s),
            similarity_percent: Some(s.similarity_percent).filter(|percent| *percent > 0),
            experiment: set(&s.experiment),
            arm: set(&s.arm),
            dropped_parameters: &s.dropped_parameters,
        }
    }
}

/// Where an answer came from, if no provider was called for it.
fn cache_source(summary: &v1::GenerateSummary) -> Option<String> {
    let word = crate::cli::output::style::word(summary.from_cache().as_str_name(), "CACHE_SOURCE_");
    (summary.from_cache() != v1::CacheSource::Unspecified).then_some(word)
}

impl<'a> From<&'a v1::GenerateResponse> for Generated<'a> {
    fn from(response: &'a v1::GenerateResponse) -> Self {
        Self { text: &response.text, summary: response.summary.as_ref().map(Into::into) }
    }
}

impl<'a> From<&'a v1::GenerateStreamResponse> for Piece<'a> {
    fn from(piece: &'a v1::GenerateStreamResponse) -> Self {
        Self { delta: &piece.delta, summary: piece.summary.as_ref().map(Into::into) }
    }
}
