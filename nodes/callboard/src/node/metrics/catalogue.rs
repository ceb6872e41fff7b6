//! Every metric there is: its name, what it is, its labels.
//!
//! Names and units are as Prometheus asks for. A label's values are known when the node starts (states, actors, methods,
//! hosted kinds, configured providers), or their number is bounded (queues): never the id of a task, never a key.

/// What a metric is, and the unit it is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may fall.
    Gauge,
    /// It only grows, until the process ends.
    Counter,
    /// Spans of time, in seconds.
    Seconds,
    /// Numbers of items.
    Items,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Seconds | Self::Items => "histogram",
        }
    }
}

/// Which nodes have a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Each.
    Every,
    /// Those of a cluster.
    Cluster,
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Which nodes have it.
    pub on: On,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($id:ident = $on:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            pub(super) const $id: &Metric = &Metric {
                name: $name,
                kind: Kind::$kind,
                on: On::$on,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All of them, in the order of the page.
        pub const ALL: &[&Metric] = &[$($id),*];
    };
}

catalogue! {
    BUILD = Every Gauge "callboard_build_info" ["version", "store"]
        "1, with the version of the program and the store it stands on.";

    RPC_REQUESTS = Every Counter "callboard_rpc_requests_total" ["service", "method", "code"]
        "Calls that have ended, by their gRPC code. CANCELLED: also those whose caller went away.";
    RPC_DURATION = Every Seconds "callboard_rpc_duration_seconds" ["service", "method"]
        "How long calls took; not those that stream.";
    RPC_OPEN = Every Gauge "callboard_rpc_open" ["service", "method"] "Calls that go on.";

    HTTP_REQUESTS = Every Counter "callboard_http_requests_total" ["route", "status"]
        "Requests to the OpenAI-compatible endpoint that have ended, by their status. broken: the stream failed after it had \
         begun; cancelled: the caller went away.";
    HTTP_DURATION = Every Seconds "callboard_http_duration_seconds" ["route"]
        "How long it took until an answer began: of a stream, until a provider had.";
    HTTP_OPEN = Every Gauge "callboard_http_open" ["route"] "Requests to the OpenAI-compatible endpoint that go on.";

    TASKS = Every Gauge "callboard_tasks" ["state"] "Tasks in each state, in the store: of the whole cluster.";
    TASK_EVENTS = Every Counter "callboard_task_events_total" ["event"]
        "What this node wrote about tasks. attempt_failed: another attempt follows; lost: its node was; failed: for good.";
    QUEUE_DEPTH = Every Gauge "callboard_queue_tasks" ["queue", "band"]
        "Tasks that wait in each queue and band: of the whole cluster. A band is counted up to 5,000; beyond the 20 \
         deepest queues all are (other).";
    QUEUE_AGE = Every Gauge "callboard_queue_oldest_seconds" ["queue"]
        "How long the oldest task of each queue has waited: of the whole cluster.";
    HANDOFF_LAG = Every Seconds "callboard_handoff_lag_seconds" []
        "From when a task may run to its claim by this node; not of tasks that were lost or handed back before.";
    ATTEMPTS = Every Counter "callboard_attempts_total" ["kind", "outcome"]
        "Attempts that ended on this node. returned: handed off again; lost: their session had ended.";
    ATTEMPT_DURATION = Every Seconds "callboard_attempt_duration_seconds" ["kind"] "How long handlers ran.";
    STALE_RESULTS = Every Counter "callboard_stale_results_total" []
        "Results that were dropped: another attempt holds the task, or it has ended.";
    DELIVERIES_UNUSED = Every Counter "callboard_deliveries_unused_total" ["why"]
        "Tasks that were delivered and not claimed. gone: taken by another, or ended; not_hosted: of a kind that this \
         node does not host.";

    SLOTS = Every Gauge "callboard_worker_slots" [] "Tasks that can run at once.";
    SLOTS_USED = Every Gauge "callboard_worker_slots_used" [] "Tasks that run.";
    CLAIMED = Every Gauge "callboard_worker_claimed_tasks" [] "Tasks this node holds, those that wait for a slot included.";
    WAITING_RESULTS = Every Gauge "callboard_worker_waiting_results" []
        "Results that wait for a store that does not answer.";

    BATCH_ROWS = Every Items "callboard_store_batch_rows" ["writes"] "Rows of each commit of grouped writes.";
    BATCH_DURATION = Every Seconds "callboard_store_batch_duration_seconds" ["writes"]
        "How long each commit of grouped writes took.";
    BATCH_WAITING = Every Gauge "callboard_store_waiting_rows" ["writes"] "Rows that wait for the next commit.";
    BACKEND_UP = Every Gauge "callboard_backend_up" ["backend"] "Whether this node reaches a backend: 1 or 0.";

    SESSION_HELD = Every Gauge "callboard_session_held" [] "Whether this node has a session: 1 or 0. Without one nothing is claimed.";
    SESSION_AGE = Every Gauge "callboard_session_age_seconds" [] "How long ago this node's session was opened.";
    RESTARTS = Every Counter "callboard_actor_restarts_total" ["actor"] "Restarts of each actor.";
    MAILBOX = Every Gauge "callboard_actor_mailbox_messages" ["actor"] "Calls that wait in each actor's mailbox, which holds 1,024.";

    PROVIDER_REQUESTS = Every Counter "callboard_provider_requests_total" ["provider", "result"]
        "Calls to each provider, by result: OK, or the kind of its error.";
    GEN_AI_DURATION = Every Seconds "gen_ai_client_operation_duration_seconds"
        ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type", "provider"]
        "How long calls to each provider took, by model; of a stream, until its end. error_type: of those that failed; empty \
         of those that were answered.";
    GEN_AI_FIRST_CHUNK = Every Seconds "gen_ai_client_operation_time_to_first_chunk_seconds"
        ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "provider"]
        "How long it took until the first piece of a stream came.";
    GEN_AI_TOKENS = Every Items "gen_ai_client_token_usage"
        ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type", "provider"]
        "How many tokens answered calls took, as providers counted them: input of the prompt, output of the answer.";
    PROVIDER_BREAKER = Every Gauge "callboard_provider_breaker" ["provider", "state"]
        "How the circuit breaker of each provider stands on this node, the worst of its models', each with the best of its \
         keys: 1 where it stands. open: it is left out; half_open: one call at a time tries it.";
    PROVIDER_TRIPS = Every Counter "callboard_provider_breaker_trips_total" ["provider"]
        "How often a circuit breaker of each provider opened.";
    PROVIDER_RETRIES = Every Counter "callboard_provider_retries_total" ["provider", "result"]
        "Failed calls that were made again at the same provider, and those that were refused as too many had been.";
    PROVIDER_MAYBE_BILLED = Every Counter "callboard_provider_maybe_billed_twice_total" ["provider"]
        "Calls that were made again, at each provider or elsewhere, though it may have billed them: the connection broke \
         after they were sent, or the answer took too long.";

    REUSED = Every Counter "callboard_answers_reused_total" ["source"]
        "Calls for texts that got an answer no provider gave for them. exact: from the cache; shared: of a call for the same \
         at the same time; replayed: of a call with the same idempotency key; similar: of a similar call, as no provider \
         answered.";
    CACHE_LOOKUPS = Every Counter "callboard_cache_lookups_total" ["result"]
        "Calls for texts that the exact cache could answer, by whether it did.";
    CACHE_WARMED = Every Counter "callboard_cache_warmed_total" ["result"]
        "Frequent prompts that were due to be asked anew before their answers end. warmed: they were. failed: the call failed, or its \
         answer was none to keep. held: not tried, as the provider was not well or had little left; counted at each look.";
    CACHE_ENTRIES = Every Gauge "callboard_cache_entries" ["cache"] "Answers in the memory of this node.";
    CACHE_BYTES = Every Gauge "callboard_cache_bytes" ["cache"] "The memory that answers take on this node.";
    KEY_CONFLICTS = Every Counter "callboard_idempotency_conflicts_total" []
        "Calls that were refused, as their idempotency key stands for another request.";
    REDACTED = Every Counter "callboard_redacted_total" ["pattern"] "What was taken out of prompts.";
    PROVIDER_COST = Every Counter "callboard_provider_cost_usd_total" ["provider", "model"]
        "What calls to each provider cost by the configured prices, in US dollars. What failed or was given up counts by \
         estimate, if it may be billed.";
    QUOTA_USED = Every Gauge "callboard_provider_quota_used_ratio" ["provider", "quota"]
        "How much of each quota is used, over all nodes: 1 is all of it, and the provider is left out.";
    BUDGET_USED = Every Gauge "callboard_budget_used_ratio" ["namespace"]
        "How much of the budget of each namespace is used today, over all nodes: 1 is all of it, and its calls are refused.";
    LIMIT_LEFT = Every Gauge "callboard_limit_left_ratio" ["limit"]
        "The share of each limit of calls to models that is left, as this node saw it last: 0, and its calls wait or go elsewhere.";
    EXPERIMENT_CALLS = Every Counter "callboard_experiment_calls_total" ["experiment", "arm", "result"]
        "Calls in each arm of an experiment that a provider answered, and those that failed.";
    EXPERIMENT_SHARE = Every Gauge "callboard_experiment_share_ratio" ["experiment", "arm"]
        "The share of all subjects that each arm of an experiment has now.";
    EXPERIMENT_TOKENS = Every Counter "callboard_experiment_tokens_total" ["experiment", "arm"]
        "The tokens that the answered calls in each arm of an experiment took, of prompts and answers.";
    EXPERIMENT_COST = Every Counter "callboard_experiment_cost_usd_total" ["experiment", "arm"]
        "What the answered calls in each arm of an experiment cost by the configured prices, in US dollars.";
    EXPERIMENT_SCORES = Every Counter "callboard_experiment_scores_total" ["experiment", "arm"]
        "How many answers of each arm of an experiment were scored.";
    EXPERIMENT_SCORE = Every Gauge "callboard_experiment_score_sum" ["experiment", "arm"]
        "The sum of their scores, which may be below zero.";
    EXPERIMENT_TIME = Every Counter "callboard_experiment_duration_seconds_total" ["experiment", "arm"]
        "How long the answered calls in each arm of an experiment took together; streams, until their end.";

    SPANS = Every Counter "callboard_spans_total" ["result"]
        "Spans that were to be exported. failed: the collector did not take them.";
    RESIDENT = Every Gauge "process_resident_memory_bytes" [] "Memory of this process.";
    CPU = Every Counter "process_cpu_seconds_total" [] "Time that processors spent on this process.";
    STARTED = Every Gauge "process_start_time_seconds" [] "When this process started its node, since 1970.";
    OPEN_FILES = Every Gauge "process_open_fds" [] "Files and sockets that this process has open.";

    AWAY = Cluster Gauge "callboard_backend_away_seconds" ["backend"] "For how long a backend has been away.";
    NODES = Cluster Gauge "callboard_cluster_nodes" [] "Live nodes of the cluster, as this one sees them.";
    SUSPECTED = Cluster Gauge "callboard_peers_suspected" [] "Nodes that this one avoids, for it cannot reach them.";
    RENEWAL_AGE = Cluster Gauge "callboard_session_renewal_age_seconds" []
        "How long ago this node's session was last renewed.";
    OUTBOX = Cluster Gauge "callboard_outbox_rows" []
        "Rows in the outbox, of the whole cluster: tasks that the broker has not confirmed.";
    RELAY_WAITING = Cluster Gauge "callboard_relay_waiting_tasks" []
        "Tasks that wait in this node's memory to be published.";
    RELAY_PUBLISH = Cluster Seconds "callboard_relay_publish_duration_seconds" []
        "How long it took until the broker had answered for what was published at once.";
    PUBLISHED = Cluster Counter "callboard_rabbitmq_published_total" ["outcome"]
        "Messages by what the broker did: took them, refused them as the queue was full, gave them back as it was gone, \
         or did not answer.";
    REDELIVERED = Cluster Counter "callboard_rabbitmq_redelivered_total" [] "Messages that the broker delivered again.";
    UNDECODABLE = Cluster Counter "callboard_rabbitmq_undecodable_total" [] "Messages that this node could not read.";
    DECLARED = Cluster Counter "callboard_rabbitmq_queues_declared_total" []
        "Queues that were declared and found empty: new, or lost.";
    REPAIRED = Cluster Counter "callboard_tasks_repaired_total" []
        "Tasks that the broker had lost and this node handed off again.";
    BUCKET_CALLS = Cluster Counter "callboard_token_bucket_calls_total" ["decided_by"]
        "Calls that were decided by Redis, and by this node's share while it was away.";
    BUCKET_NODES = Cluster Gauge "callboard_token_bucket_share_nodes" []
        "By how many nodes each limit is divided; 0: Redis decides for all together.";
    BUCKET_CHUNKS = Cluster Counter "callboard_token_bucket_chunks_total" [] "Chunks of tokens leased from Redis.";
    REDIS_LOST = Cluster Counter "callboard_redis_lost_total" [] "How often Redis went away.";
    SINGLETON = Cluster Gauge "callboard_singleton_standing" ["singleton", "standing"]
        "How this node stands to what one node does at a time: 1 where it stands. held: it does it. unavailable: nobody \
         knows who holds the lock. unlocked: nor that, and every node does it.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What operators build on: whoever changes a line here breaks somebody's dashboard.
    #[test]
    fn names_types_labels_and_helps_are_as_they_were() {
        let line = |metric: &&Metric| {
            let Metric { name, kind, on, labels, help } = metric;
            format!("{name} {} {on:?} {labels:?}\n    {help}\n", kind.name())
        };
        insta::assert_snapshot!(ALL.iter().map(line).collect::<String>());
    }

    #[test]
    fn names_end_with_their_units() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "each name once");
        for metric in ALL {
            let name = metric.name;
            let known = ["callboard_", "process_", "gen_ai_"];
            assert!(known.iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let in_seconds = name.ends_with("_seconds") || name.ends_with("_seconds_total");
            assert!(metric.kind != Kind::Seconds || in_seconds, "{name}");
            assert!(!metric.help.contains("  ") && metric.help.ends_with('.'), "{name}");
            for id in ["task", "task_id", "session", "key", "trace", "request_id"] {
                assert!(!metric.labels.contains(&id), "{name} has a label without end: {id}");
            }
        }
    }
}
