//! Repair, with a real broker and an outbox in memory.

use super::rows::Rows;
use super::support::{MANY, Operator, SOON, many, options, until};
use callboard_backends::handoff::rabbitmq::{Handoff, Markers, Options};
use callboard_backends::handoff::relay::repair::{Error, Repair};
use callboard_backends::handoff::relay::{self, Relay};
use callboard_ports::epochs::Epoch;
use callboard_ports::handoff::{Consumer, Queues, Want};
use callboard_ports::store;
use callboard_ports::store::{Commit, CommitObserver as _};
use callboard_ports::{Handoff as _, SystemClock};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

struct Kit {
    options: Options,
    handoff: Arc<Handoff>,
    rows: Arc<Rows>,
    relay: Arc<Relay>,
    repair: Repair<Markers>,
    epoch: Epoch,
}

impl Kit {
    async fn new() -> Self {
        let options = options().await;
        let handoff = Handoff::new(options.clone()).unwrap();
        let rows = Arc::new(Rows::default());
        let relay = Relay::start(relay::Options {
            outbox: rows.clone(),
            handoff: handoff.clone(),
            clock: Arc::new(SystemClock),
            jitter: Arc::new(|| 0.5),
        });
        let repair = Repair::new(handoff.markers().await.unwrap());
        let epoch = rows.epoch();
        Self { options, handoff, rows, relay, repair, epoch }
    }

    async fn admit(&self, count: usize) {
        let batch = many("q", count);
        self.rows.queue(&batch);
        self.relay.committed(&Commit { ready: batch, ..Commit::default() });
        until("the broker answers for them", async || self.rows.rows() == 0).await;
    }

    async fn step(&mut self) -> Result<usize, Error> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.repair.step(&*self.rows, &self.epoch).await
    }

    /// Claims what comes until every task is claimed, repairing meanwhile. Answers how long it took.
    async fn run(&mut self, consumer: &mut Box<dyn Consumer>) -> Duration {
        let began = Instant::now();
        while self.rows.queued() > 0 {
            assert!(began.elapsed() < SOON, "{} are lost", self.rows.queued());
            let next = tokio::time::timeout(Duration::from_millis(100), consumer.next(MANY)).await;
            if let Ok(delivery) = next {
                let delivery = delivery.unwrap();
                self.rows.claim(delivery.tasks());
                delivery.ack();
            }
            self.step().await.unwrap();
        }
        began.elapsed()
    }
}

#[tokio::test]
async fn tasks_of_a_deleted_queue_are_handed_off_again_within_seconds() {
    let mut kit = Kit::new().await;
    kit.admit(100).await;
    let operator = Operator::new(&kit.options.url).await;
    operator.delete(&format!("{}.q.middle", kit.options.prefix)).await;
    let mut consumer = kit.handoff.consume(Queues::All).await.unwrap();
    let took = kit.run(&mut consumer).await;
    assert_eq!(kit.rows.state().repaired, 100);
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn a_queue_that_is_deleted_while_a_marker_is_in_it_is_noticed() {
    let mut kit = Kit::new().await;
    kit.admit(50).await;
    // Nobody consumes: the marker waits behind the tasks.
    assert_eq!(kit.step().await.unwrap(), 0);
    let operator = Operator::new(&kit.options.url).await;
    let name = format!("{}.q.middle", kit.options.prefix);
    assert_eq!(operator.depth(&name).await, Some(51));
    operator.delete(&name).await;
    let mut consumer = kit.handoff.consume(Queues::All).await.unwrap();
    let took = kit.run(&mut consumer).await;
    assert_eq!(kit.rows.state().repaired, 50);
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn a_long_queue_is_not_taken_for_lost() {
    let mut kit = Kit::new().await;
    kit.admit(300).await;
    let mut consumer = kit.handoff.consume(Queues::All).await.unwrap();
    // Slower than any wait of the repair.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(9) {
        let one = Want { tasks: 1, alone: true };
        let delivery = tokio::time::timeout(SOON, consumer.next(one)).await.unwrap().unwrap();
        kit.rows.claim(delivery.tasks());
        delivery.ack();
        for _ in 0..3 {
            assert_eq!(kit.step().await.unwrap(), 0);
        }
    }
    assert!(kit.rows.queued() > 0, "it was long enough");
    kit.run(&mut consumer).await;
    assert_eq!(kit.rows.state().repaired, 0);
}

#[tokio::test]
async fn a_holder_of_an_old_epoch_repairs_nothing() {
    let mut kit = Kit::new().await;
    kit.admit(5).await;
    let operator = Operator::new(&kit.options.url).await;
    operator.delete(&format!("{}.q.middle", kit.options.prefix)).await;
    let _newer = kit.rows.epoch();
    let mut consumer = kit.handoff.consume(Queues::All).await.unwrap();
    let began = Instant::now();
    let refused = loop {
        assert!(began.elapsed() < SOON);
        let next = tokio::time::timeout(Duration::from_millis(50), consumer.next(MANY)).await;
        assert!(next.is_err(), "nothing is there");
        if let Err(error) = kit.step().await {
            break error;
        }
    };
    assert!(matches!(refused, Error::Store(store::Error::Fenced)), "{refused}");
    assert_eq!(kit.rows.state().repaired, 0);
}
