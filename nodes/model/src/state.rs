//! What the model remembers: the store, the broker, and what each node has in memory.

use crate::scenario::Budget;
use callboard_domain::{Command, Lifecycle, SessionId, State as Stands, Timestamp};
use std::hash::{Hash, Hasher};

/// How many tasks there are.
pub(crate) const TASKS: usize = 2;
/// How many nodes there are.
pub(crate) const NODES: usize = 2;

/// Something for each task, by its number.
pub(crate) type PerTask<T> = [T; TASKS];
/// A hand-off number; zero where there is none.
pub(crate) type Number = u8;

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// What the store says of the tasks.
    pub(crate) tasks: PerTask<Task>,
    /// The nodes.
    pub(crate) nodes: [Node; NODES],
    /// Claims that are under way: at a node, in the store, or both. In order, so that equal states are equal.
    pub(crate) claims: Vec<Claim>,
    /// What was published and is not confirmed yet, in order.
    pub(crate) published: Vec<PerTask<Number>>,
    /// The broker's queue. None: it is gone.
    pub(crate) queue: Option<Vec<Message>>,
    /// What the repair waits for.
    pub(crate) marked: Option<Marked>,
    /// What may still go wrong.
    pub(crate) left: Budget,
    /// Whether the repair has handed off a task that the broker had not lost.
    pub(crate) needless: bool,
}

/// A session: the node and the number of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Session {
    /// The node.
    pub(crate) node: usize,
    /// Counted from 1, raised with every session of the node.
    pub(crate) life: u8,
}

impl Session {
    /// As the domain knows it.
    #[must_use]
    pub(crate) fn id(self) -> SessionId {
        let mut bytes = [0; 16];
        bytes[0] = u8::from(self.node == 1);
        bytes[1] = self.life;
        SessionId::from_bytes(bytes)
    }
}

/// A task's lifecycle, without what only its log needs: two ways to the same place are one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life(Lifecycle);

impl Life {
    fn new(mut life: Lifecycle) -> Self {
        life.seq = 0;
        life.run_at = EPOCH;
        Self(life)
    }

    /// The number of its newest attempt, to be closed up.
    pub(crate) fn attempt_mut(&mut self) -> &mut u32 {
        &mut self.0.attempt
    }

    /// Puts the other node's session in the place of its own.
    pub(crate) fn swap_node(&mut self) {
        let other = |id: SessionId| {
            let mut bytes = *id.as_bytes();
            bytes[0] ^= 1;
            SessionId::from_bytes(bytes)
        };
        self.0.session = self.0.session.map(other);
    }
}

impl std::ops::Deref for Life {
    type Target = Lifecycle;

    fn deref(&self) -> &Lifecycle {
        &self.0
    }
}

impl Hash for Life {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Lifecycle { state, attempt, failures, lost, session, started, cancel_requested, .. } = &self.0;
        (state, attempt, failures, lost, session, started, cancel_requested).hash(hasher);
    }
}

/// The only time there is: a wait is a step that may come at any time.
pub(crate) const EPOCH: Timestamp = Timestamp::from_micros(0);

/// A task in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Task {
    /// None before it is admitted.
    pub(crate) life: Option<Life>,
    /// The newest hand-off.
    pub(crate) handoff: Number,
    /// The rows of the outbox: one bit for each hand-off.
    pub(crate) rows: u32,
    /// Whether the broker has lost the newest hand-off.
    pub(crate) lost: bool,
    /// How many results were recorded.
    pub(crate) results: u8,
    /// Whether an attempt was recorded that did not hold the task.
    pub(crate) stale: bool,
    /// Attempts whose end may still be on its way to the store, though nobody waits for the answer. In order.
    pub(crate) stragglers: Vec<(Session, u32)>,
}

impl Task {
    /// Writes it down.
    pub(crate) fn admit(&mut self) {
        self.life = Some(Life::new(Lifecycle::submit(None, EPOCH).0));
        self.hand_off();
    }

    /// Writes it down, held by a session from the beginning: it is not handed off.
    pub(crate) fn admit_claimed(&mut self, session: SessionId) {
        self.life = Some(Life::new(Lifecycle::submit(None, EPOCH).0));
        self.happen(Command::Claim { session });
    }

