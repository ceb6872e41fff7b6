//! One connection, made when it is first needed and again when it breaks.
//!
//! lapin's own recovery is not used: a connection dropped while it recovers is not closed but comes back with
//! consumers nobody reads, and confirms stay open until it has. Here, everything on a broken connection fails
//! at once and a new one is made.

use super::Options;
use callboard_ports::handoff::Error;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long connecting, opening a channel or declaring a queue may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After a failure nobody tries to connect for so long.
const PAUSE: Duration = Duration::from_millis(300);
const PASSIVE: QueueDeclareOptions =
    QueueDeclareOptions { passive: true, durable: true, exclusive: false, auto_delete: false, nowait: false };
/// How often a message may be delivered: more than ever will be.
const DELIVERIES: i64 = 1_000_000_000;
/// Seconds between signs of life, unless the address says otherwise. After two without one, the broker closes the
/// connection and gives what it holds to others: that should be before a silent node's tasks are queued again.
pub(super) const CONSUMING: u16 = 2;
/// The same of a connection that holds nothing up.
pub(super) const PUBLISHING: u16 = 10;

pub(super) fn away(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

/// What a future answers in time. `what` it does is told when it does not.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(TIMEOUT, future).await {
        Ok(answer) => answer.map_err(|error| away(format_args!("{what}: {error}"))),
        Err(_) => Err(away(format_args!("{what}: rabbitmq does not answer"))),
    }
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    failed_at: Option<Instant>,
}

/// A connection that comes back.
pub(super) struct Link {
    uri: AMQPUri,
    name: &'static str,
    state: Mutex<State>,
}

impl Link {
    pub(super) fn new(options: &Options, name: &'static str, heartbeat: u16) -> Result<Self, Error> {
        // The address is not repeated: it may hold a password.
        let mut uri: AMQPUri = options.url.parse().map_err(|_| away("the address of rabbitmq is not one"))?;
        uri.query.heartbeat.get_or_insert(heartbeat);
        Ok(Self { uri, name, state: Mutex::default() })
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        let connection = self.connection().await?;
        soon("opening a channel", connection.create_channel()).await
    }

    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.as_ref().filter(|c| c.status().connected()) {
            return Ok(connection.clone());
        }
        state.connection = None;
        if state.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(away("rabbitmq was away a moment ago"));
        }
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        match soon("connecting", Connection::connect_uri(self.uri.clone(), properties)).await {
            Ok(connection) => {
                *state = State { connection: Some(Arc::new(connection)), failed_at: None };
                state.connection.clone().ok_or(Error::Closed)
            }
            Err(error) => {
                state.failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Whether the broker has said that it takes nothing for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.status().is_some_and(|status| status.blocked())
    }

    fn is_connected(&self) -> bool {
        self.status().is_some_and(|status| status.connected())
    }

    /// The state of the connection; nothing while there is none or one is being made.
    fn status(&self) -> Option<ConnectionStatus> {
        let state = self.state.try_lock().ok()?;
        state.connection.as_ref().map(|c| c.status().clone())
    }

    /// Whether the broker can be reached and takes messages now.
    pub(super) async fn check(&self) -> Result<(), Error> {
        let connection = self.connection().await?;
        if connection.status().blocked() { Err(away("rabbitmq takes nothing for now")) } else { Ok(()) }
    }

    /// How many messages wait in a queue, and how many consume it.
    pub(super) async fn depth(&self, name: &str) -> Result<(u32, u32), Error> {
        let channel = self.channel().await?;
        let queue =
            soon("looking for a queue", channel.queue_declare(name.into(), PASSIVE, FieldTable::default()))
                .await?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    /// Makes sure that a lane's queue is there, and tells whether it may be new: it is empty, and nobody consumes
    /// it. Each try has a channel of its own: a refusal closes it.
    pub(super) async fn declare(&self, options: &Options, name: &str) -> Result<bool, Error> {
        let dead = format!("{}.undecodable", options.prefix);
        let mut graves = FieldTable::default();
        graves.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let mut lanes = graves.clone();
        lanes.insert("x-max-length".into(), AMQPValue::LongLongInt(options.max_length.into()));
        lanes.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        lanes.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        lanes.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(dead.as_str().into()));
        // From 4 on the default is 20 returns, then a message is lost. -1 means "none" there, but 3.10 takes it for
        // a limit that is passed by the first return.
        lanes.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERIES));
        let durable = QueueDeclareOptions::durable();
        let channel = self.channel().await?;
        soon("declaring a queue", channel.queue_declare(dead.into(), durable, graves)).await?;
        let channel = self.channel().await?;
        match soon("declaring a queue", channel.queue_declare(name.into(), durable, lanes)).await {
            Ok(queue) => Ok(queue.message_count() == 0 && queue.consumer_count() == 0),
            // One that is there with other arguments is an operator's choice, as good as ours.
            Err(refusal) if self.is_connected() => self.depth(name).await.map(|_| false).map_err(|_| refusal),
            Err(away) => Err(away),
        }
    }
}
