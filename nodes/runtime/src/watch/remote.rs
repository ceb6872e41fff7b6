use super::follow::{Changes, EventSource, follow};
use super::hub::{Hub, Interest};
use super::line::Line;
use callboard_domain::{Event, SessionId, TaskId};
use callboard_ports::store::{Commit, CommitObserver, Error, TaskReader};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How long reasons to read are gathered: also how long an event may be overtaken by the one after it.
const GATHER: Duration = Duration::from_millis(15);
/// The slow period: what nobody told is found by then.
const PERIOD: Duration = Duration::from_secs(1);
/// The wait after the store did not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// The most tasks of one read.
const TASKS: usize = 1_000;
/// The most events of one read.
const EVENTS: usize = 5_000;

/// What a [`Remote`] stands on.
pub struct Options {
    /// Whom to pass events on to. It must not observe the store itself.
    pub hub: Hub,
    /// The truth.
    pub reader: Arc<dyn TaskReader>,
    /// The events of other nodes.
    pub source: Arc<dyn EventSource>,
    /// What keeps track of the loops.
    pub tracker: TaskTracker,
}

/// Puts together what this node and its peers commit, for those who watch on this node. It observes the
/// store's commits in the hub's place. Its loops end when it is dropped.
pub struct Remote {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    _ends: DropGuard,
}

/// What the loops share.
pub(super) struct Shared {
    hub: Hub,
    reader: Arc<dyn TaskReader>,
    source: Arc<dyn EventSource>,
    /// Taken before the hub's lock, never after it.
    state: Mutex<State>,
    /// There is a reason to read.
    reason: Notify,
}

#[derive(Default)]
struct State {
    /// The tasks that are watched here.
    lines: HashMap<TaskId, Line>,
    peers: HashMap<SessionId, Peer>,
    /// Tasks to read soon; those with `false` only if a gap is still there by then.
    concerned: HashMap<TaskId, bool>,
    /// Whether all are.
    all: bool,
}

struct Peer {
    changes: Arc<Changes>,
    _ends: DropGuard,
}

impl Remote {
    /// Begins, without peers.
    #[must_use]
    pub fn start(options: Options) -> Arc<Self> {
        let Options { hub, reader, source, tracker } = options;
        let (state, reason) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { hub, reader, source, state, reason });
        let interest: Weak<Shared> = Arc::downgrade(&shared);
        shared.hub.tell(interest);
        let ends = CancellationToken::new();
        tracker.spawn(ends.clone().run_until_cancelled_owned(read(Arc::clone(&shared))));
        Arc::new(Self { shared, tracker, _ends: ends.drop_guard() })
    }

    /// The sessions of the other nodes are these, from now on. Those that stay are followed on.
    pub fn set_peers(&self, sessions: impl IntoIterator<Item = SessionId>) {
        let mut state = self.shared.lock();
        let mut before = std::mem::take(&mut state.peers);
        for session in sessions {
            let peer = before.remove(&session).unwrap_or_else(|| {
                let changes = Arc::new(Changes::default());
                changes.note(state.lines.keys().copied(), true);
                let ends = CancellationToken::new();
                let work = follow(Arc::clone(&self.shared), session, Arc::clone(&changes));
                self.tracker.spawn(ends.clone().run_until_cancelled_owned(work));
                Peer { changes, _ends: ends.drop_guard() }
            });
            state.peers.insert(session, peer);
        }
        drop(state);
        if !before.is_empty() {
            // What they committed last may not have been heard.
            self.shared.read_all();
        }
    }
}

impl CommitObserver for Remote {
    fn committed(&self, commit: &Commit) {
        if self.shared.hub.watchers() > 0 {
            self.shared.take(&commit.events);
        }
    }
}

impl Interest for Shared {
    fn changed(&self, task: TaskId) {
        let mut state = self.lock();
        // Asked under this lock, so that of two changes the later one's answer stays.
        let watched = self.hub.is_watched(task);
        if watched == state.lines.contains_key(&task) {
            return;
        }
        if watched {
            if state.lines.is_empty() {
                self.reason.notify_one();
            }
            state.lines.insert(task, Line::default());
        } else {
            state.lines.remove(&task);
            state.concerned.remove(&task);
        }
        for peer in state.peers.values() {
            peer.changes.note([task], watched);
        }
    }

