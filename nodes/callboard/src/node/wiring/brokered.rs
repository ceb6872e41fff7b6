//! The hand-off of a cluster: from the store's outbox through RabbitMQ to the workers, and back if it is lost.

use super::super::{Deps, StartError};
use crate::config::Config;
use callboard_backends::handoff::rabbitmq::{self, Handoff, Markers};
use callboard_backends::handoff::relay::repair::{self, Repair};
use callboard_backends::handoff::relay::{self, Relay};
use callboard_backends::store::postgres;
use callboard_ports::Store as _;
use callboard_ports::epochs::Epoch;
use callboard_ports::metrics::Distribution;
use callboard_ports::{Outbox as _, Tracer, store};
use callboard_supervisor as supervisor;
use callboard_worker as worker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the repair takes a step: it looks at the store less often.
const STEP_EVERY: Duration = Duration::from_secs(1);
/// How often a worker that takes from all queues looks for new ones.
const QUEUES_EVERY: Duration = Duration::from_secs(5);

/// What hands tasks off between the nodes of a cluster.
pub(in crate::node) struct Brokered {
    /// Where tasks come from.
    pub(super) handoff: Arc<Handoff>,
    relay: Arc<Relay>,
    store: Arc<postgres::Store>,
    /// How many lost tasks this node has handed off again.
    repaired: AtomicU64,
    ended: CancellationToken,
}

impl Brokered {
    /// Publishes what the store queues from now on.
    pub(super) fn start(
        config: &Config,
        deps: &Deps,
        store: &Arc<postgres::Store>,
        tracer: &Tracer,
    ) -> Result<Arc<Self>, StartError> {
        let broker = &config.rabbitmq;
        let options = rabbitmq::Options {
            max_length: broker.queue_limit,
            tracer: tracer.clone(),
            ..rabbitmq::Options::new(broker.url.clone(), broker.prefix.clone())
        };
        let handoff = Handoff::new(options).map_err(|e| StartError::RabbitMq(e.to_string()))?;
        let relay = Relay::start(relay::Options {
            outbox: store.clone(),
            handoff: handoff.clone(),
            clock: Arc::clone(&deps.clock),
            jitter: Arc::new(rand::random::<f64>),
        });
        store.observe(relay.clone());
        let names: Vec<Arc<str>> =
            deps.registry.iter().map(|entry| Arc::from(entry.spec.queue.as_str())).collect();
        handoff.add_queues(&names).map_err(|e| StartError::RabbitMq(e.to_string()))?;
        Ok(Arc::new(Self {
            handoff,
            relay,
            store: store.clone(),
            repaired: AtomicU64::new(0),
            ended: CancellationToken::new(),
        }))
    }

    /// Cuts messages to what a worker starts soon.
    pub(super) fn on_run_time(&self) -> worker::OnRunTime {
        let handoff = self.handoff.clone();
        Arc::new(move |queue, took| handoff.ran(queue, took))
    }

    /// Finds queues that no kind of this node has by default, and that no worker was told to take.
    pub(super) fn find_queues(self: &Arc<Self>, tracker: &TaskTracker) {
        let this = Arc::clone(self);
        let look = async move {
            loop {
                match this.store.suspect_lanes().await {
                    Ok(lanes) => {
                        let names: Vec<_> = lanes.into_iter().map(|(queue, _)| queue).collect();
                        if let Err(error) = this.handoff.add_queues(&names) {
                            tracing::warn!(%error, "some queues are not consumed here");
                        }
                    }
                    Err(error) => tracing::debug!(%error, "cannot look for queues"),
                }
                tokio::time::sleep(QUEUES_EVERY).await;
            }
        };
        let ended = self.ended.clone();
        tracker.spawn(async move {
            ended.run_until_cancelled(look).await;
        });
    }

    /// Hands off again what the broker has lost: for one node of the cluster at a time.
    pub(super) fn reconciler(self: &Arc<Self>) -> supervisor::Reconciler {
        let this = Arc::clone(self);
        let state: Arc<Mutex<Option<Repair<Markers>>>> = Arc::default();
        let run: supervisor::Run = Arc::new(move |fence| {
            let (this, state) = (Arc::clone(&this), Arc::clone(&state));
            Box::pin(async move {
                // Without an epoch nothing may be written.
                let Some(fence) = fence else { return Ok(()) };
                this.step(&mut *state.lock().await, &fence).await
            })
        });
        supervisor::Reconciler { name: "repair", period: STEP_EVERY, run }
    }

    async fn step(&self, state: &mut Option<Repair<Markers>>, fence: &Epoch) -> Result<(), store::Error> {
        let stepped: Result<(), repair::Error> = async {
            if state.is_none() {
                *state = Some(Repair::new(self.handoff.markers().await?));
            }
            match state {
                Some(repair) => {
                    let repaired = repair.step(&*self.store, fence).await?;
                    let repaired = u64::try_from(repaired).unwrap_or(u64::MAX);
                    self.repaired.fetch_add(repaired, Ordering::Relaxed);
                    Ok(())
                }
                None => Ok(()),
            }
        }
        .await;
        match stepped {
            Ok(()) => Ok(()),
            Err(repair::Error::Store(error)) => Err(error),
            Err(repair::Error::Handoff(error)) => {
                // What was marked in a broker that went away is marked anew.
                tracing::debug!(%error, "cannot look for lost tasks now");
                *state = None;
                Ok(())
            }
        }
    }

    /// How the broker is, if something is wrong with it.
    pub(super) fn standing(&self) -> Option<String> {
        let (since, why) = self.relay.standing().away?;
        Some(format!("away for {} s, tasks wait in the store: {why}", since.as_secs()))
    }

    /// What the connection to the broker did since the start.
    pub(in crate::node) fn stats(&self) -> rabbitmq::Stats {
        self.handoff.stats()
    }

    /// How the relay is.
    pub(in crate::node) fn relay(&self) -> relay::Standing {
        self.relay.standing()
    }

    /// How long publishing took.
    pub(in crate::node) fn published(&self) -> Distribution {
        self.relay.published()
    }

    /// How many tasks that the broker had lost were handed off again by this node since its start.
    pub(in crate::node) fn repaired(&self) -> u64 {
        self.repaired.load(Ordering::Relaxed)
    }

    /// Publishes what waits, for a bounded time, and ends every consumer.
    pub(super) async fn close(&self) {
        self.ended.cancel();
        self.relay.close().await;
        self.handoff.close();
    }
}
