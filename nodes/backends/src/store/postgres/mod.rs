//! The store on PostgreSQL: the truth of a cluster.
//!
//! - **Hot writes** (admit; claim; what workers report) go through three bounded queues, each with a
//!   connection of its own, and are committed in groups ([`group`], [`batch`]). Every statement is
//!   set-based.
//! - **Transitions** are decided by the domain on rows that were read, or that this process wrote last and
//!   remembers, and written in one place if they are still the same ([`draft`], [`tx`], [`flush`]). A claim by id
//!   waits for a lock, it never skips one.
//! - **Every way into QUEUED** writes an outbox row under the next hand-off number in the same transaction.
//! - **Reads** run on a pool beside.
//! - **Plans** do not hang on statistics: see [`schema`] for what each connection sets. Behind a connection
//!   pooler, `ALTER ROLE .. SET` has to do that, and `direct_url` must lead past it.
//! - **Time** is the server's clock, read in the first statement of each transaction.
//! - **Observers** are told before the callers are answered, in order per task within this process.
//!
//! Looking for the end of an id, and a filter on a rare kind or queue alone, look at every task: about half
//! a second per million.
//!
//! It does not delete old tasks by itself: see [`Store::maintain_partitions`].

mod admit;
mod attempts;
mod batch;
mod claim;
mod draft;
mod events;
mod fault;
mod flush;
mod group;
mod lease;
mod line;
mod outbox;
mod partitions;
pub(crate) mod pool;
mod pooler;
mod port;
mod provider_records;
mod read;
mod recovery;
mod registry;
mod rows;
mod schema;
mod sessions;
mod teller;
mod tx;
mod waiting;

pub use lease::Sessions;
pub use partitions::Maintained;
pub use schema::OpenError;

use crate::artifacts::postgres::Artifacts;
use crate::ledger::postgres::Ledger;
use admit::Admitter;
use attempts::{Report, Reporter};
use callboard_domain::NewTask;
use callboard_ports::Clock;
use callboard_ports::metrics::BatchesRead;
use callboard_ports::store::{Admitted, Claim, CommitObserver, Error, Fenced, QueueDepth};
use callboard_ports::taker::Taker;
use callboard_ports::trace::Tracer;
use claim::Claimer;
use fault::Fault;
use group::{Bounds, Group};
use line::{Context, Line, Work, within};
use partitions::Days;
use pool::Pool;
use schema::Ways;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use teller::Teller;
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tx::Tx;

/// How many connections do what is neither hot nor a read.
const WORKERS: usize = 2;
/// How many connections write in all: three queues, the workers, the outbox, sessions, what their end leaves,
/// health.
const WRITERS: u32 = 7 + WORKERS as u32;
/// How many calls may use or wait for the connections of one sort before more are refused.
const CALLS: usize = 256;
/// The shards that the totals are spread over; as many as the schema has rows of.
const SHARDS: i32 = 64;
/// How long a write may wait for the server, and how long a renewal may.
const PATIENCE: Duration = Duration::from_secs(10);
const RENEWAL_PATIENCE: Duration = Duration::from_secs(2);
/// How many connections carry artifacts.
const ARTIFACTS: u32 = 2;
/// From how many waiting tasks on it takes a moment to count them, and for how many times as long as that the
/// depths of queues are good then.
const DEEP: u64 = 10_000;
const DEPTHS_GOOD_FOR: u32 = 10;
/// How long a read may take in all; a statement of it has less, on the server.
const READ: Duration = Duration::from_secs(12);

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    /// Where the database is: `postgres://user:password@host:port/name`.
    pub url: String,
    /// The same database past a connection pooler, if `url` leads through one: for changes of the schema
    /// and for renewals.
    pub direct_url: Option<String>,
    /// The most connections; at least 11 are used.
    pub max_connections: u32,
    /// How long [`Store::open`] waits for a server that is not there yet.
    pub connect_within: Duration,
    /// The most rows that may wait to be written before new tasks are refused, and claims. Reports of
    /// workers have twice the room.
    pub queue_rows: usize,
    /// The most bytes that may wait to be written before new tasks are refused. Reports of workers have
    /// twice the room.
    pub queue_bytes: usize,
    /// Random numbers in `0.0..1.0`, to spread the next attempts of lost tasks.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// For tests: the store's clock, instead of the server's.
    pub clock: Option<Arc<dyn Clock>>,
    /// Records what is written of tasks, a span for each transaction.
    pub tracer: Tracer,
}

