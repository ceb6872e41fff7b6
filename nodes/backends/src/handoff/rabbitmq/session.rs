//! A time in which a consumer's lanes are consumed: from its owner's first question to when it has no free slot.

use super::Shared;
use super::buffer::Message;
use super::desk::{Asks, Desk, Hold};
use super::link::{PASSIVE, soon};
use super::message::{decode, queue_name};
use super::trace;
use callboard_domain::Band;
use callboard_ports::handoff::{Error, Queues};
use callboard_ports::outbox::Lane;
use futures::future::join_all;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use lapin::Channel;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// The fewest and the most messages that a lane sends ahead of their acknowledgement, for an owner that takes a
/// few and is busy: it gives the rest back.
const PREFETCH: (usize, usize) = (2, 256);
/// The same for an owner that takes one after the other, lowest band first: in proportion to the weights, so that
/// a refill is on its way before a band looks empty.
const STREAM: [usize; 3] = [64, 128, 256];
/// An owner that has asked so often without a break takes one after the other.
const STREAMS: u32 = 8;
/// How long a session waits for its lanes to open before it shows its owner what came: the first message is not
/// always the most urgent.
const GATHER: Duration = Duration::from_millis(30);
/// How long after a failure a lane is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// What a lane sent. Without a delivery, the lane is closed.
struct Sent {
    lane: Lane,
    opening: u64,
    channel: Channel,
    delivery: Option<lapin::message::Delivery>,
}

/// A lane that is consumed.
struct Consuming {
    channel: Channel,
    tag: ShortString,
    opening: u64,
    /// How many messages are sent ahead, and how many waited.
    window: u16,
    count: usize,
    stream: BoxStream<'static, Sent>,
}

type Opened = (Lane, Result<Consuming, Error>);

/// The lanes of one session. Each has a channel of its own: a queue that cannot be consumed, because its broker
/// has lost it or does not answer, holds no other up.
struct Lanes<'a> {
    shared: &'a Arc<Shared>,
    desk: &'a Desk,
    /// What the owner asked for when the session began.
    asks: Asks,
    open: BTreeSet<Arc<str>>,
    opening: FuturesUnordered<oneshot::Receiver<Opened>>,
    deliveries: SelectAll<BoxStream<'static, Sent>>,
    /// Those that could not be opened when it was tried last.
    failing: BTreeSet<Lane>,
    /// What ends each lane.
    ends: BTreeMap<Lane, End>,
    /// Those whose queue was there again while they were being opened: they may consume what is gone.
    stale: BTreeSet<Lane>,
}

/// What ends a lane that is consumed.
struct End {
    opening: u64,
    channel: Channel,
    tag: ShortString,
}

impl<'a> Lanes<'a> {
    /// Begins to consume the queues that are not yet consumed.
    fn add(&mut self, queues: Vec<Arc<str>>) {
        for queue in queues {
            if self.open.insert(queue.clone()) {
                for band in Band::ALL.into_iter().rev() {
                    let lane = (queue.clone(), band);
                    self.desk.buffer().opening(&lane, Instant::now());
                    self.open(lane, Duration::ZERO);
                }
            }
        }
    }

    /// Opens a lane in a task of its own: one that is dropped half-way would leave a consumer at the broker that
    /// takes messages and hands on none.
    fn open(&self, lane: Lane, after: Duration) {
        let (shared, asks) = (Arc::clone(self.shared), self.asks);
        let opening = self.desk.openings.fetch_add(1, Ordering::Relaxed) + 1;
        let (told, opened) = oneshot::channel();
        self.shared.tracker.spawn(async move {
            tokio::time::sleep(after).await;
            if !told.is_closed() {
                let opened = open(&shared, &lane, opening, asks).await;
                // Dropped with its session, it is cancelled.
                let _ = told.send((lane, opened));
            }
        });
        self.opening.push(opened);
    }

    fn opened(&mut self, (lane, opened): Opened) {
        match opened {
            Ok(Consuming { channel, tag, opening, window, count, stream }) => {
                self.desk.buffer().opened(&lane, opening, usize::from(window), count, Instant::now());
                tracing::debug!(queue = %lane.0, band = ?lane.1, "consumes");
                self.deliveries.push(stream);
                self.failing.remove(&lane);
                self.ends.insert(lane.clone(), End { opening, channel, tag });
                if self.stale.remove(&lane) {
                    self.anew(lane);
                }
            }
            Err(error) => {
                self.desk.buffer().closed(&lane);
                // Told once: it is tried again until it works.
                if self.failing.insert(lane.clone()) {
                    tracing::warn!(queue = %lane.0, band = ?lane.1, %error, "cannot consume a queue");
                }
                self.open(lane, AGAIN);
            }
        }
    }

