//! One connection, made when it is first needed and again when it breaks.
//!
//! lapin's own recovery is not used: a connection dropped while it recovers is not closed but comes back with
//! consumers nobody reads, and confirms stay open until it has. Here, everything on a broken connection fails
//! at once and a new one is made.

use super::Options;
use callboard_ports::handoff::Error;
use futures::FutureExt as _;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

/// How long opening a channel or declaring a queue may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting may take. Short: what was sent while a cable was cut is sent again later and later, a new
/// try at once.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a broker that is well may take to answer a question. Past it the connection is given up: its other end
/// may be gone, which heartbeats would tell much later.
const ANSWER: Duration = Duration::from_secs(2);
/// After a failure nobody tries to connect for so long.
const PAUSE: Duration = Duration::from_millis(300);
pub(super) const PASSIVE: QueueDeclareOptions =
    QueueDeclareOptions { passive: true, durable: true, exclusive: false, auto_delete: false, nowait: false };
/// How often a message may be delivered: more than ever will be.
const DELIVERIES: i64 = 1_000_000_000;
/// How many messages that could not be read are kept.
const UNDECODABLE: i64 = 10_000;
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
    within(TIMEOUT, what, future).await
}

async fn within<T>(
    span: Duration,
    what: &str,
    future: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(span, future).await {
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
    /// How many connections were given up because their other end fell silent.
    silent: watch::Sender<u64>,
}

impl Link {
    pub(super) fn new(options: &Options, name: &'static str, heartbeat: u16) -> Result<Self, Error> {
        // The address is not repeated: it may hold a password.
        let mut uri: AMQPUri = options.url.parse().map_err(|_| away("the address of rabbitmq is not one"))?;
        uri.query.heartbeat.get_or_insert(heartbeat);
        Ok(Self { uri, name, state: Mutex::default(), silent: watch::Sender::new(0) })
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        let connection = self.connection().await?;
        match tokio::time::timeout(TIMEOUT, connection.create_channel()).await {
            Ok(channel) => channel.map_err(|error| away(format_args!("opening a channel: {error}"))),
            Err(_) => Err(self.give_up(&connection).await),
        }
    }

    /// Tells when a connection was given up: nothing that is on its way over it will be answered.
    pub(super) fn silent(&self) -> watch::Receiver<u64> {
        self.silent.subscribe()
    }

    /// Gives a connection up whose other end does not answer.
    async fn give_up(&self, connection: &Arc<Connection>) -> Error {
        let mut state = self.state.lock().await;
        if state.connection.as_ref().is_some_and(|held| Arc::ptr_eq(held, connection)) {
            state.connection = None;
            drop(state);
            self.silent.send_modify(|count| *count += 1);
            // Nobody waits for the answer: there will be none. Polled once, it is on its way.
            let _ = Box::pin(connection.close(200, "".into())).now_or_never();
        }
        away("rabbitmq does not answer")
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
        match within(CONNECT, "connecting", Connection::connect_uri(self.uri.clone(), properties)).await {
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

    /// Whether the broker can be reached and takes messages now. It is asked: a connection over a cable that was
    /// cut looks well for a long time.
    pub(super) async fn check(&self) -> Result<(), Error> {
        let connection = self.connection().await?;
        if connection.status().blocked() {
            return Err(away("rabbitmq takes nothing for now"));
        }
        let ask = async { connection.create_channel().await?.close(200, "".into()).await };
        match tokio::time::timeout(ANSWER, ask).await {
            Ok(answer) => answer.map_err(|error| away(format_args!("asking rabbitmq: {error}"))),
            // It reads nothing from those that publish while it is short of memory or disk.
            Err(_) if connection.status().blocked() => Err(away("rabbitmq takes nothing for now")),
            Err(_) => Err(self.give_up(&connection).await),
        }
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
        let mut lanes = FieldTable::default();
        lanes.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let mut graves = lanes.clone();
        // The oldest go first: what is there is for a person to look at, and no task's only copy.
        graves.insert("x-max-length".into(), AMQPValue::LongLongInt(UNDECODABLE));
        lanes.insert("x-max-length".into(), AMQPValue::LongLongInt(options.max_length.into()));
        lanes.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        lanes.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        lanes.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(dead.as_str().into()));
        // From 4 on the default is 20 returns, then a message is lost. -1 means "none" there, but 3.10 takes it for
        // a limit that is passed by the first return.
        lanes.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERIES));
        self.declare_one(&dead, graves).await?;
        self.declare_one(name, lanes).await
    }

    async fn declare_one(&self, name: &str, arguments: FieldTable) -> Result<bool, Error> {
        let channel = self.channel().await?;
        let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments);
        match soon("declaring a queue", declared).await {
            Ok(queue) => Ok(queue.message_count() == 0 && queue.consumer_count() == 0),
            // One that is there with other arguments is an operator's choice, as good as ours.
            Err(refusal) if self.is_connected() => self.depth(name).await.map(|_| false).map_err(|_| refusal),
            Err(away) => Err(away),
        }
    }
}
