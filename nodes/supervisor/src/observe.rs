//! Looking at the others: who is live, who is silent, who is to be asked what is wrong.

use crate::cluster::{MESH, Member};
use crate::keeper::within;
use crate::node::Node;
use crate::pursue::{self, Cause};
use callboard_domain::{SessionId, Timestamp};
use callboard_ports::sessions::Session;
use callboard_ports::store::Error;
use callboard_runtime::membership::{Refusals, Silence, Timing};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What an observer remembers of the others. It survives a restart of the actor, so that this gives no new
/// right to end sessions.
pub(crate) struct Observer {
    pub(crate) silence: Silence,
    pub(crate) refusals: Refusals,
    /// Which life of its node holds a session, as that has told.
    pub(crate) lives: HashMap<SessionId, u64>,
    /// The sessions whose address is wrong: who answers there, and since when that is known.
    pub(crate) wrong: HashMap<SessionId, (String, Timestamp)>,
    /// Since when the counter of a session stands still.
    pub(crate) quiet: HashMap<SessionId, Timestamp>,
}

impl Observer {
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            silence: Silence::new(timing),
            refusals: Refusals::new(timing.timeout),
            lives: HashMap::new(),
            wrong: HashMap::new(),
            quiet: HashMap::new(),
        }
    }

    fn forget_the_gone(&mut self) {
        let silence = &self.silence;
        self.lives.retain(|session, _| silence.knows(*session));
        self.wrong.retain(|session, _| silence.knows(*session));
    }
}

/// A look at the live sessions.
struct Reading {
    asked: Instant,
    answered: Instant,
    live: Vec<Session>,
}

enum Done {
    Looked(Result<Reading, Error>),
    Case(Key),
}

/// A session, and whether it is accused of silence: that does not wait for a probe that gets no answer.
type Key = (SessionId, bool);

/// What is being done, one case of each key at a time.
#[derive(Default)]
struct Cases {
    running: JoinSet<Done>,
    looking: bool,
    open: HashSet<Key>,
    /// Suspected again meanwhile: the answer under way may be older than the suspicion.
    again: HashSet<SessionId>,
}

/// Looks at the others until the node closes.
pub(crate) async fn observe(node: Arc<Node>) {
    let Some(member) = node.member.clone() else { return };
    // An earlier life of the actor may still be letting go.
    let mut hints = member.hints.lock().await;
    member.observer().silence.reset(Instant::now());
    let mut tick = interval(member.cluster.timing.period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cases = Cases::default();
    loop {
        tokio::select! {
            () = member.closing.cancelled() => return,
            _ = tick.tick() => cases.look(&member),
            () = member.look.notified() => cases.look(&member),
            Some(session) = hints.recv() => cases.suspected(&node, &member, session),
            Some(done) = cases.running.join_next() => cases.done(&node, &member, done),
        }
    }
}

impl Cases {
    fn look(&mut self, member: &Arc<Member>) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let member = Arc::clone(member);
        self.running.spawn(async move {
            let cluster = &member.cluster;
            let asked = Instant::now();
            let live = within(cluster.timing.pause, cluster.sessions.live_sessions()).await;
            Done::Looked(live.map(|live| Reading { asked, answered: Instant::now(), live }))
        });
    }

    fn done(&mut self, node: &Arc<Node>, member: &Arc<Member>, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Looked(reading)) => {
                self.looking = false;
                match reading {
                    Ok(reading) => self.read(node, member, reading),
                    Err(error) => tracing::warn!(%error, "cannot look at the other nodes"),
                }
            }
            Ok(Done::Case(key)) => {
                self.open.remove(&key);
                if !key.1 && self.again.remove(&key.0) {
                    self.suspected(node, member, key.0);
                }
            }
            // The actor's shell restarts what has panicked.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    fn read(&mut self, node: &Arc<Node>, member: &Arc<Member>, reading: Reading) {
        let Reading { asked, answered, live } = reading;
        let own = node.session();
        let others: Vec<Session> = live.iter().filter(|s| Some(s.opened.id) != own).cloned().collect();
        let unbroken = member.lease().unbroken(answered);
        let (new, silent, quiet) = {
            let mut observer = member.observer();
            let counters = others.iter().map(|s| (s.opened.id, s.counter));
            let new = observer.silence.observe(asked, answered, counters);
            observer.refusals.note_nodes(answered, live.len());
            observer.forget_the_gone();
            let silent = observer.silence.silent(unbroken);
            let quiet = observer.silence.quiet();
            let now = node.deps.clock.now();
            let since: HashMap<_, _> =
                quiet.iter().map(|(id, _)| (*id, observer.quiet.get(id).copied().unwrap_or(now))).collect();
            observer.quiet = since;
            (new, silent, quiet)
        };
        publish(member, live, &others);
        for (session, counter) in silent {
            self.open(node, member, session, Cause::Silent(counter));
        }
        for (session, _) in quiet {
            self.open(node, member, session, Cause::Suspected);
        }
        for session in new {
            self.open(node, member, session, Cause::New);
        }
    }

    fn suspected(&mut self, node: &Arc<Node>, member: &Arc<Member>, session: SessionId) {
        if self.open.contains(&(session, false)) {
            self.again.insert(session);
        } else {
            self.open(node, member, session, Cause::Suspected);
        }
    }

    fn open(&mut self, node: &Arc<Node>, member: &Arc<Member>, session: SessionId, cause: Cause) {
        let live = member.live.borrow().clone();
        let Some(accused) = live.iter().find(|s| s.opened.id == session) else { return };
        if node.session() == Some(session)
            || (cause == Cause::New && !accused.opened.addresses.contains_key(MESH))
        {
            return;
        }
        let key = (session, matches!(cause, Cause::Silent(_)));
        if !self.open.insert(key) {
            return;
        }
        let (node, member, accused) = (Arc::clone(node), Arc::clone(member), accused.clone());
        self.running.spawn(async move {
            pursue::pursue(&node, &member, &accused, cause).await;
            Done::Case(key)
        });
    }
}

/// Tells who is live, if that has changed; the counters always do.
fn publish(member: &Member, live: Vec<Session>, others: &[Session]) {
    let mut changed = false;
    member.live.send_if_modified(|before| {
        let same = before.len() == live.len() && before.iter().zip(&live).all(|(a, b)| a.opened == b.opened);
        changed = !same;
        *before = live.into();
        changed
    });
    if changed {
        (member.cluster.hooks.on_members)(others);
    }
}
