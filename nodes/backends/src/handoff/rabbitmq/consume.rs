//! A consumer: what its owner calls, and the task that keeps it supplied.
//!
//! It consumes only while its owner asks. An owner that has not asked for [`IDLE`] has no free slot: then its
//! basic consumers are cancelled and what they were sent is returned, for others to take.

use super::Shared;
use super::buffer::{Buffer, Message};
use super::link::soon;
use super::message::{Body, decode, queue_name};
use super::notices::Notice;
use async_trait::async_trait;
use callboard_domain::Band;
use callboard_ports::handoff::{Consumer, Delivery, Error, Queues, Want};
use callboard_ports::outbox::Lane;
use callboard_ports::{Clock as _, SystemClock};
use futures::future::join_all;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    BasicRejectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An owner that has not asked for so long gives back what it holds.
const IDLE: Duration = Duration::from_millis(50);
/// The fewest and the most messages that a lane sends ahead of their acknowledgement, for an owner that takes a
/// few and is busy: it gives the rest back.
const PREFETCH: (usize, usize) = (2, 256);
/// The same for an owner that takes one after the other, lowest band first: in proportion to the weights, so that
/// a refill is on its way before a band looks empty.
const STREAM: [usize; 3] = [64, 128, 256];
/// An owner that has asked so often without a break takes one after the other.
const STREAMS: u32 = 8;
/// How long after its lanes are open a session shows its owner what came, and how long it waits for them: the
/// first message is not always the most urgent.
const GATHER: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(30));
/// How long after a failure a lane is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// No sleeper trusts the wall clock for longer than this: it may step.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What settles a message. The channel lives as long as one of its deliveries.
struct Hold {
    acker: Acker,
    channel: Channel,
    tracker: TaskTracker,
}

impl Hold {
    /// Settles it behind the caller's back: nobody can do anything about a failure, after which the broker
    /// delivers it again. In the order of the calls: the broker is told when this is first polled.
    fn settle<F>(&self, settle: impl FnOnce(Acker) -> F)
    where
        F: Future<Output = lapin::Result<bool>> + Send + 'static,
    {
        let mut told = Box::pin(settle(self.acker.clone()));
        if told.as_mut().now_or_never().is_none() {
            // A channel that is dropped closes, and takes with it what is not yet written.
            let channel = self.channel.clone();
            self.tracker.spawn(async move {
                let _ = told.await;
                drop(channel);
            });
        }
    }

    fn ack(&self) {
        self.settle(|acker| async move { acker.ack(BasicAckOptions::default()).await });
    }

    fn requeue(&self) {
        let again = BasicNackOptions { requeue: true, multiple: false };
        self.settle(|acker| async move { acker.nack(again).await });
    }

    fn bury(&self) {
        self.settle(|acker| async move { acker.reject(BasicRejectOptions { requeue: false }).await });
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
    /// How often it has asked without a break.
    times: u32,
}

impl Desk {
    fn buffer(&self) -> MutexGuard<'_, Buffer<Hold>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the owner of what came.
    fn show(&self) {
        self.arrived.notify_waiters();
    }

    fn is_idle(&self) -> bool {
        let asks = *self.asking.borrow();
        !asks.waits && asks.since.elapsed() >= IDLE
    }

    fn give_back(&self) {
        let held = self.buffer().drain();
        tracing::debug!(messages = held.len(), "gives back");
        held.iter().for_each(|m| m.hold.requeue());
    }
}

/// Says that the owner waits, until it is dropped.
struct Asking<'a>(&'a Desk);

