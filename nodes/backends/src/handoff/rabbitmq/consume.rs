//! A consumer: what its owner calls, and the task that keeps it supplied.
//!
//! It consumes only while its owner asks. An owner that has not asked for [`IDLE`] has no free slot: then its
//! basic consumers are cancelled and what they were sent is returned, for others to take.

use super::Shared;
use super::buffer::{Buffer, Message};
use super::link::{away, soon};
use super::message::{Body, decode, queue_name};
use super::notices::Notice;
use async_trait::async_trait;
use callboard_domain::Band;
use callboard_ports::handoff::{Consumer, Delivery, Error, Queues, Want};
use callboard_ports::{Clock as _, SystemClock};
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An owner that has not asked for so long gives back what it holds.
const IDLE: Duration = Duration::from_millis(50);
/// The fewest and the most messages that a lane sends ahead of their acknowledgement.
const PREFETCH: (usize, usize) = (2, 64);
/// An owner that wants so many times what its consumers were opened for gets larger ones.
const GROWS: usize = 4;
/// No sleeper trusts the wall clock for longer than this: it may step.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What settles a message. The channel lives as long as one of its deliveries.
struct Hold {
    acker: Acker,
    _channel: Channel,
}

impl Hold {
    /// Sent when it is first polled: nobody waits for more.
    fn ack(&self) {
        let _ = self.acker.ack(BasicAckOptions::default()).now_or_never();
    }

    fn requeue(&self) {
        let _ = self.acker.nack(BasicNackOptions { requeue: true, multiple: false }).now_or_never();
    }

    fn bury(&self) {
        let _ = self.acker.reject(BasicRejectOptions { requeue: false }).now_or_never();
    }
}

struct Desk {
    buffer: Mutex<Buffer<Hold>>,
    arrived: Notify,
    asking: watch::Sender<Asks>,
    closing: CancellationToken,
}

/// Whether the owner waits.
#[derive(Clone, Copy)]
struct Asks {
    waits: bool,
    /// Since when that is so.
    since: Instant,
    /// How many tasks it wanted last.
    tasks: usize,
}

impl Desk {
    fn buffer(&self) -> MutexGuard<'_, Buffer<Hold>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        let asks = *self.asking.borrow();
        !asks.waits && asks.since.elapsed() >= IDLE
    }

    fn give_back(&self) {
        let held = self.buffer().drain();
        held.iter().for_each(|m| m.hold.requeue());
    }
}

/// Says that the owner waits, until it is dropped.
struct Asking<'a>(&'a Desk);

impl<'a> Asking<'a> {
    fn new(desk: &'a Desk, tasks: usize) -> Self {
        desk.asking.send_replace(Asks { waits: true, since: Instant::now(), tasks });
        Self(desk)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.send_modify(|asks| {
            asks.waits = false;
            asks.since = Instant::now();
        });
    }
}

/// One consumer of some queues.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
}

impl Subscription {
    pub(super) fn new(shared: &Arc<Shared>, queues: Queues) -> Self {
        let desk = Arc::new(Desk {
            buffer: Mutex::default(),
            arrived: Notify::new(),
            asking: watch::Sender::new(Asks { waits: false, since: Instant::now(), tasks: 1 }),
            closing: shared.closing.child_token(),
        });
        shared.tracker.spawn(feed(shared.clone(), desk.clone(), queues));
        Self { shared: shared.clone(), desk }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.desk.closing.cancel();
    }
}

