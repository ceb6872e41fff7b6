//! Which faults happen, in which order: drawn from the seed.

use crate::proxy::{At, Window};
use crate::sandbox::{Cut, Place};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng};

/// How many nodes there are.
pub(crate) const NODES: u8 = 3;

/// What a node is in the middle of when a fault hits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Moment {
    /// A transaction or an unconfirmed message, held still on the wire.
    Wire(Window),
    /// It runs tasks.
    Run,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9 of a node, and its restart.
    Kill { node: u8, moment: Moment },
    /// SIGSTOP of a node for longer than a session lasts, then SIGCONT.
    Pause { node: u8, moment: Moment },
    /// Links are cut for longer than a session lasts.
    Partition { links: Vec<(Place, Place)>, how: Cut, moment: Moment, node: u8 },
    /// kill -9 of RabbitMQ with a message unconfirmed, and its restart.
    RabbitMq,
    /// Redis is killed or emptied.
    Redis { flush: bool },
    /// kill -9 of PostgreSQL, and its restart.
    Postgres,
    /// The connection is cut at a COMMIT: before it reached the server, or before its answer came.
    Commit { window: Window, at: At },
    /// kill -9 of every node at once, and their restart.
    Everyone,
}

impl Fault {
    /// Its name, for a person.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Pause { .. } => "pause",
            Self::Partition { .. } => "partition",
            Self::RabbitMq => "rabbitmq",
            Self::Redis { .. } => "redis",
            Self::Postgres => "postgres",
            Self::Commit { .. } => "commit",
            Self::Everyone => "everyone",
        }
    }
}

/// How many of each there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) tasks: usize,
    pub(crate) kills: usize,
    pub(crate) pauses: usize,
    pub(crate) rabbitmq: usize,
    pub(crate) redis: usize,
}

impl Counts {
    /// The whole run.
    pub(crate) const LONG: Self = Self { tasks: 10_000, kills: 20, pauses: 5, rabbitmq: 2, redis: 2 };
    /// One of each, for every change.
    pub(crate) const SHORT: Self = Self { tasks: 2_000, kills: 4, pauses: 1, rabbitmq: 1, redis: 1 };
}

const KILL_MOMENTS: [Moment; 4] =
    [Moment::Wire(Window::Claim), Moment::Run, Moment::Wire(Window::Finish), Moment::Wire(Window::Publish)];

/// Every partition: each link, one of them one way, one with REJECT. The first also happens inside an open
/// claim.
fn partitions(node: u8) -> Vec<Fault> {
    let (me, other) = (Place::Node(node), Place::Node((node + 1) % NODES));
    let third = Place::Node((node + 2) % NODES);
    let all = [Place::Postgres, Place::RabbitMq, Place::Redis, other, third];
    let both = |a, b| [(a, b), (b, a)];
    let cut = |links: Vec<(Place, Place)>, how, moment| Fault::Partition { links, how, moment, node };
    let everything: Vec<_> = all.iter().flat_map(|place| both(me, *place)).collect();
    vec![
        cut(everything, Cut::Drop, Moment::Wire(Window::Claim)),
        cut(both(me, Place::Postgres).into(), Cut::Drop, Moment::Run),
        cut(both(me, Place::RabbitMq).into(), Cut::Reject, Moment::Run),
        cut(both(me, other).into(), Cut::Drop, Moment::Run),
        cut(vec![(me, third)], Cut::Drop, Moment::Run),
    ]
}

/// All the faults, in the order in which they happen.
pub(crate) fn draw(seed: u64, counts: Counts) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = || random.random_range(0..NODES);
    let mut faults = Vec::new();
    for n in 0..counts.kills {
        faults.push(Fault::Kill { node: node(), moment: KILL_MOMENTS[n % KILL_MOMENTS.len()] });
    }
    for n in 0..counts.pauses {
        let moment = if n == 0 { Moment::Wire(Window::Claim) } else { KILL_MOMENTS[n % KILL_MOMENTS.len()] };
        faults.push(Fault::Pause { node: node(), moment });
    }
    faults.extend(partitions(node()));
    for _ in 0..counts.rabbitmq {
        faults.push(Fault::RabbitMq);
    }
    for n in 0..counts.redis {
        faults.push(Fault::Redis { flush: n % 2 == 1 });
    }
    if counts.redis == 1 {
        faults.push(Fault::Redis { flush: true });
    }
    faults.push(Fault::Postgres);
    for window in [Window::Admit, Window::Claim, Window::Finish] {
        faults.extend([At::BeforeCommit, At::AfterCommit].map(|at| Fault::Commit { window, at }));
    }
    faults.shuffle(&mut random);
    // Last, so that nothing that comes after helps it.
    faults.push(Fault::Everyone);
    faults
}
