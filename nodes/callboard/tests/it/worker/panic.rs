//! A hand-off that panics where it hurts most: after a claim has committed and before any of its tasks has a
//! runner.

use super::{Stage, task};
use callboard_backends::handoff::embedded;
use callboard_ports::Handoff;
use callboard_ports::handoff::{Consumer, Delivery, Error, Queues, Ready, Want};
use callboard_runtime::actor::Restart;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A hand-off whose n-th acknowledgement panics.
struct PanicsAtAck {
    inner: Arc<embedded::Handoff>,
    acks: Arc<AtomicUsize>,
    at: usize,
}

struct PanickingConsumer {
    inner: Box<dyn Consumer>,
    acks: Arc<AtomicUsize>,
    at: usize,
}

#[tonic::async_trait]
impl Handoff for PanicsAtAck {
    async fn publish(&self, batch: Vec<Ready>) -> Vec<Result<(), Error>> {
        self.inner.publish(batch).await
    }

    async fn consume(&self, queues: Queues) -> Result<Box<dyn Consumer>, Error> {
        let inner = self.inner.consume(queues).await?;
        Ok(Box::new(PanickingConsumer { inner, acks: Arc::clone(&self.acks), at: self.at }))
    }
}

#[tonic::async_trait]
impl Consumer for PanickingConsumer {
    async fn next(&mut self, want: Want) -> Result<Delivery, Error> {
        let delivery = self.inner.next(want).await?;
        let (acks, at) = (Arc::clone(&self.acks), self.at);
        let tasks = delivery.tasks().to_vec();
        Ok(Delivery::new(tasks, move |_, acked| {
            if !acked {
                return drop(delivery);
            }
            delivery.ack();
            if acks.fetch_add(1, Ordering::SeqCst) + 1 == at {
                panic!("planted: after the claim, before the runners");
            }
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_between_claim_and_run_strands_no_task() {
    let stage = Stage::new().await;
    let handoff = PanicsAtAck { inner: stage.handoff.clone(), acks: Arc::default(), at: 2 };
    let restarts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&restarts);
    let every = Duration::from_secs(1);
    let restarted = move |restart: Restart| {
        assert!(restart.reason.starts_with("planted"), "{restart:?}");
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let running = stage.start(every, restarted, |deps| deps.handoff = Arc::new(handoff));
    let ids = stage.admit((0..40).map(|n| task(format!(r#"{{"n":{n},"sleep_ms":30}}"#)))).await;
    let tasks = stage.all_succeed(&ids).await;
    assert_eq!(restarts.load(Ordering::SeqCst), 1, "the planted panic happened");
    let again = tasks.iter().filter(|t| t.life.attempt == 2).count();
    assert!(again > 0, "the claim that lost its runners was given back");
    assert!(tasks.iter().all(|t| t.life.failures == 0 && t.life.lost == 0), "it counts against nobody");
    assert_eq!(running.engine.load().slots_used, 0, "a slot leaked");
    stage.store.close().await;
}