    fn sent(&mut self, sent: Sent) {
        let Sent { lane, opening, channel, delivery } = sent;
        match delivery {
            Some(delivery) => take(self.shared, self.desk, opening, channel, delivery),
            // One that was opened anew since is another.
            None if self.ends.get(&lane).is_some_and(|end| end.opening == opening) => {
                self.ends.remove(&lane);
                self.desk.buffer().closed(&lane);
                self.shared.forget(&lane_name(self.shared, &lane));
                self.open(lane, AGAIN);
            }
            None => {}
        }
    }

    /// Queues are there again that were gone; without a name, perhaps all.
    fn there_again(&mut self, name: Option<&str>) {
        let lanes = self.open.iter().flat_map(|queue| Band::ALL.map(|band| (queue.clone(), band)));
        let concerned: Vec<_> =
            lanes.filter(|lane| name.is_none_or(|name| lane_name(self.shared, lane) == name)).collect();
        concerned.into_iter().for_each(|lane| self.anew(lane));
    }

    /// Consumes a lane anew. What came over its old channel and is not settled comes again.
    fn anew(&mut self, lane: Lane) {
        let Some(End { channel, .. }) = self.ends.remove(&lane) else {
            self.stale.insert(lane);
            return;
        };
        tracing::debug!(queue = %lane.0, band = ?lane.1, "the queue was gone: it is consumed anew");
        self.desk.buffer().closed(&lane);
        self.shared.tracker.spawn(async move { close(&channel).await });
        self.open(lane, Duration::ZERO);
    }
}

impl Lanes<'_> {
    /// Stops consuming, and takes in what was on its way. Answers the channels it used.
    async fn end(&mut self) -> Vec<Channel> {
        self.opening.clear();
        let ends = std::mem::take(&mut self.ends);
        for queue in &self.open {
            Band::ALL.into_iter().for_each(|band| self.desk.buffer().closed(&(queue.clone(), band)));
        }
        let channels = join_all(ends.into_values().map(async |End { channel, tag, .. }| {
            let cancelled = channel.basic_cancel(tag, BasicCancelOptions::default());
            let _ = soon("cancelling", cancelled).await;
            channel
        }))
        .await;
        while let Some(Some(sent)) = self.deliveries.next().now_or_never() {
            if let Some(delivery) = sent.delivery {
                take(self.shared, self.desk, sent.opening, sent.channel, delivery);
            }
        }
        channels
    }
}

/// Closes a channel. What it was sent and did not settle is in its queue again afterwards.
pub(super) async fn close(channel: &Channel) {
    // One that does not answer is closed when it is dropped.
    let _ = soon("closing a channel", channel.close(200, "".into())).await;
}

/// How a session ended.
pub(super) enum Ended {
    /// Its owner has no free slot. The channels it used.
    Idle(Vec<Channel>),
    /// Its owner takes one after the other: larger consumers serve it better.
    Streams,
}

/// Consumes until the owner is idle or begins to take one after the other. An error means the end.
pub(super) async fn session(
    shared: &Arc<Shared>,
    desk: &Desk,
    queues: &Queues,
) -> Result<Ended, watch::error::RecvError> {
    let mut known = shared.known.subscribe();
    let asks = *desk.asking.borrow();
    let mut lanes = Lanes {
        shared,
        desk,
        asks,
        open: BTreeSet::new(),
        opening: FuturesUnordered::new(),
        deliveries: SelectAll::new(),
        failing: BTreeSet::new(),
        ends: BTreeMap::new(),
        stale: BTreeSet::new(),
    };
    let mut anew = shared.anew.subscribe();
    let began = Instant::now();
    // By when the owner is told of what came.
    let mut shown = began + GATHER;
    let mut asking = desk.asking.subscribe();
    loop {
        lanes.add(match queues {
            Queues::All => known.borrow_and_update().iter().cloned().collect(),
            Queues::Only(names) => names.clone(),
        });
        let now = *asking.borrow_and_update();
        tokio::select! {
            Some(sent) = lanes.deliveries.next(), if !lanes.deliveries.is_empty() => lanes.sent(sent),
            Some(opened) = lanes.opening.next(), if !lanes.opening.is_empty() => {
                // Its task does not end without an answer while somebody waits.
                if let Ok(opened) = opened {
                    lanes.opened(opened);
                }
                if lanes.opening.is_empty() {
                    shown = shown.min(Instant::now());
                }
            }
            told = anew.recv() => match told {
                Ok(name) => lanes.there_again(Some(&name)),
                // Its sender is there as long as this.
                Err(_) => lanes.there_again(None),
            },
            changed = known.changed() => changed?,
            changed = asking.changed() => changed?,
            () = tokio::time::sleep_until(now.idle_at().unwrap_or(began)), if now.idle_at().is_some() => {}
            () = tokio::time::sleep_until(shown), if Instant::now() < shown => {}
        }
        // What came with it is looked at first: the owner draws from all bands.
        while let Some(Some(sent)) = lanes.deliveries.next().now_or_never() {
            lanes.sent(sent);
        }
        if Instant::now() >= shown {
            desk.show();
        }
        let streams = desk.asking.borrow().times >= STREAMS && asks.times < STREAMS;
        if streams || desk.is_idle() {
            let channels = lanes.end().await;
            tracing::debug!(streams, lasted = ?began.elapsed(), "consumes no more");
            return Ok(if streams { Ended::Streams } else { Ended::Idle(channels) });
        }
    }
}

