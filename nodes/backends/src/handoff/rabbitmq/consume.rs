//! A consumer: what its owner calls, and the task that keeps it supplied.
//!
//! It consumes only while its owner asks. An owner that has not asked for a moment, and claims nothing, has no free
//! slot: then its basic consumers are cancelled and what they were sent is returned, for others to take.

use super::Shared;
use super::buffer::Message;
use super::desk::{Asking, Asks, Desk, Hold};
use super::message::Body;
use super::notices::Notice;
use super::session::{Ended, close, session};
use async_trait::async_trait;
use callboard_ports::handoff::{Consumer, Delivery, Dry, Error, Queues, Want};
use callboard_ports::{Clock as _, SystemClock};
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// No sleeper trusts the wall clock for longer than this: it may step.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// One consumer of some queues.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    dry: Arc<Dry>,
}

impl Subscription {
    pub(super) fn new(shared: &Arc<Shared>, queues: Queues) -> Self {
        let desk = Arc::new(Desk {
            buffer: Mutex::default(),
            openings: AtomicU64::new(0),
            arrived: Notify::new(),
            asking: watch::Sender::new(Asks::none()),
            closing: shared.closing.child_token(),
        });
        shared.tracker.spawn(feed(shared.clone(), desk.clone(), queues));
        Self { shared: shared.clone(), desk, dry: Arc::default() }
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
            let (now, at) = (SystemClock.now(), Instant::now());
            let (taken, passed, due, expected, is_dry) = {
                let mut buffer = desk.buffer();
                let mut taken = buffer.take(want, now, at);
                // Those of a connection that broke: the broker sends them again.
                taken.retain(|m| m.hold.acker.usable());
                let passed = buffer.passed();
                (taken, passed, buffer.next_due(now), buffer.next_expected(at), buffer.is_dry(at))
            };
            passed.into_iter().for_each(|marker| self.pass(&marker));
            let _dry = is_dry.then(|| self.dry.found());
            if !taken.is_empty() {
                return Ok(self.deliver(taken));
            }
            let sleep = due.map_or(LONGEST_SLEEP, |due| due.since(now).min(LONGEST_SLEEP));
            let sleep = expected.map_or(sleep, |until| sleep.min(until - at));
            tokio::select! {
                () = arrived => {}
                () = desk.closing.cancelled() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    fn tell(&mut self, dry: Arc<Dry>) {
        self.dry = dry;
    }

    fn rest(&mut self) {
        self.desk.rests();
    }
}

impl Subscription {
    fn deliver(&self, messages: Vec<Message<Hold>>) -> Delivery {
        let (mut tasks, mut holds, mut sent) = (Vec::new(), Vec::new(), HashMap::new());
        for message in messages {
            let (lane, opening) = (message.lane(), message.opening);
            if let Body::Tasks(of) = message.body {
                sent.extend(message.sent.iter().flat_map(|span| of.iter().map(|ready| (ready.id, *span))));
                tasks.extend(of);
                holds.push((lane, opening, message.hold));
            }
        }
        let (desk, tracker) = (self.desk.clone(), self.shared.tracker.clone());
        desk.delivers();
        let delivery = Delivery::new(tasks, move |_, acked| {
            let settle = |hold: &Hold| if acked { hold.ack() } else { hold.requeue() };
            let settling: Vec<_> = holds.iter().filter_map(|(_, _, hold)| settle(hold)).collect();
            let at = Instant::now();
            for (lane, opening, _) in holds.iter().filter(|_| acked) {
                if let Some(lane) = lane {
                    desk.buffer().acknowledged(lane, *opening, at);
                }
            }
            if !settling.is_empty() {
                let telling = desk.telling();
                tracker.spawn(async move {
                    join_all(settling).await;
                    drop(telling);
                });
            }
            desk.settles();
        });
        delivery.sent_by(sent)
    }

    /// Tells that all before a marker has been handed on.
    fn pass(&self, message: &Message<Hold>) {
        if let Body::Marker(marker) = &message.body {
            message.hold.ack_later();
            self.shared.notify(&Notice::Passed(marker.number));
        }
    }
}

/// Keeps a consumer supplied until it is closed.
async fn feed(shared: Arc<Shared>, desk: Arc<Desk>, queues: Queues) {
    let work = async {
        let mut asking = desk.asking.subscribe();
        loop {
            if asking.wait_for(Asks::waits).await.is_err() {
                return;
            }
            match session(&shared, &desk, &queues).await {
                Ok(Ended::Streams) => {}
                Ok(Ended::Idle(channels)) => {
                    desk.give_back();
                    // Closed, all that was given back is in its queue: what is consumed next comes in its order.
                    // Not while the owner has something to acknowledge over one of them, or may have taken it just now.
                    if desk.asking.borrow().holds_nothing() {
                        join_all(channels.iter().map(close)).await;
                    }
                }
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
