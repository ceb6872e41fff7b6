//! A consumer: what its owner calls, and the task that keeps it supplied.
//!
//! It consumes only while its owner asks. An owner that has not asked for [`IDLE`] has no free slot: then its
//! basic consumers are cancelled and what they were sent is returned, for others to take.

use super::Shared;
use super::buffer::{Buffer, Message};
use super::link::{away, soon};
use super::message::{decode, queue_name};
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An owner that has not asked for so long gives back what it holds.
const IDLE: Duration = Duration::from_millis(50);
/// Messages a band may have unacknowledged, lowest first: in proportion to the weights, so that a refill is on
/// its way before a band looks empty.
const PREFETCH: [u16; 3] = [4, 12, 48];
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
    /// Whether the owner waits, and since when that is so.
    asking: watch::Sender<(bool, Instant)>,
    closing: CancellationToken,
}

impl Desk {
    fn buffer(&self) -> MutexGuard<'_, Buffer<Hold>> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        let (asking, since) = *self.asking.borrow();
        !asking && since.elapsed() >= IDLE
    }

    fn give_back(&self) {
        let held = self.buffer().drain();
        held.iter().for_each(|m| m.hold.requeue());
    }
}

/// Says that the owner waits, until it is dropped.
struct Asking<'a>(&'a Desk);

impl<'a> Asking<'a> {
    fn new(desk: &'a Desk) -> Self {
        desk.asking.send_replace((true, Instant::now()));
        Self(desk)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.send_replace((false, Instant::now()));
    }
}

/// One consumer of some queues.
pub(super) struct Subscription(Arc<Desk>);

impl Subscription {
    pub(super) fn new(shared: &Arc<Shared>, queues: Queues) -> Self {
        let desk = Arc::new(Desk {
            buffer: Mutex::default(),
            arrived: Notify::new(),
            asking: watch::Sender::new((false, Instant::now())),
            closing: shared.closing.child_token(),
        });
        shared.tracker.spawn(feed(shared.clone(), desk.clone(), queues));
        Self(desk)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.closing.cancel();
    }
}

#[async_trait]
impl Consumer for Subscription {
    async fn next(&mut self, want: Want) -> Result<Delivery, Error> {
        let desk = &*self.0;
        let _asking = Asking::new(desk);
        loop {
            let arrived = desk.arrived.notified();
            if desk.closing.is_cancelled() {
                return Err(Error::Closed);
            }
            let now = SystemClock.now();
            let (taken, due) = {
                let mut buffer = desk.buffer();
                let mut taken = buffer.take(want, now);
                // Those of a connection that broke: the broker sends them again.
                taken.retain(|m| m.hold.acker.usable());
                (taken, buffer.next_due(now))
            };
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

fn deliver(messages: Vec<Message<Hold>>) -> Delivery {
    let (mut tasks, mut holds) = (Vec::new(), Vec::new());
    for message in messages {
        tasks.extend(message.tasks);
        holds.push(message.hold);
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
            if asking.wait_for(|(asks, _)| *asks).await.is_err() {
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

type Deliveries = SelectAll<BoxStream<'static, lapin::Result<lapin::message::Delivery>>>;

/// Consumes until the owner is idle, on a channel of its own.
async fn session(shared: &Shared, desk: &Desk, queues: &Queues) -> Result<(), Error> {
    let channel = shared.consuming.channel().await?;
    let mut known = shared.known.subscribe();
    let (mut deliveries, mut lanes) = (Deliveries::new(), BTreeSet::new());
    loop {
        let names: Vec<Arc<str>> = match queues {
            Queues::All => known.borrow_and_update().iter().cloned().collect(),
            Queues::Only(names) => names.clone(),
        };
        for name in names {
            if lanes.insert(name.clone()) {
                open(shared, &channel, &name, &mut deliveries).await?;
            }
        }
        let since = desk.asking.borrow().1;
        tokio::select! {
            Some(delivery) = deliveries.next(), if !deliveries.is_empty() => take(shared, desk, &channel, delivery.map_err(away)?),
            changed = known.changed() => changed.map_err(away)?,
            () = tokio::time::sleep_until((since + IDLE).max(Instant::now() + Duration::from_millis(5))) => {}
        }
        if desk.is_idle() {
            // The consumers are cancelled as they are dropped; the channel lives as long as its deliveries.
            drop(deliveries);
            return Ok(());
        }
        if !channel.status().connected() {
            return Err(away("the channel was closed"));
        }
    }
}

/// Consumes the three lanes of a queue.
async fn open(shared: &Shared, channel: &Channel, queue: &str, into: &mut Deliveries) -> Result<(), Error> {
    for band in Band::ALL {
        let name = queue_name(&shared.options.prefix, queue, band);
        shared.ensure(&name).await?;
        soon(channel.basic_qos(PREFETCH[usize::from(band.index())], BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let told =
            soon(channel.basic_consume(name.as_str().into(), "".into(), options, FieldTable::default()));
        match told.await {
            // Its end means that the queue is gone: then all of it begins anew.
            Ok(consumer) => into.push(
                consumer
                    .chain(futures::stream::once(async { Err(lapin::ErrorKind::FutureCompleted.into()) }))
                    .boxed(),
            ),
            Err(error) => {
                shared.forget(&name);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn take(shared: &Shared, desk: &Desk, channel: &Channel, delivery: lapin::message::Delivery) {
    let hold = Hold { acker: delivery.acker, _channel: channel.clone() };
    match decode(&delivery.data) {
        Some(tasks) => {
            desk.buffer().push(Message { tasks, hold });
            desk.arrived.notify_waiters();
        }
        None => {
            shared.undecodable.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::error!(queue = %delivery.routing_key, "a message cannot be read");
            hold.bury();
        }
    }
}
