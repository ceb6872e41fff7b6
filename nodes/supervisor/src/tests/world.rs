//! A cluster on paper: one store of sessions, an address book, and nodes whose loops run on tokio's paused
//! clock. Ghosts are sessions without a node: they renew, or do not, as the test says.

use super::stub::Work;
use crate::cluster::{Cluster, Hooks, MESH, Prober};
use crate::keeper::Keeper;
use crate::node::{Deps, Node, Options, Setup};
use crate::reconcile::DueHint;
use crate::restarts::Restarts;
use crate::{cutoff, observe, reconcile, status};
use async_trait::async_trait;
use callboard_domain::{SessionId, TaskId, Timestamp};
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session, SessionStore};
use callboard_ports::store::Error;
use callboard_ports::{Clock, SystemClock};
use callboard_runtime::membership::{Probe, Timing};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How the store treats one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    #[default]
    Up,
    /// It refuses at once.
    Down,
    /// It never answers.
    Hangs,
    /// It does what is asked, and the answer is lost.
    LosesAnswers,
}

/// Who is at an address.
#[derive(Clone)]
pub(crate) enum Listener {
    Hangs,
    Unreachable,
    /// Says this in turn, the last for ever.
    Says(Vec<Probe>),
    Node(Arc<Node>),
}

pub(crate) struct Row {
    pub(crate) session: Session,
    /// A ghost that renews, since then.
    renews: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) id: SessionId,
    pub(crate) reason: String,
    pub(crate) at: Instant,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) rows: BTreeMap<SessionId, Row>,
    pub(crate) ends: Vec<End>,
    pub(crate) reach: HashMap<String, Reach>,
    pub(crate) all: Reach,
    pub(crate) book: HashMap<String, Listener>,
    pub(crate) cancels: HashMap<SessionId, Vec<TaskId>>,
    next: u8,
}

#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn next_id(&self) -> SessionId {
        let mut state = self.state();
        state.next += 1;
        SessionId::from_bytes([state.next; 16])
    }

    pub(crate) fn reach(&self, node: &str, reach: Reach) {
        self.state().reach.insert(node.into(), reach);
    }

    pub(crate) fn listen(&self, address: &str, listener: Listener) {
        self.state().book.insert(address.into(), listener);
    }

    pub(crate) fn says(&self, address: &str, probes: impl Into<Vec<Probe>>) {
        self.listen(address, Listener::Says(probes.into()));
    }

    /// A session without a node. Nobody listens at its address unless a test says so.
    pub(crate) fn ghost(&self, node: &str, renews: bool, revival: bool) -> SessionId {
        let id = self.next_id();
        let opened = NewSession {
            id,
            node: node.into(),
            version: "1".into(),
            roles: vec![],
            addresses: BTreeMap::from([(MESH.to_owned(), node.to_owned())]),
            revival,
        };
        let session = Session { opened, started_at: Timestamp::default(), counter: 1, ended: None };
        self.state().rows.insert(id, Row { session, renews: renews.then(Instant::now) });
        id
    }

    pub(crate) fn renews(&self, id: SessionId, renews: bool) {
        let mut state = self.state();
        let row = state.rows.get_mut(&id).unwrap();
        row.session.counter = row.counter();
        row.renews = renews.then(Instant::now);
    }

    pub(crate) fn is_live(&self, id: SessionId) -> bool {
        self.state().rows.get(&id).is_some_and(|row| row.session.ended.is_none())
    }

    pub(crate) fn end_of(&self, id: SessionId) -> Option<End> {
        self.state().ends.iter().find(|end| end.id == id).cloned()
    }

    pub(crate) fn end(&self, id: SessionId, reason: &str) -> Option<EndedSession> {
        let mut state = self.state();
        let row = state.rows.get_mut(&id)?;
        if row.session.ended.is_some() {
            return None;
        }
        row.session.ended = Some((Timestamp::default(), reason.into()));
        state.ends.push(End { id, reason: reason.into(), at: Instant::now() });
        Some(EndedSession::default())
    }
}

impl Row {
    fn counter(&self) -> u64 {
        self.session.counter + self.renews.map_or(0, |since| since.elapsed().as_secs())
    }
}

/// The store and the network, as one node sees them.
pub(crate) struct View {
    pub(crate) world: Arc<World>,
    pub(crate) node: String,
}

impl View {
    async fn reached<T>(&self, answer: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        sleep(Duration::from_millis(1)).await;
        let reach = {
            let state = self.world.state();
            if state.all == Reach::Up {
                state.reach.get(&self.node).copied().unwrap_or_default()
            } else {
                state.all
            }
        };
        match reach {
            Reach::Up => answer(),
            Reach::Down => Err(Error::Unavailable("down".into())),
            Reach::Hangs => std::future::pending().await,
            Reach::LosesAnswers => answer().and(Err(Error::Unknown("lost".into()))),
        }
    }
}