    /// Where it stands, if it was admitted.
    #[must_use]
    pub(crate) fn stands(&self) -> Option<Stands> {
        self.life.as_ref().map(|life| life.state)
    }

    /// Whether it is QUEUED.
    #[must_use]
    pub(crate) fn is_queued(&self) -> bool {
        self.stands() == Some(Stands::Queued)
    }

    /// The attempt a session holds.
    #[must_use]
    pub(crate) fn held_by(&self, session: Session) -> Option<u32> {
        let life = self.life.as_ref().filter(|life| life.state == Stands::Running)?;
        (life.session == Some(session.id())).then_some(life.attempt)
    }

    /// Lets the product decide, and does what follows from it. Returns whether anything does.
    pub(crate) fn happen(&mut self, command: Command) -> bool {
        let Some(life) = &self.life else { return false };
        let Some(next) = life.decide(command).ok().and_then(|what| life.apply(&what).ok()) else {
            return false;
        };
        let before = life.state;
        let next = Life::new(next);
        if before != Stands::Succeeded && next.state == Stands::Succeeded {
            self.results += 1;
        }
        let queued = next.state == Stands::Queued && before != Stands::Queued;
        self.lost &= next.state == Stands::Queued;
        self.life = Some(next);
        if queued {
            self.hand_off();
        }
        true
    }

    /// A new row, under the next number.
    pub(crate) fn hand_off(&mut self) {
        self.handoff += 1;
        self.rows |= row(self.handoff);
        self.lost = false;
    }

    /// Whether the outbox has a row of this number.
    #[must_use]
    pub(crate) fn has_row(&self, number: Number) -> bool {
        self.rows & row(number) != 0
    }

    /// The numbers of its rows.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Number> + '_ {
        (1..=self.handoff).filter(|number| self.has_row(*number))
    }

    /// The end of an attempt may be on its way, whatever becomes of who reported it.
    pub(crate) fn straggle(&mut self, session: Session, attempt: u32) {
        self.stragglers.push((session, attempt));
        self.stragglers.sort_unstable();
        self.stragglers.dedup();
    }
}

/// The bit of a row. The budgets keep the numbers far below 32.
#[must_use]
pub(crate) const fn row(number: Number) -> u32 {
    1 << (number % 32)
}

/// A node: its session's row, and what its process has in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// The number of its newest session.
    pub(crate) life: u8,
    /// Whether that session has not been ended.
    pub(crate) live: bool,
    /// Whether somebody holds its row FOR UPDATE, to end it.
    pub(crate) ending: bool,
    /// Whether its process runs.
    pub(crate) up: bool,
    /// What it holds or may hold of each task.
    pub(crate) entries: PerTask<Entry>,
    /// What it found when it compared what it runs with the store.
    pub(crate) look: Option<Look>,
}

/// What a node holds of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// Nothing.
    Free,
    /// Its claim is under way.
    Claiming {
        /// The hand-off it came with.
        handoff: Number,
        /// Whether a cancel was asked for meanwhile.
        cancel: bool,
    },
    /// Whether its claim has committed is not known.
    Doubtful {
        /// The session it was made under.
        session: Session,
    },
    /// Its handler runs.
    Held {
        /// Under which session.
        session: Session,
        /// Which attempt.
        attempt: u32,
        /// The hand-off it came with.
        handoff: Number,
        /// Whether the handler knows that a cancel was asked for.
        cancel: bool,
    },
}

/// What a node has read of what it holds in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Look {
    /// The session it asked for.
    pub(crate) session: Session,
    /// The attempts that nobody runs; zero where there is none.
    pub(crate) give_back: PerTask<u32>,
    /// The doubts that are resolved when those are given back.
    pub(crate) doubts: PerTask<bool>,
}