#[async_trait]
impl Consumer for Subscription {
    async fn next(&mut self, want: Want) -> Result<Delivery, Error> {
        let desk = &*self.desk;
        let _asking = Asking::new(desk, want.tasks);
        loop {
            let arrived = desk.arrived.notified();
            if desk.closing.is_cancelled() {
                return Err(Error::Closed);
            }
            let now = SystemClock.now();
            let (taken, passed, due) = {
                let mut buffer = desk.buffer();
                let mut taken = buffer.take(want, now);
                // Those of a connection that broke: the broker sends them again.
                taken.retain(|m| m.hold.acker.usable());
                (taken, buffer.passed(), buffer.next_due(now))
            };
            passed.into_iter().for_each(|marker| self.pass(&marker));
            if !taken.is_empty() {
                return Ok(deliver(taken));
            }
            let sleep = due.map_or(LONGEST_SLEEP, |due| due.since(now).min(LONGEST_SLEEP));
            tokio::select! {
                () = arrived => {}
                () = desk.closing.cancelled() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }
}

impl Subscription {
    /// Tells that all before a marker has been handed on.
    fn pass(&self, message: &Message<Hold>) {
        if let Body::Marker(marker) = &message.body {
            message.hold.ack();
            self.shared.notify(&Notice::Passed(marker.number));
        }
    }
}

fn deliver(messages: Vec<Message<Hold>>) -> Delivery {
    let (mut tasks, mut holds) = (Vec::new(), Vec::new());
    for message in messages {
        if let Body::Tasks(of) = message.body {
            tasks.extend(of);
            holds.push(message.hold);
        }
    }
    Delivery::new(tasks, move |_, acked| {
        holds.iter().for_each(|hold| if acked { hold.ack() } else { hold.requeue() });
    })
}

/// Keeps a consumer supplied until it is closed.
async fn feed(shared: Arc<Shared>, desk: Arc<Desk>, queues: Queues) {
    let work = async {
        let mut asking = desk.asking.subscribe();
        loop {
            if asking.wait_for(|asks| asks.waits).await.is_err() {
                return;
            }
            let ended = session(&shared, &desk, &queues).await;
            desk.give_back();
            if let Err(error) = ended {
                tracing::warn!(%error, "consuming was interrupted");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = desk.closing.cancelled() => {}
    }
    desk.give_back();
}

/// What a lane's queue sent, by its name.
type Sent = (Arc<str>, lapin::Result<lapin::message::Delivery>);
type Deliveries = SelectAll<BoxStream<'static, Sent>>;

/// Consumes until the owner is idle or wants far more, on a channel of its own.
async fn session(shared: &Shared, desk: &Desk, queues: &Queues) -> Result<(), Error> {
    let channel = shared.consuming.channel().await?;
    let mut known = shared.known.subscribe();
    let (mut deliveries, mut open) = (Deliveries::new(), BTreeSet::new());
    let opened_for = desk.asking.borrow().tasks;
    loop {
        let names: Vec<Arc<str>> = match queues {
            Queues::All => known.borrow_and_update().iter().cloned().collect(),
            Queues::Only(names) => names.clone(),
        };
        for name in names {
            if open.insert(name.clone()) {
                deliveries.extend(lanes(shared, &channel, &name, opened_for).await?);
            }
        }
        let asks = *desk.asking.borrow();
        tokio::select! {
            Some(sent) = deliveries.next(), if !deliveries.is_empty() => {
                take(shared, desk, &channel, sent)?;
                // What came with it is looked at first: the owner draws from all bands.
                while let Some(Some(sent)) = deliveries.next().now_or_never() {
                    take(shared, desk, &channel, sent)?;
                }
                desk.arrived.notify_waiters();
            }
            changed = known.changed() => changed.map_err(away)?,
            () = tokio::time::sleep_until((asks.since + IDLE).max(Instant::now() + IDLE / 10)) => {}
        }
        if desk.is_idle() || asks.tasks >= opened_for.saturating_mul(GROWS).max(PREFETCH.0 * GROWS) {
            // The consumers are cancelled as they are dropped; the channel lives as long as its deliveries.
            return Ok(());
        }
        if !channel.status().connected() {
            return Err(away("the channel was closed"));
        }
    }
}

/// Consumes the lanes of a queue, the highest first.
async fn lanes(
    shared: &Shared,
    channel: &Channel,
    queue: &str,
    tasks: usize,
) -> Result<Vec<BoxStream<'static, Sent>>, Error> {
    let messages = tasks.div_ceil(shared.pace.ids(queue)).clamp(PREFETCH.0, PREFETCH.1);
    let messages = u16::try_from(messages).unwrap_or(u16::MAX);
    let mut streams = Vec::new();
    for band in Band::ALL.into_iter().rev() {
        let name = queue_name(&shared.options.prefix, queue, band);
        shared.ensure(&name).await?;
        // Counts for the consumers that follow.
        soon(channel.basic_qos(messages, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let told =
            soon(channel.basic_consume(name.as_str().into(), "".into(), options, FieldTable::default()));
        let consumer = told.await.inspect_err(|_| shared.forget(&name))?;
        // Its end means that the queue is gone: then all of it begins anew.
        let end = futures::stream::once(async { Err(lapin::ErrorKind::FutureCompleted.into()) });
        let name: Arc<str> = name.into();
        streams.push(consumer.chain(end).map(move |sent| (name.clone(), sent)).boxed());
    }
    Ok(streams)
}

fn take(shared: &Shared, desk: &Desk, channel: &Channel, (name, sent): Sent) -> Result<(), Error> {
    let delivery = sent.map_err(|error| {
        shared.forget(&name);
        away(error)
    })?;
    let hold = Hold { acker: delivery.acker, _channel: channel.clone() };
    if delivery.redelivered {
        shared.counts.redelivered.fetch_add(1, Ordering::Relaxed);
    }
    match decode(&delivery.data) {
        Some(body) => desk.buffer().push(Message { body, hold }),
        None => {
            shared.counts.undecodable.fetch_add(1, Ordering::Relaxed);
            tracing::error!(queue = %name, "a message cannot be read");
            hold.bury();
        }
    }
    Ok(())
}