#[async_trait]
impl SessionStore for View {
    async fn open_session(&self, session: NewSession) -> Result<(), Error> {
        self.reached(|| {
            let mut state = self.world.state();
            if state.rows.contains_key(&session.id) {
                return Err(Error::Refused("opened before".into()));
            }
            let id = session.id;
            let session =
                Session { opened: session, started_at: Timestamp::default(), counter: 0, ended: None };
            state.rows.insert(id, Row { session, renews: None });
            Ok(())
        })
        .await
    }

    async fn renew_session(&self, id: SessionId) -> Result<Vec<TaskId>, Error> {
        self.reached(|| {
            let mut state = self.world.state();
            let row = state.rows.get_mut(&id).filter(|row| row.session.ended.is_none());
            row.ok_or(Error::SessionEnded)?.session.counter += 1;
            Ok(state.cancels.get(&id).cloned().unwrap_or_default())
        })
        .await
    }

    async fn end_session(&self, id: SessionId, reason: &str) -> Result<EndedSession, Error> {
        self.reached(|| Ok(self.world.end(id, reason).unwrap_or_default())).await
    }

    async fn accuse(&self, accusation: Accusation) -> Result<Option<EndedSession>, Error> {
        self.reached(|| {
            if !self.world.is_live(accusation.accuser) {
                return Err(Error::SessionEnded);
            }
            let counter = self.world.state().rows.get(&accusation.accused).map(Row::counter);
            if accusation.counter.is_some() && accusation.counter != counter {
                return Ok(None);
            }
            Ok(self.world.end(accusation.accused, &accusation.reason))
        })
        .await
    }

    async fn recover_orphans(&self, _: usize) -> Result<usize, Error> {
        self.reached(|| Ok(0)).await
    }

    async fn live_sessions(&self) -> Result<Vec<Session>, Error> {
        self.reached(|| {
            let state = self.world.state();
            let live = state.rows.values().filter(|row| row.session.ended.is_none());
            Ok(live.map(|row| Session { counter: row.counter(), ..row.session.clone() }).collect())
        })
        .await
    }
}

#[async_trait]
impl Prober for View {
    async fn probe(&self, address: &str) -> Probe {
        sleep(Duration::from_millis(1)).await;
        let listener = match self.world.state().book.get_mut(address) {
            Some(Listener::Says(probes)) if probes.len() > 1 => Some(Listener::Says(vec![probes.remove(0)])),
            other => other.cloned(),
        };
        match listener {
            None => Probe::Refused,
            Some(Listener::Unreachable) => Probe::Unreachable,
            Some(Listener::Hangs) => std::future::pending().await,
            Some(Listener::Says(probes)) => probes[0].clone(),
            Some(Listener::Node(node)) => Probe::Answered {
                node: node.options.name.clone(),
                session: node.session(),
                incarnation: node.incarnation(),
            },
        }
    }

    async fn store_reachable(&self, peer: &Session) -> Option<bool> {
        let address = peer.opened.addresses.get(MESH)?.clone();
        let listener = self.world.state().book.get(&address).cloned();
        match listener? {
            Listener::Node(node) => Some(status::status(&node).await.store_reachable),
            Listener::Hangs => std::future::pending().await,
            Listener::Unreachable | Listener::Says(_) => None,
        }
    }
}

/// What a node was told, by its hooks.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) cancels: Vec<Vec<TaskId>>,
    pub(crate) over: Vec<SessionId>,
    pub(crate) cut_off: Vec<Instant>,
    pub(crate) members: Vec<Vec<String>>,
    pub(crate) opened: Vec<SessionId>,
    pub(crate) gave_up: Vec<String>,
    pub(crate) exits: usize,
}

/// A clock on which every node started later has a later life.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// A node with its loops.
pub(crate) struct TestNode {
    pub(crate) world: Arc<World>,
    pub(crate) node: Arc<Node>,
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) may_claim: watch::Receiver<bool>,
    pub(crate) work: Arc<Work>,
    pub(crate) ended: CancellationToken,
    loops: JoinSet<()>,
}

impl TestNode {
    /// A node that nothing runs for yet; its mesh listener answers at the address of its name.
    pub(crate) fn new(world: &Arc<World>, name: &str) -> Self {
        Self::with_timing(world, name, Timing::default())
    }