impl Options {
    /// Options with the default bounds.
    pub fn new(url: impl Into<String>, jitter: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self {
            url: url.into(),
            direct_url: None,
            max_connections: 16,
            connect_within: Duration::from_secs(5),
            queue_rows: 16_384,
            queue_bytes: 32 << 20,
            jitter: Arc::new(jitter),
            clock: None,
            tracer: Tracer::default(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the addresses: they may hold a password.
        f.debug_struct("Options").field("max_connections", &self.max_connections).finish_non_exhaustive()
    }
}

/// The store.
pub struct Store {
    ways: Ways,
    context: Arc<Context>,
    admits: Group<NewTask, Result<Admitted, Error>>,
    claims: Group<claim::Item, Result<Claim, Error>>,
    reports: Group<Report, Result<Fenced, Error>>,
    workers: Arc<Lines>,
    outbox: Arc<Lines>,
    /// Ends sessions and recovers their tasks: that waits for no other work.
    recovery: Arc<Lines>,
    health: Arc<Lines>,
    sessions: Arc<Sessions>,
    pool: Pool,
    /// The depths of the queues as they were counted last, and until when that will do.
    depths: Mutex<Option<(Instant, Vec<QueueDepth>)>>,
    tracker: TaskTracker,
}

impl Store {
    /// Connects, brings the schema to this version, makes the partitions of the days ahead and starts the
    /// writers. Must be called within a runtime that outlives the store.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let mut ways = Ways::new(&options)?;
        schema::prepare(&mut ways, options.connect_within).await?;
        let days = Days::default();
        partitions::prepare(&ways.maintains, options.connect_within, &days).await;
        let context = Arc::new(Context {
            clock: options.clock,
            jitter: options.jitter,
            teller: Arc::new(Teller::default()),
            recent: tx::Recent::default(),
            days,
            commits: AtomicU64::new(0),
            taker: OnceLock::new(),
            tracer: options.tracer,
        });
        let shard = Shards::new();
        let line = || Line::new(ways.writes.clone(), Arc::clone(&context), shard.next(), PATIENCE);
        let tracker = TaskTracker::new();
        let bounds = Bounds { rows: options.queue_rows, bytes: options.queue_bytes };
        let wide = Bounds { rows: bounds.rows * 2, bytes: bounds.bytes * 2 };
        let admits = Group::new(bounds, vec![Admitter(line())], &tracker);
        let claims = Group::new(bounds, vec![Claimer(line())], &tracker);
        let reports = Group::new(wide, vec![Reporter(line())], &tracker);
        let direct = ways.writes_direct.clone();
        let renews = Line::new(direct.clone(), Arc::clone(&context), shard.next(), RENEWAL_PATIENCE);
        let pings = Line::new(direct, Arc::clone(&context), shard.next(), RENEWAL_PATIENCE);
        let pool = Pool::new(ways.reads.clone(), options.max_connections.saturating_sub(WRITERS).max(2));
        Ok(Arc::new(Self {
            admits,
            claims,
            reports,
            workers: Arc::new(Lines::new((0..WORKERS).map(|_| line()).collect())),
            outbox: Arc::new(Lines::new(vec![line()])),
            recovery: Arc::new(Lines::new(vec![line()])),
            health: Arc::new(Lines::new(vec![pings])),
            sessions: Arc::new(Sessions::new(renews)),
            pool,
            depths: Mutex::default(),
            tracker,
            ways,
            context,
        }))
    }

    /// The session store on a connection of its own, for a thread that does nothing but renew.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        let (direct, context) = (self.ways.writes_direct.clone(), Arc::clone(&self.context));
        Sessions::new(Line::new(direct, context, Shards::new().next(), RENEWAL_PATIENCE))
    }

    /// The artifacts of the same database, on connections of their own: a large one holds up no task.
    #[must_use]
    pub fn artifacts(&self) -> Artifacts {
        Artifacts::new(Pool::new(self.ways.artifacts.clone(), ARTIFACTS))
    }

