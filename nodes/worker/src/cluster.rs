use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The bytes of results that may wait for the store by default.
const HELD_BYTES: usize = 64 << 20;

/// Is told how long a handler of a queue ran.
pub type OnRunTime = Arc<dyn Fn(&Arc<str>, Duration) + Send + Sync>;

/// What a worker shares with the cluster around it. The default is a node by itself.
#[derive(Clone)]
pub struct Cluster {
    /// Whether the node may claim. `false` stops claims at once; what runs goes on.
    pub may_claim: watch::Receiver<bool>,
    /// Is told how long each handler ran, so that hand-offs of its queue are cut to measure. Must not block.
    pub on_run_time: OnRunTime,
    /// How many bytes of results may wait for a store that does not answer. While there are more nothing is
    /// claimed; what runs already may still add its own, so that none is dropped.
    pub held_bytes: usize,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { may_claim: watch::channel(true).1, on_run_time: Arc::new(|_, _| ()), held_bytes: HELD_BYTES }
    }
}
