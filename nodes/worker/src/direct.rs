//! Tasks that are taken as they are admitted, past the hand-off: see [`callboard_ports::taker`].
//!
//! What is taken so stays on the node that admitted it, and is started next. So it is done only where
//! - attempts are short: longer ones are worth a way to the node that has the most room;
//! - there is room for them now: a free slot, or one that is about to be free;
//! - nothing waits in the hand-off: what was queued before comes first, and by its priority.

use crate::claims::Claiming;
use crate::engine::Engine;
use crate::take;
use callboard_domain::{NewTask, SessionId, TaskId};
use callboard_ports::handoff::{Queues, Ready};
use callboard_ports::store::Claimed;
use callboard_ports::taker::{Taker, Taking};
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::OwnedRwLockReadGuard;

/// What is taken beyond the free slots should start within this: about what the way through a broker takes.
const AHEAD: Duration = Duration::from_millis(10);
/// Nothing waited so long ago: since then the worker has been claiming what came last.
const DRY_WITHIN: Duration = Duration::from_millis(10);

/// Offers an engine's room to its node's store. It does not keep the engine alive.
struct Direct {
    engine: Weak<Engine>,
    /// Where attempts run: the store may settle on a thread of its own.
    runtime: Handle,
}

/// Whoever takes tasks for an engine as they are admitted. Must be called within the runtime that runs attempts.
#[must_use]
pub fn taker(engine: &Arc<Engine>) -> Arc<dyn Taker> {
    Arc::new(Direct { engine: Arc::downgrade(engine), runtime: Handle::current() })
}

impl Taker for Direct {
    fn take(&self, tasks: &mut dyn Iterator<Item = &NewTask>) -> Option<Box<dyn Taking>> {
        let engine = self.engine.upgrade()?;
        let room = engine.room_at_once()?;
        let session = engine.session()?;
        // While what is held is compared with what runs, no claim is under way.
        let under_way = Arc::clone(&engine.claiming).try_read_owned().ok()?;
        let mine: Vec<Ready> =
            tasks.filter(|new| engine.runs_at_once(new)).take(room).map(unqueued).collect();
        if mine.is_empty() {
            return None;
        }
        let fences = engine.fences();
        let claiming = engine.claims.begin(session, &mine, room);
        let ids = claiming.ids().into_iter().collect();
        let (node, runtime) = (Arc::clone(&engine.options.node), self.runtime.clone());
        Some(Box::new(Offered { engine, runtime, node, claiming, ids, fences, under_way }))
    }
}

/// As a task would be handed off that never was.
fn unqueued(new: &NewTask) -> Ready {
    Ready {
        id: new.spec.id,
        handoff: 0,
        queue: Arc::clone(&new.spec.queue),
        band: new.spec.priority.band(),
        alone: false,
        not_before: None,
    }
}

impl Engine {
    /// How many tasks can be taken past the hand-off now, if any.
    fn room_at_once(&self) -> Option<usize> {
        let ahead = self.pace.ahead_within(AHEAD, self.options.slots);
        let room = take::room(self, ahead?);
        let may = room > 0 && take::may_claim(self) && take::results_fit(self) && !self.is_draining();
        (may && self.dry.was_within(DRY_WITHIN, Instant::now())).then_some(room)
    }

    fn runs_at_once(&self, new: &NewTask) -> bool {
        let is_mine = match &self.options.queues {
            Queues::All => true,
            Queues::Only(names) => names.contains(&new.spec.queue),
        };
        is_mine && new.run_at.is_none() && self.hosted.contains(&*new.spec.kind)
    }
}

/// Tasks on their way into the store, RUNNING.
struct Offered {
    engine: Arc<Engine>,
    runtime: Handle,
    node: Arc<str>,
    claiming: Claiming,
    ids: HashSet<TaskId>,
    fences: u64,
    under_way: OwnedRwLockReadGuard<()>,
}

impl Taking for Offered {
    fn session(&self) -> SessionId {
        self.claiming.session()
    }

    fn node(&self) -> Arc<str> {
        Arc::clone(&self.node)
    }

    fn takes(&self, id: TaskId) -> bool {
        self.ids.contains(&id)
    }

    fn settle(self: Box<Self>, claimed: Vec<Claimed>, in_doubt: bool) {
        let Self { engine, runtime, claiming, fences, under_way, .. } = *self;
        let _within = runtime.enter();
        let now = engine.deps.clock.now();
        for claimed in claimed {
            engine.stats.claimed(&claimed.task, now);
            take::start(&engine, &claiming, claimed, None, fences);
        }
        if in_doubt {
            claiming.doubt();
            engine.look.notify_one();
        }
        drop(under_way);
    }
}
