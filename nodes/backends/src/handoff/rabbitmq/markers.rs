//! Markers: messages that show how far a lane has been consumed.

use super::Shared;
use super::message::{self, queue_name};
use super::notices::{Listener, Notice, exchange};
use crate::handoff::relay::repair;
use async_trait::async_trait;
use callboard_ports::handoff::Error;
use callboard_ports::outbox::Lane;
use callboard_ports::{Clock as _, SystemClock};
use std::collections::HashMap;
use std::sync::Arc;

/// Publishes markers and hears of those that were consumed, by whichever node.
pub struct Markers {
    shared: Arc<Shared>,
    listener: Listener,
    next: u64,
    /// The lanes that were asked for, by the names of their queues.
    lanes: HashMap<String, Lane>,
}

impl Markers {
    pub(super) async fn open(shared: Arc<Shared>) -> Result<Self, Error> {
        let listener = Listener::open(&shared.consuming, &exchange(&shared.options.prefix)).await?;
        // No two repairers may use the same numbers: a node that was one before may still hear of its own.
        let next = SystemClock.now().micros().unsigned_abs();
        Ok(Self { shared, listener, next, lanes: HashMap::new() })
    }

    fn name(&self, (queue, band): &Lane) -> String {
        queue_name(&self.shared.options.prefix, queue, *band)
    }
}

#[async_trait]
impl repair::Markers for Markers {
    async fn mark(&mut self, lane: &Lane) -> Result<u64, Error> {
        let number = self.next;
        self.next += 1;
        let name = self.name(lane);
        self.lanes.insert(name.clone(), lane.clone());
        let marker = message::Marker { number, queue: lane.0.clone(), band: lane.1 };
        let told = self.shared.lane(name, vec![message::encode_marker(&marker)]).await;
        told.into_iter().next().unwrap_or(Err(Error::Closed)).map(|()| number)
    }

    async fn heard(&mut self) -> Result<repair::Heard, Error> {
        loop {
            match self.listener.next().await? {
                Notice::Passed(number) => return Ok(repair::Heard::Passed(number)),
                Notice::Declared(name) => {
                    if let Some(lane) = self.lanes.get(&name) {
                        return Ok(repair::Heard::Lost(lane.clone()));
                    }
                }
                // `Declared` is told with it.
                Notice::Anew { .. } => {}
            }
        }
    }

    async fn is_idle(&self, lane: &Lane) -> Result<bool, Error> {
        let (messages, consumers) = self.shared.publishing.depth(&self.name(lane)).await?;
        Ok(messages == 0 && consumers > 0)
    }
}