impl Node {
    /// A node that has just begun.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { life: 1, live: true, ending: false, up: true, entries: [Entry::Free; TASKS], look: None }
    }

    /// How many tasks it holds or may hold.
    #[must_use]
    pub(crate) fn busy(&self) -> usize {
        self.entries.iter().filter(|entry| **entry != Entry::Free).count()
    }

    /// Whether exactly this attempt is held.
    #[must_use]
    pub(crate) fn holds(&self, task: usize, number: u32) -> bool {
        matches!(self.entries[task], Entry::Held { attempt, .. } if attempt == number)
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// A claim: the node that waits for it, its transaction, and the message it was made for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Claim {
    /// The session it is made under.
    pub(crate) session: Session,
    /// Whether a node waits for its answer. Else its connection was cut, and the server has not noticed.
    pub(crate) attached: bool,
    /// The hand-offs to take; zero where there is none.
    pub(crate) take: PerTask<Number>,
    /// The tasks to give back.
    pub(crate) rest: PerTask<bool>,
    /// How far it is.
    pub(crate) phase: Phase,
    /// The message, to be acknowledged. None: the broker has taken it back, or was told already.
    pub(crate) message: Option<Message>,
    /// Whether its node has given up attempts since it began.
    pub(crate) fenced: bool,
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// It holds its session's row FOR KEY SHARE.
    Session,
    /// It holds the rows of these tasks too, and has written what it decided.
    Tasks(PerTask<bool>),
    /// It has committed: the attempts it has claimed are on their way to its node; zero where there is none.
    Answered(PerTask<u32>),
}

impl Claim {
    /// Whether it takes a task, or has.
    #[must_use]
    pub(crate) const fn concerns(&self, task: usize) -> bool {
        self.take[task] > 0 || matches!(self.phase, Phase::Answered(claimed) if claimed[task] > 0)
    }

    /// Whether it holds its session's row.
    #[must_use]
    pub(crate) const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Answered(_))
    }

    /// Whether it holds a task's row.
    #[must_use]
    pub(crate) const fn locks(&self, task: usize) -> bool {
        matches!(self.phase, Phase::Tasks(locked) if locked[task])
    }
}

/// A message in the queue. One without a task is a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Message {
    /// The hand-offs it carries; zero where there is none.
    pub(crate) numbers: PerTask<Number>,
    /// Whether it was delivered before.
    pub(crate) again: bool,
}

impl Message {
    /// A marker.
    pub(crate) const MARKER: Self = Self::new([0; TASKS]);

    /// A message that was not delivered yet.
    #[must_use]
    pub(crate) const fn new(numbers: PerTask<Number>) -> Self {
        Self { numbers, again: false }
    }

    /// Whether it shows how far the queue was consumed.
    #[must_use]
    pub(crate) fn is_marker(&self) -> bool {
        self.numbers == [0; TASKS]
    }
}

/// What the repair has noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Marked {
    /// The hand-offs that were suspect; zero where none was.
    pub(crate) suspects: PerTask<Number>,
    /// Whether its marker was consumed.
    pub(crate) passed: bool,
}

impl State {
    /// Before the first task.
    #[must_use]
    pub(crate) fn new(left: Budget) -> Self {
        Self {
            tasks: [Task::default(), Task::default()],
            nodes: [Node::new(), Node::new()],
            claims: Vec::new(),
            published: Vec::new(),
            queue: Some(Vec::new()),
            marked: None,
            left,
            needless: false,
        }
    }

    /// The newest session of a node.
    #[must_use]
    pub(crate) fn session(&self, node: usize) -> Session {
        Session { node, life: self.nodes[node].life }
    }

    /// Whether a session has not been ended.
    #[must_use]
    pub(crate) fn is_live(&self, session: Session) -> bool {
        let node = &self.nodes[session.node];
        node.live && node.life == session.life
    }

    /// Whether a transaction holds a task's row.
    #[must_use]
    pub(crate) fn is_locked(&self, task: usize) -> bool {
        self.claims.iter().any(|claim| claim.locks(task))
    }

    /// The claim a node waits for.
    #[must_use]
    pub(crate) fn claim_of(&self, node: usize) -> Option<usize> {
        self.claims.iter().position(|claim| claim.attached && claim.session.node == node)
    }

    /// Whether a hand-off is in the queue, or delivered and not acknowledged.
    #[must_use]
    pub(crate) fn travels(&self, task: usize, number: Number) -> bool {
        let queued = self.queue.iter().flatten();
        let delivered = self.claims.iter().filter_map(|claim| claim.message.as_ref());
        queued.chain(delivered).any(|message| message.numbers[task] == number)
    }

    /// Puts a delivered message back where it came from. Into a queue that is gone nothing comes back.
    pub(crate) fn requeue(&mut self, message: Option<Message>) {
        if let (Some(queue), Some(message)) = (&mut self.queue, message) {
            queue.insert(0, Message { again: true, ..message });
        }
    }
}