    /// The ledger of the same database, on a connection of its own.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::new(Pool::new(self.ways.writes.clone(), 1))
    }

    /// Whether the database answers, on a connection that nothing else uses; within about two seconds.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.work(&self.health, Ping).await
    }

    /// Makes the partitions of the days ahead, and drops those whose tasks are all older than `retention`
    /// and have ended. To be called every few hours, by any node. A task whose partition was dropped is
    /// gone with all that is known of it, its request id too.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn maintain_partitions(&self, retention: Option<Duration>) -> Result<Maintained, Error> {
        let (options, context) = (self.ways.maintains.clone(), Arc::clone(&self.context));
        self.own(async move { partitions::maintain(&options, retention, &context.days).await }).await
    }

    /// How many transactions were committed since it was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.context.commits.load(Ordering::Relaxed)
    }

    /// How hot writes are grouped: what is admitted, what is claimed, what workers report.
    #[must_use]
    pub fn batches(&self) -> [(&'static str, BatchesRead); 3] {
        let (admits, claims) = (self.admits.batches(), self.claims.batches());
        [("admit", admits), ("claim", claims), ("report", self.reports.batches())]
    }

    /// Commits what was queued, lets nothing more in, and closes the connections.
    pub async fn close(&self) {
        self.admits.close();
        self.claims.close();
        self.reports.close();
        self.tracker.close();
        self.tracker.wait().await;
        for lines in [&self.workers, &self.outbox, &self.recovery, &self.health] {
            lines.close().await;
        }
        self.sessions.close().await;
        self.pool.close().await;
    }

    fn add_observer(&self, observer: Arc<dyn CommitObserver>) {
        self.context.teller.observe(observer);
    }

    fn add_taker(&self, taker: Arc<dyn Taker>) {
        if self.context.taker.set(taker).is_err() {
            tracing::error!("the store has a worker already that takes what is admitted");
        }
    }

    /// Runs a future to its end, also if the caller goes away.
    async fn own<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = self.tracker.spawn(future).await;
        ended.unwrap_or_else(|failed| Err(Error::Unknown(failed.to_string())))
    }

    /// Runs work in a transaction of its own.
    async fn work<W: Work + 'static>(&self, lines: &Arc<Lines>, mut work: W) -> Result<W::Out, Error>
    where
        W::Out: 'static,
    {
        let lines = Arc::clone(lines);
        self.own(async move { Ok(lines.take().await?.run(&mut work).await?) }).await
    }

    /// The depths of the queues. With a million tasks that wait it takes most of a second to count them: so whoever
    /// asks again soon, and whoever asks meanwhile, is told the same.
    async fn depths(&self) -> Result<Vec<QueueDepth>, Error> {
        let mut depths = self.depths.lock().await;
        if let Some((until, depths)) = &*depths
            && Instant::now() < *until
        {
            return Ok(depths.clone());
        }
        let began = Instant::now();
        let counted = self.read(read::queue_depths(&self.pool)).await?;
        let waiting: u64 = counted.iter().flat_map(|depth| depth.bands).sum();
        let until = Instant::now() + began.elapsed() * DEPTHS_GOOD_FOR;
        *depths = Some((until, counted.clone())).filter(|_| waiting >= DEEP);
        Ok(counted)
    }

    /// Answers a read, within an end: an answer that was lost on its way is not waited for.
    async fn read<T>(&self, read: impl Future<Output = Result<T, Fault>>) -> Result<T, Error> {
        within(READ, read).await.and_then(|answer| answer).map_err(|fault| {
            tracing::warn!(error = %fault, "a read of the store failed");
            Error::from(&fault)
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("commits", &self.commits()).finish_non_exhaustive()
    }
}

/// A few lines that share work, and a bound of the calls that wait for them.
struct Lines {
    lines: Vec<Mutex<Line>>,
    next: AtomicUsize,
    calls: Semaphore,
}

/// One line, for one call.
struct Taken<'l> {
    line: MutexGuard<'l, Line>,
    _call: SemaphorePermit<'l>,
}

impl Lines {
    fn new(lines: Vec<Line>) -> Self {
        let lines = lines.into_iter().map(Mutex::new).collect();
        Self { lines, next: AtomicUsize::new(0), calls: Semaphore::new(CALLS) }
    }

    async fn take(&self) -> Result<Taken<'_>, Error> {
        let call = self.calls.try_acquire().map_err(|_| Error::Overloaded)?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.lines.len().max(1);
        let line = match self.lines.iter().find_map(|line| line.try_lock().ok()) {
            Some(free) => free,
            None => match self.lines.get(turn) {
                Some(line) => line.lock().await,
                None => return Err(Error::Unavailable("the store has no connection for this".into())),
            },
        };
        Ok(Taken { line, _call: call })
    }

    async fn close(&self) {
        for line in &self.lines {
            line.lock().await.close().await;
        }
    }
}

impl Deref for Taken<'_> {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Line {
        &mut self.line
    }
}

/// Gives each line a shard of the totals, from somewhere at random: so two nodes rarely share one.
struct Shards(AtomicUsize);

impl Shards {
    fn new() -> Self {
        let [.., random] = *uuid::Uuid::now_v7().as_bytes();
        Self(AtomicUsize::new(usize::from(random)))
    }

    fn next(&self) -> i32 {
        i32::try_from(self.0.fetch_add(1, Ordering::Relaxed)).unwrap_or_default().rem_euclid(SHARDS)
    }
}

struct Ping;

impl Work for Ping {
    type Out = ();

    async fn run(&mut self, _: &mut Tx<'_>) -> Result<(), Fault> {
        Ok(())
    }
}