fn lane_name(shared: &Shared, (queue, band): &Lane) -> String {
    queue_name(&shared.options.prefix, queue, *band)
}

/// Consumes a lane. The stream ends with a closed lane: its queue is gone, or the connection is.
async fn open(shared: &Shared, lane: &Lane, opening: u64, asks: Asks) -> Result<Consuming, Error> {
    let name = lane_name(shared, lane);
    shared.ensure(&shared.consuming, &name).await?;
    let least = if asks.times >= STREAMS { STREAM[usize::from(lane.1.index())] } else { PREFETCH.0 };
    let messages = asks.tasks.div_ceil(shared.pace.ids(&lane.0)).clamp(least, PREFETCH.1);
    let messages = u16::try_from(messages).unwrap_or(u16::MAX);
    // One of its own for each opening: a quorum queue may still send to a consumer that was cancelled, and what
    // nobody sees returns when its channel is closed.
    let channel = shared.consuming.channel().await?;
    soon("setting the prefetch", channel.basic_qos(messages, BasicQosOptions::default())).await?;
    let count =
        soon("looking for a queue", waiting(&channel, &name)).await.inspect_err(|_| shared.forget(&name))?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(name.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = match soon("consuming", consumer).await {
        Ok(consumer) => consumer,
        Err(error) => {
            shared.forget(&name);
            // The broker may still begin to send.
            close(&channel).await;
            return Err(error);
        }
    };
    let (of, ends) = (lane.clone(), lane.clone());
    let (ended, kept, tag) = (channel.clone(), channel.clone(), consumer.tag());
    let sent = consumer.map(move |sent| Sent {
        lane: of.clone(),
        opening,
        channel: channel.clone(),
        delivery: sent.ok(),
    });
    let end =
        futures::stream::once(async move { Sent { lane: ends, opening, channel: ended, delivery: None } });
    // An error is its end too, and is told once.
    let mut over = false;
    let told = sent.chain(end).take_while(move |sent| {
        let before = std::mem::replace(&mut over, sent.delivery.is_none());
        over |= before;
        std::future::ready(!before)
    });
    Ok(Consuming { channel: kept, tag, opening, window: messages, count, stream: told.boxed() })
}

/// How many messages wait in a queue.
async fn waiting(channel: &Channel, name: &str) -> lapin::Result<usize> {
    let queue = channel.queue_declare(name.into(), PASSIVE, FieldTable::default()).await?;
    Ok(usize::try_from(queue.message_count()).unwrap_or(usize::MAX))
}

fn take(shared: &Shared, desk: &Desk, opening: u64, channel: Channel, delivery: lapin::message::Delivery) {
    let hold = Hold { acker: delivery.acker, channel, tracker: shared.tracker.clone() };
    if delivery.redelivered {
        shared.counts.redelivered.fetch_add(1, Ordering::Relaxed);
    }
    let sent = trace::link(&delivery.properties).filter(|_| shared.options.tracer.records());
    match decode(&delivery.data) {
        Some(body) => desk.buffer().push(Message { body, hold, opening, sent }, Instant::now()),
        None => {
            shared.counts.undecodable.fetch_add(1, Ordering::Relaxed);
            tracing::error!(queue = %delivery.routing_key, "a message cannot be read");
            hold.bury();
        }
    }
}