    pub(crate) fn with_timing(world: &Arc<World>, name: &str, timing: Timing) -> Self {
        let told: Arc<Mutex<Told>> = Arc::default();
        let log = |note: fn(&mut Told, SessionId)| -> Arc<dyn Fn(SessionId) + Send + Sync> {
            let told = Arc::clone(&told);
            Arc::new(move |id| note(&mut told.lock().unwrap(), id))
        };
        let (cancels, members, exits, gave_up) = (told.clone(), told.clone(), told.clone(), told.clone());
        let hooks = Hooks {
            on_opened: log(|told, id| told.opened.push(id)),
            on_session_over: log(|told, id| told.over.push(id)),
            on_cut_off: log(|told, _| told.cut_off.push(Instant::now())),
            on_cancels: Arc::new(move |ids| cancels.lock().unwrap().cancels.push(ids)),
            on_members: Arc::new(move |live| {
                let names = live.iter().map(|s| s.opened.node.clone()).collect();
                members.lock().unwrap().members.push(names);
            }),
            exit: Arc::new(move || exits.lock().unwrap().exits += 1),
        };
        let view = || Arc::new(View { world: Arc::clone(world), node: name.into() });
        let (may_claim, may_claim_now) = watch::channel(true);
        let ended = CancellationToken::new();
        let cluster = Cluster {
            timing,
            renewals: view(),
            sessions: view(),
            prober: view(),
            hooks,
            may_claim,
            ended: ended.clone(),
        };
        let work = Arc::new(Work::default());
        let ids = Arc::clone(world);
        let clock = Arc::new(Ticking(AtomicI64::new(i64::from(world.state().next) * 1_000_000 + 1)));
        let give_up: Arc<dyn Fn(String) + Send + Sync> =
            Arc::new(move |why| gave_up.lock().unwrap().gave_up.push(why));
        let deps = Deps {
            store: work.clone(),
            clock,
            new_session_id: Arc::new(move || ids.next_id()),
            due: DueHint::new(),
            restarts: Arc::new(Restarts::new(Arc::new(SystemClock), Arc::new(|_| ()), give_up.clone())),
            children: vec![],
            give_up,
        };
        let options = Options {
            name: name.into(),
            version: "1".into(),
            roles: vec!["worker".into()],
            addresses: BTreeMap::from([(MESH.to_owned(), name.to_owned())]),
        };
        let setup = Setup { cluster: Some(cluster), ..Setup::default() };
        let node = Node::with(options, deps, watch::Sender::new(None), setup);
        world.listen(name, Listener::Node(node.clone()));
        let world = Arc::clone(world);
        Self { world, node, told, may_claim: may_claim_now, work, ended, loops: JoinSet::new() }
    }

    /// A node that keeps its session and nothing else.
    pub(crate) async fn keeping(world: &Arc<World>, name: &str) -> Self {
        let mut node = Self::new(world, name);
        node.keep();
        node.until("a session is open", |n| n.node.session().is_some()).await;
        node
    }

    /// A node with all its loops.
    pub(crate) async fn start(world: &Arc<World>, name: &str) -> Self {
        let mut node = Self::keeping(world, name).await;
        node.loops.spawn(observe::observe(node.node.clone()));
        node.loops.spawn(cutoff::watch(node.node.clone()));
        let id = node.id();
        node.until("it sees itself", |n| n.node.live().iter().any(|s| s.opened.id == id)).await;
        node
    }

    pub(crate) fn keep(&mut self) {
        let member = self.node.member.clone().unwrap();
        self.loops.spawn(Keeper::new(self.node.clone(), member.clone()).run());
        self.loops.spawn(async move {
            loop {
                member.move_beat();
                sleep(Duration::from_secs(1)).await;
            }
        });
    }

    pub(crate) fn run_due(&mut self) {
        self.loops.spawn(reconcile::due(self.node.clone()));
    }

    pub(crate) fn id(&self) -> SessionId {
        self.node.session().unwrap()
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// As `kill -9` does: nothing runs any more, and nobody listens.
    pub(crate) fn kill(&mut self) {
        self.loops.abort_all();
        let name = &self.node.options.name;
        self.world.state().book.remove(name);
    }

    /// As a cut cable does: nothing is reached from it or there.
    pub(crate) fn cut(&self) {
        let name = &self.node.options.name;
        self.world.reach(name, Reach::Hangs);
        self.world.listen(name, Listener::Hangs);
    }

    /// Waits for a state, at most a minute of the paused clock. Returns how long it took.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !is(self) {
            assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
            sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }

    /// Looks all through a span of the paused clock.
    pub(crate) async fn throughout(&self, span: Duration, what: &str, is: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while start.elapsed() < span {
            assert!(is(self), "not {what} after {:?}", start.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
    }
}