    fn known(&self, task: TaskId, seq: u64) {
        let mut state = self.lock();
        if let Some(line) = state.lines.get_mut(&task) {
            line.known(seq);
        }
        if !state.peers.is_empty() {
            drop(state);
            self.read_soon(&[task]);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn source(&self) -> &dyn EventSource {
        self.source.as_ref()
    }

    /// A peer is to be told anew of everything that is watched.
    pub(super) fn tell_anew(&self, changes: &Changes) {
        let state = self.lock();
        changes.clear();
        changes.note(state.lines.keys().copied(), true);
    }

    /// Takes events, whoever told them, and passes on what is in order.
    pub(super) fn take(&self, events: &[Event]) {
        let mut state = self.lock();
        let (mut ready, mut gap) = (Vec::new(), false);
        for event in events {
            if let Some(line) = state.lines.get_mut(&event.task_id) {
                line.take(event, &mut ready);
                if line.has_gap() {
                    state.concerned.entry(event.task_id).or_insert(false);
                    gap = true;
                }
            }
        }
        if !ready.is_empty() {
            // Under the lock: what another thread takes next must not overtake it.
            self.hub.pass(&ready);
        }
        drop(state);
        if gap {
            self.reason.notify_one();
        }
    }

    /// These tasks may have events that nobody tells.
    pub(super) fn read_soon(&self, tasks: &[TaskId]) {
        self.lock().concerned.extend(tasks.iter().map(|task| (*task, true)));
        self.reason.notify_one();
    }

    /// Any task may.
    pub(super) fn read_all(&self) {
        self.lock().all = true;
        self.reason.notify_one();
    }

    /// What to read for the reasons there are, and from where.
    fn plan(&self, all: bool) -> Vec<(TaskId, u64)> {
        let mut state = self.lock();
        let concerned = std::mem::take(&mut state.concerned);
        let from = |(id, line): (&TaskId, &Line)| Some((*id, line.read_from()?));
        if std::mem::take(&mut state.all) || all {
            return state.lines.iter().filter_map(from).collect();
        }
        let lines = concerned.iter().filter_map(|(id, always)| {
            let (id, line) = state.lines.get_key_value(id)?;
            (*always || line.has_gap()).then_some((id, line))
        });
        lines.filter_map(from).collect()
    }

    /// Reads on for tasks, in as few reads as they take.
    async fn read(&self, mut tasks: Vec<(TaskId, u64)>) -> Result<(), Error> {
        tasks.sort_unstable();
        while !tasks.is_empty() {
            let rest = tasks.split_off(tasks.len().min(TASKS));
            let events = self.reader.events_after(tasks.clone(), EVENTS).await?;
            self.take(&events);
            let cut = (events.len() >= EVENTS).then(|| events.last().map(|event| (event.task_id, event.seq)));
            // A full answer holds all of the tasks before its last one.
            tasks = match cut.flatten() {
                Some((id, seq)) => {
                    let at = tasks.iter().position(|(task, _)| *task == id).unwrap_or(tasks.len());
                    let mut left = tasks.split_off(at);
                    if let Some(first) = left.first_mut() {
                        first.1 = seq;
                    }
                    left
                }
                None => Vec::new(),
            };
            tasks.extend(rest);
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.lock().lines.is_empty()
    }
}

/// Reads from the store what nobody told.
async fn read(shared: Arc<Shared>) {
    let mut period = Instant::now() + PERIOD;
    loop {
        if shared.is_idle() {
            shared.reason.notified().await;
            period = Instant::now() + PERIOD;
            sleep(GATHER).await;
        } else if timeout_at(period, shared.reason.notified()).await.is_ok() {
            sleep_until((Instant::now() + GATHER).min(period)).await;
        }
        let all = Instant::now() >= period;
        if all {
            period = Instant::now() + PERIOD;
        }
        let tasks = shared.plan(all);
        if tasks.is_empty() {
            continue;
        }
        if let Err(error) = shared.read(tasks).await {
            tracing::warn!(%error, "cannot read the events of watched tasks");
            shared.read_all();
            sleep(PAUSE).await;
        }
    }
}
