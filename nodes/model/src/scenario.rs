//! What is explored: how the cluster is, and how often what may go wrong.
//!
//! All that can go wrong at once makes too many states. So each scenario lets some of it go wrong, and is explored
//! completely; the numbers of states are those that are not [alike](crate::HandOff::alike).

/// How often each fault, or wish of a client, may come in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    /// A connection to the store is cut, at a commit or before: whether it commits, nobody hears.
    pub cuts: u8,
    /// A session is ended though its process lives.
    pub accusations: u8,
    /// A process is killed.
    pub kills: u8,
    /// A channel of the broker closes: what it had delivered comes again.
    pub redeliveries: u8,
    /// A row is published again because its confirm is late.
    pub late: u8,
    /// A confirm never comes, though the message is in its queue.
    pub lost_confirms: u8,
    /// The queue is gone, and all that was in it.
    pub lost_queues: u8,
    /// Somebody cancels a task.
    pub cancels: u8,
    /// An attempt fails by itself and is tried again.
    pub failures: u8,
    /// The repair looks for what was lost though nothing is missing.
    pub looks: u8,
}

/// One state space.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// How many tasks are admitted: one or two.
    pub tasks: usize,
    /// How many tasks each node holds at once.
    pub slots: [usize; 2],
    /// What may go wrong.
    pub budget: Budget,
    /// Whether a confirm comes before anything else happens: fewer states where publishing is not what matters.
    pub prompt: bool,
    /// Whether the repair runs. Without it nothing puts right what the broker does not have.
    pub repair: bool,
    /// Whether the repair waits after its marker for longer than anything takes that was delivered before it: what
    /// it relies on to hand off nothing needlessly. Else it may act at any time, which must be harmless.
    pub patient: bool,
    /// Whether the first task runs until it is cancelled.
    pub endless: bool,
    /// Whether nodes take tasks as they are admitted.
    pub direct: bool,
}

const NONE: Budget = Budget {
    cuts: 0,
    accusations: 0,
    kills: 0,
    redeliveries: 0,
    late: 0,
    lost_confirms: 0,
    lost_queues: 0,
    cancels: 0,
    failures: 0,
    looks: 0,
};

const PLAIN: Scenario = Scenario {
    name: "plain",
    tasks: 2,
    slots: [1, 1],
    budget: NONE,
    prompt: true,
    repair: false,
    patient: true,
    endless: false,
    direct: false,
};

impl Scenario {
    /// Confirms come late or never, messages come again, parts of them are returned. 122,000 states.
    pub const PUBLISHING: Self = Self {
        name: "publishing",
        prompt: false,
        budget: Budget { late: 1, redeliveries: 1, ..NONE },
        ..PLAIN
    };

    /// Connections are cut in claims and at the end of attempts. 136,000 states.
    pub const CLAIMING: Self = Self { name: "claiming", budget: Budget { cuts: 2, ..NONE }, ..PLAIN };

    /// Processes die, and sessions are ended under those that live, which come back. 116,000 states.
    pub const RECOVERING: Self =
        Self { name: "recovering", budget: Budget { accusations: 1, kills: 1, ..NONE }, ..PLAIN };

    /// The same while connections are cut, and one node takes both tasks. 238,000 states.
    pub const DOUBTING: Self =
        Self { name: "doubting", slots: [1, 2], budget: Budget { accusations: 1, cuts: 1, ..NONE }, ..PLAIN };

    /// A session is ended while confirms are late. 642,000 states.
    pub const OVERTAKING: Self = Self {
        name: "overtaking",
        prompt: false,
        budget: Budget { accusations: 1, late: 1, ..NONE },
        ..PLAIN
    };

    /// Tasks are cancelled, one of which ends no other way. 323,000 states.
    pub const CANCELLING: Self = Self {
        name: "cancelling",
        endless: true,
        budget: Budget { accusations: 1, cuts: 1, cancels: 1, ..NONE },
        ..PLAIN
    };

    /// Tasks are taken as they are admitted, or not, while connections are cut and a session is ended. 101,000
    /// states.
    pub const TAKING: Self =
        Self { name: "taking", direct: true, budget: Budget { accusations: 1, cuts: 1, ..NONE }, ..PLAIN };

    /// The broker loses its queue. 526,000 states.
    pub const REPAIRING: Self = Self {
        name: "repairing",
        repair: true,
        budget: Budget { lost_queues: 1, cuts: 1, looks: 1, ..NONE },
        ..PLAIN
    };

    /// The repair does not wait long enough. 136,000 states.
    pub const HASTY: Self = Self {
        name: "hasty",
        repair: true,
        patient: false,
        budget: Budget { cuts: 1, looks: 1, ..NONE },
        ..PLAIN
    };

    /// The broker loses its queue while confirms are on their way. 42,000 states.
    pub const LOSING: Self = Self {
        name: "losing",
        repair: true,
        prompt: false,
        budget: Budget { lost_queues: 1, looks: 1, ..NONE },
        ..PLAIN
    };

    /// Attempts fail and sessions are ended, on nodes that hold both tasks. 204,000 states.
    pub const RETRYING: Self = Self {
        name: "retrying",
        slots: [2, 2],
        budget: Budget { accusations: 2, failures: 1, ..NONE },
        ..PLAIN
    };

    /// Most of it, to one task. 265,000 states.
    pub const EVERYTHING: Self = Self {
        name: "everything",
        tasks: 1,
        direct: true,
        repair: true,
        budget: Budget { cuts: 1, kills: 1, lost_queues: 1, cancels: 1, looks: 1, ..NONE },
        ..PLAIN
    };
}