impl<'a> Asking<'a> {
    fn new(desk: &'a Desk, tasks: usize) -> Self {
        desk.asking.send_modify(|asks| {
            let times = if asks.since.elapsed() < IDLE { asks.times.saturating_add(1) } else { 1 };
            *asks = Asks { waits: true, since: Instant::now(), tasks, times };
        });
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
            asking: watch::Sender::new(Asks { waits: false, since: Instant::now(), tasks: 1, times: 0 }),
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
            match session(&shared, &desk, &queues).await {
                Ok(Ended::Streams) => {}
                Ok(Ended::Idle) => desk.give_back(),
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = desk.closing.cancelled() => {}
    }
    desk.give_back();
}

/// What a lane sent. Without a delivery, the lane is closed.
struct Sent {
    lane: Lane,
    channel: Channel,
    delivery: Option<lapin::message::Delivery>,
}

/// A lane that is consumed.
struct Consuming {
    channel: Channel,
    tag: ShortString,
    stream: BoxStream<'static, Sent>,
}

type Opened = (Lane, Result<Consuming, Error>);

/// The lanes of one session. Each has a channel of its own: a queue that cannot be consumed, because its broker
/// has lost it or does not answer, holds no other up.
struct Lanes<'a> {
    shared: &'a Arc<Shared>,
    /// What the owner asked for when the session began.
    asks: Asks,
    open: BTreeSet<Arc<str>>,
    opening: FuturesUnordered<oneshot::Receiver<Opened>>,
    deliveries: SelectAll<BoxStream<'static, Sent>>,
    /// Those that could not be opened when it was tried last.
    failing: BTreeSet<Lane>,
    /// What ends each lane.
    ends: BTreeMap<Lane, (Channel, ShortString)>,
}

impl<'a> Lanes<'a> {
    /// Begins to consume the queues that are not yet consumed.
    fn add(&mut self, queues: Vec<Arc<str>>) {
        for queue in queues {
            if self.open.insert(queue.clone()) {
                Band::ALL.into_iter().rev().for_each(|band| self.open((queue.clone(), band), Duration::ZERO));
            }
        }
    }

    /// Opens a lane in a task of its own: one that is dropped half-way would leave a consumer at the broker that
    /// takes messages and hands on none.
    fn open(&self, lane: Lane, after: Duration) {
        let (shared, asks) = (Arc::clone(self.shared), self.asks);
        let (told, opened) = oneshot::channel();
        self.shared.tracker.spawn(async move {
            tokio::time::sleep(after).await;
            if !told.is_closed() {
                let opened = open(&shared, &lane, asks).await;
                // Dropped with its session, it is cancelled.
                let _ = told.send((lane, opened));
            }
        });
        self.opening.push(opened);
    }

    fn opened(&mut self, (lane, opened): Opened) {
        match opened {
            Ok(Consuming { channel, tag, stream }) => {
                tracing::debug!(queue = %lane.0, band = ?lane.1, "consumes");
                self.deliveries.push(stream);
                self.failing.remove(&lane);
                self.ends.insert(lane, (channel, tag));
            }
            Err(error) => {
                // Told once: it is tried again until it works.
                if self.failing.insert(lane.clone()) {
                    tracing::warn!(queue = %lane.0, band = ?lane.1, %error, "cannot consume a queue");
                }
                self.open(lane, AGAIN);
            }
        }
    }

    fn sent(&mut self, desk: &Desk, sent: Sent) {
        let Sent { lane, channel, delivery } = sent;
        match delivery {
            Some(delivery) => take(self.shared, desk, channel, delivery),
            None => {
                self.ends.remove(&lane);
                self.shared.forget(&lane_name(self.shared, &lane));
                self.open(lane, AGAIN);
            }
        }
    }
}

impl Lanes<'_> {
    /// Stops consuming, and takes in what was on its way.
    async fn end(&mut self, desk: &Desk) {
        self.opening.clear();
        let ends = std::mem::take(&mut self.ends);
        join_all(ends.values().map(async |(channel, tag)| {
            let cancelled = channel.basic_cancel(tag.clone(), BasicCancelOptions::default());
            let _ = soon("cancelling", cancelled).await;
        }))
        .await;
        while let Some(Some(sent)) = self.deliveries.next().now_or_never() {
            if let Some(delivery) = sent.delivery {
                take(self.shared, desk, sent.channel, delivery);
            }
        }
    }
}

/// How a session ended.
enum Ended {
    /// Its owner has no free slot.
    Idle,
    /// Its owner takes one after the other: larger consumers serve it better.
    Streams,
}

