//! What nodes tell whoever repairs: a marker was consumed, a queue had to be declared anew.
//!
//! They go through a fanout exchange. Nobody is bound to it but the repairer, with a queue that ends with its
//! connection: a notice that is lost only makes a repair later.

use super::link::{Link, away, soon};
use callboard_ports::handoff::Error;
use futures::StreamExt as _;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ExchangeKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Something that a node noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notice {
    /// The marker of this number was consumed.
    Passed(u64),
    /// The queue of this name was declared and found empty: what it held may be lost.
    Declared(String),
    /// The queue of this name was gone and is there again: its consumers consume it anew, each over a new channel.
    ///
    /// RabbitMQ 3.10 goes on with a consumer whose queue is there again before its channel has learnt that it was
    /// gone, without a word to the client. It compares what the new queue sends with the numbers of the old one, takes
    /// it for what it has sent already, and drops it: the messages stay with a consumer that never sees them.
    Anew {
        /// The queue.
        queue: String,
        /// The hand-off that declared it.
        by: Uuid,
    },
}

/// The name of the exchange.
pub(super) fn exchange(prefix: &str) -> String {
    format!("{prefix}.notices")
}

pub(super) async fn declare(channel: &Channel, exchange: &str) -> Result<(), Error> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    soon(
        "declaring an exchange",
        channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, options, FieldTable::default()),
    )
    .await
}

/// Listens for notices.
pub(super) struct Listener {
    // The queue and its consumer end with it.
    _channel: Channel,
    consumer: Consumer,
}

impl Listener {
    pub(super) async fn open(link: &Link, exchange: &str) -> Result<Self, Error> {
        let channel = link.channel().await?;
        declare(&channel, exchange).await?;
        let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let queue =
            soon("declaring a queue", channel.queue_declare("".into(), exclusive, FieldTable::default()))
                .await?;
        let name = queue.name().as_str();
        let bind = QueueBindOptions::default();
        soon(
            "binding a queue",
            channel.queue_bind(name.into(), exchange.into(), "".into(), bind, FieldTable::default()),
        )
        .await?;
        let unacked = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer =
            soon("consuming", channel.basic_consume(name.into(), "".into(), unacked, FieldTable::default()));
        let consumer = consumer.await?;
        Ok(Self { _channel: channel, consumer })
    }

    /// The next notice. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Result<Notice, Error> {
        loop {
            let delivery = self.consumer.next().await.ok_or_else(|| away("the listener was closed"))?;
            // Those of a newer version mean nothing here.
            if let Ok(notice) = serde_json::from_slice(&delivery.map_err(away)?.data) {
                return Ok(notice);
            }
        }
    }
}
