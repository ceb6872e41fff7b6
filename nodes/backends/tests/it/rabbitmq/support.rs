use callboard_backends::handoff::rabbitmq::{Handoff, Options};
use callboard_domain::{Band, TaskId, Timestamp};
use callboard_ports::handoff::{Consumer, Ready, Want};
use callboard_ports::{Clock as _, SystemClock};
use callboard_testkit::services::{Error, RabbitMq, shared};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long anything may take that should be there soon.
pub(super) const SOON: Duration = Duration::from_secs(20);
pub(super) const MANY: Want = Want { tasks: 64, alone: true };

/// Starting a server takes a while: not on a thread of the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic").expect("the server does it")
}

/// Waits until a broker that is killed still has the queues it declared last: RabbitMQ 3.10 saves their names when
/// it has been idle for half a second, and a queue whose name is lost answers nothing for ever.
pub(super) async fn queues_are_saved() {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

/// Queues of one's own on the server of all tests.
pub(super) async fn options() -> Options {
    let (url, prefix) = blocking(shared::rabbitmq).await;
    Options::new(url, prefix)
}

/// A server of one's own.
pub(super) async fn server() -> RabbitMq {
    blocking(|| RabbitMq::start(shared::programs()?)).await
}

pub(super) async fn handoff() -> Arc<Handoff> {
    Handoff::new(options().await).unwrap()
}

/// A task with an id of its own.
pub(super) fn ready(queue: &str, band: Band) -> Ready {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = u128::from(NEXT.fetch_add(1, Ordering::Relaxed));
    let now = u128::from(SystemClock.now().micros().unsigned_abs());
    let id = TaskId::from_bytes((now << 64 | next).to_be_bytes());
    Ready { id, handoff: 1, queue: queue.into(), band, alone: false, not_before: None }
}

pub(super) fn many(queue: &str, count: usize) -> Vec<Ready> {
    (0..count).map(|_| ready(queue, Band::Middle)).collect()
}

pub(super) fn later(by: Duration) -> Timestamp {
    SystemClock.now().after(by)
}

/// Takes and acknowledges until nothing has come for `quiet`.
pub(super) async fn drain(consumer: &mut Box<dyn Consumer>, quiet: Duration) -> Vec<Ready> {
    let mut got = Vec::new();
    while let Ok(delivery) = tokio::time::timeout(quiet, consumer.next(MANY)).await {
        let delivery = delivery.unwrap();
        got.extend_from_slice(delivery.tasks());
        delivery.ack();
    }
    got
}

/// Takes and acknowledges until `count` tasks came, each counted once: on a busy machine a row is published again
/// before its first confirm.
pub(super) async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Ready> {
    let (mut got, mut seen) = (Vec::new(), HashSet::new());
    while got.len() < count {
        let next = tokio::time::timeout(SOON, consumer.next(MANY)).await;
        let delivery = next.unwrap_or_else(|_| panic!("{} of {count} came", got.len())).unwrap();
        got.extend(delivery.tasks().iter().filter(|task| seen.insert((task.id, task.handoff))).cloned());
        delivery.ack();
    }
    got
}

/// Waits until something is so.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, is: impl Fn() -> F) {
    let deadline = Instant::now() + SOON;
    while !is().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What an operator does, behind the hand-off's back.
pub(super) struct Operator {
    connection: Connection,
}

impl Operator {
    pub(super) async fn new(url: &str) -> Self {
        Self { connection: Connection::connect(url, ConnectionProperties::default()).await.unwrap() }
    }

    async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// Has a queue that no other connection may use, for as long as this one is there.
    pub(super) async fn keep_for_itself(&self, queue: &str) {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        self.channel().await.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    }

    pub(super) async fn delete(&self, queue: &str) {
        let options = QueueDeleteOptions::default();
        self.channel().await.queue_delete(queue.into(), options).await.unwrap();
    }

    /// How many messages wait in a queue that is there.
    pub(super) async fn depth(&self, queue: &str) -> Option<u32> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let declared = self.channel().await.queue_declare(queue.into(), passive, FieldTable::default()).await;
        declared.ok().map(|queue| queue.message_count())
    }

    async fn take(&self, queue: &str) -> lapin::message::BasicGetMessage {
        let options = BasicGetOptions { no_ack: true };
        self.channel().await.basic_get(queue.into(), options).await.unwrap().expect("a message waits")
    }

    /// Takes a message, for its headers.
    pub(super) async fn headers(&self, queue: &str) -> FieldTable {
        self.take(queue).await.properties.headers().clone().unwrap_or_default()
    }

    /// Takes a message, for its body.
    pub(super) async fn body(&self, queue: &str) -> Vec<u8> {
        self.take(queue).await.data.clone()
    }

    pub(super) async fn publish(&self, queue: &str, body: &[u8]) {
        self.send("", queue, body).await;
    }

    /// Tells all who listen at an exchange.
    pub(super) async fn tell(&self, exchange: &str, body: &[u8]) {
        self.send(exchange, "", body).await;
    }

    async fn send(&self, exchange: &str, key: &str, body: &[u8]) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent =
            self.channel().await.basic_publish(exchange.into(), key.into(), options, body, properties).await;
        sent.unwrap().await.unwrap();
    }
}