/// Consumes until the owner is idle or begins to take one after the other. An error means the end.
async fn session(
    shared: &Arc<Shared>,
    desk: &Desk,
    queues: &Queues,
) -> Result<Ended, watch::error::RecvError> {
    let mut known = shared.known.subscribe();
    let asks = *desk.asking.borrow();
    let mut lanes = Lanes {
        shared,
        asks,
        open: BTreeSet::new(),
        opening: FuturesUnordered::new(),
        deliveries: SelectAll::new(),
        failing: BTreeSet::new(),
        ends: BTreeMap::new(),
    };
    let began = Instant::now();
    // By when the owner is told of what came.
    let mut shown = began + GATHER.1;
    loop {
        lanes.add(match queues {
            Queues::All => known.borrow_and_update().iter().cloned().collect(),
            Queues::Only(names) => names.clone(),
        });
        let idle = (desk.asking.borrow().since + IDLE).max(Instant::now() + IDLE / 10);
        tokio::select! {
            Some(sent) = lanes.deliveries.next(), if !lanes.deliveries.is_empty() => lanes.sent(desk, sent),
            Some(opened) = lanes.opening.next(), if !lanes.opening.is_empty() => {
                // Its task does not end without an answer while somebody waits.
                if let Ok(opened) = opened {
                    lanes.opened(opened);
                }
                if lanes.opening.is_empty() {
                    shown = shown.min(Instant::now() + GATHER.0);
                }
            }
            changed = known.changed() => changed?,
            () = tokio::time::sleep_until(idle.min(shown.max(Instant::now() + GATHER.0))) => {}
        }
        // What came with it is looked at first: the owner draws from all bands.
        while let Some(Some(sent)) = lanes.deliveries.next().now_or_never() {
            lanes.sent(desk, sent);
        }
        if Instant::now() >= shown {
            desk.show();
        }
        let streams = desk.asking.borrow().times >= STREAMS && asks.times < STREAMS;
        if streams || desk.is_idle() {
            lanes.end(desk).await;
            tracing::debug!(streams, lasted = ?began.elapsed(), "consumes no more");
            return Ok(if streams { Ended::Streams } else { Ended::Idle });
        }
    }
}

fn lane_name(shared: &Shared, (queue, band): &Lane) -> String {
    queue_name(&shared.options.prefix, queue, *band)
}

/// Consumes a lane. The stream ends with a closed lane: its queue is gone, or the connection is.
async fn open(shared: &Shared, lane: &Lane, asks: Asks) -> Result<Consuming, Error> {
    let name = lane_name(shared, lane);
    shared.ensure(&shared.consuming, &name).await?;
    let least = if asks.times >= STREAMS { STREAM[usize::from(lane.1.index())] } else { PREFETCH.0 };
    let messages = asks.tasks.div_ceil(shared.pace.ids(&lane.0)).clamp(least, PREFETCH.1);
    let messages = u16::try_from(messages).unwrap_or(u16::MAX);
    let channel = shared.consuming.channel().await?;
    soon("setting the prefetch", channel.basic_qos(messages, BasicQosOptions::default())).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(name.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = match soon("consuming", consumer).await {
        Ok(consumer) => consumer,
        Err(error) => {
            shared.forget(&name);
            // The broker may still begin to send.
            let _ = soon("closing a channel", channel.close(200, "".into())).await;
            return Err(error);
        }
    };
    let (of, ends) = (lane.clone(), lane.clone());
    let (ended, kept, tag) = (channel.clone(), channel.clone(), consumer.tag());
    let sent =
        consumer.map(move |sent| Sent { lane: of.clone(), channel: channel.clone(), delivery: sent.ok() });
    let end = futures::stream::once(async move { Sent { lane: ends, channel: ended, delivery: None } });
    // An error is its end too, and is told once.
    let mut over = false;
    let told = sent.chain(end).take_while(move |sent| {
        let before = std::mem::replace(&mut over, sent.delivery.is_none());
        over |= before;
        std::future::ready(!before)
    });
    Ok(Consuming { channel: kept, tag, stream: told.boxed() })
}

fn take(shared: &Shared, desk: &Desk, channel: Channel, delivery: lapin::message::Delivery) {
    let hold = Hold { acker: delivery.acker, channel, tracker: shared.tracker.clone() };
    if delivery.redelivered {
        shared.counts.redelivered.fetch_add(1, Ordering::Relaxed);
    }
    match decode(&delivery.data) {
        Some(body) => desk.buffer().push(Message { body, hold }),
        None => {
            shared.counts.undecodable.fetch_add(1, Ordering::Relaxed);
            tracing::error!(queue = %delivery.routing_key, "a message cannot be read");
            hold.bury();
        }
    }
}
