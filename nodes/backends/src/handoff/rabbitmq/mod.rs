//! The hand-off through RabbitMQ: a quorum queue for each band of each queue.
//!
//! Invariants:
//! - What `publish` answers `Ok` for was confirmed by the broker, routed to its queue, and is persistent.
//! - A message is acknowledged when its claim has committed, never before.
//! - Publishing and consuming have a connection each: a broker that blocks publishers does not stop acks.
//! - Whatever breaks (connection, channel, queue) is made anew by the next call that needs it.
//!
//! It keeps nothing: what is not confirmed is the outbox's to publish again. A task whose time has not come
//! waits, unacknowledged, with a consumer.

mod buffer;
mod consume;
mod desk;
mod link;
mod markers;
mod message;
mod notices;
mod pace;
mod publish;
mod session;
mod trace;

use async_trait::async_trait;
use callboard_domain::Timestamp;
use callboard_ports::Tracer;
use callboard_ports::handoff::{self, Consumer, Error, Queues, Ready};
use futures::future::join_all;
use link::Link;
pub use markers::Markers;
use notices::{Listener, Notice};
use pace::Pace;
use publish::{Job, Outcome, Target};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How long a message waits for its place and then for its confirm. Long, so that a late confirm still counts;
/// a broken connection answers at once.
const CONFIRM: Duration = Duration::from_secs(30);
/// Messages that may wait for their confirm at once.
const WINDOW: usize = 512;
/// How many milliseconds it is waited before what was refused by a queue that has room is published again.
const LEADERLESS: [u64; 5] = [20, 40, 80, 160, 320];
/// How many queues one process uses: each is three of the broker's.
const QUEUES: usize = 1_000;
/// How many queues that are there again may be waiting to be consumed anew. Past it, all are.
const ANEW: usize = 64;

/// What a hand-off is made of.
#[derive(Clone)]
pub struct Options {
    /// Where the broker is: `amqp://` or `amqps://`.
    pub url: String,
    /// What the name of every queue begins with, at most 64 bytes: clusters that share a broker have different
    /// ones.
    pub prefix: String,
    /// How many messages the queue of a band holds before it refuses more.
    pub max_length: u32,
    /// Records what is sent.
    pub tracer: Tracer,
}

impl Options {
    /// An address and a prefix; queues hold 100,000 messages, and nothing is recorded.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: prefix.into(), max_length: 100_000, tracer: Tracer::default() }
    }
}

/// What went on since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages the broker answered for.
    pub confirmed: u64,
    /// Messages a queue at its bound refused.
    pub refused: u64,
    /// Messages returned because their queue was gone.
    pub returned: u64,
    /// Messages whose confirm never came.
    pub failed: u64,
    /// Messages that came again.
    pub redelivered: u64,
    /// Messages that could not be read: they are in the queue `{prefix}.undecodable`.
    pub undecodable: u64,
    /// Queues that were declared and found empty: they may have been lost.
    pub declared: u64,
}

#[derive(Default)]
struct Counts {
    confirmed: AtomicU64,
    refused: AtomicU64,
    returned: AtomicU64,
    failed: AtomicU64,
    redelivered: AtomicU64,
    undecodable: AtomicU64,
    declared: AtomicU64,
}

struct Shared {
    options: Options,
    publishing: Arc<Link>,
    consuming: Link,
    jobs: mpsc::Sender<Job>,
    window: Arc<Semaphore>,
    /// The queues to consume for who consumes all.
    known: watch::Sender<BTreeSet<Arc<str>>>,
    /// The queues that were declared; `false` for one that was found to be gone since.
    declared: Mutex<HashMap<String, bool>>,
    /// Queues that were gone and are there again: see [`Notice::Anew`].
    anew: broadcast::Sender<String>,
    /// Who this is, for those who hear its notices.
    id: Uuid,
    listens: AtomicBool,
    pace: Pace,
    counts: Counts,
    closing: CancellationToken,
    tracker: TaskTracker,
}

impl Shared {
    fn declared(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that a lane's queue is there, over the connection of who needs it: the other may be blocked.
    async fn ensure(&self, link: &Link, name: &str) -> Result<(), Error> {
        let known = self.declared().get(name).copied();
        if known != Some(true) {
            if link.declare(&self.options, name).await? {
                self.counts.declared.fetch_add(1, Ordering::Relaxed);
                self.notify(&Notice::Declared(name.to_owned()));
                if known == Some(false) {
                    // Nobody may be consuming here.
                    let _ = self.anew.send(name.to_owned());
                    self.tell(&Notice::Anew { queue: name.to_owned(), by: self.id }).await?;
                }
            }
            self.declared().insert(name.to_owned(), true);
        }
        Ok(())
    }

    /// Tells the repairer, if there is a place free for it: a lost notice only makes a repair later.
    fn notify(&self, notice: &Notice) {
        let Ok(place) = self.window.clone().try_acquire_owned() else { return };
        let body = serde_json::to_vec(notice).unwrap_or_default();
        let _ =
            self.jobs.try_send(Job { target: Target::Notice, body, outcome: oneshot::channel().0, place });
    }

    /// Tells all nodes.
    async fn tell(&self, notice: &Notice) -> Result<(), Error> {
        self.send(Target::Notice, serde_json::to_vec(notice).unwrap_or_default()).await.map(drop)
    }

    /// A queue is gone, as it seems.
    fn forget(&self, name: &str) {
        if let Some(there) = self.declared().get_mut(name) {
            *there = false;
        }
    }

    fn learn(&self, queue: &Arc<str>) -> Result<(), Error> {
        let (mut full, known) = (false, &self.known);
        known.send_if_modified(|known| {
            full = known.len() >= QUEUES && !known.contains(queue);
            !full && known.insert(queue.clone())
        });
        if full { Err(Error::Full) } else { Ok(()) }
    }

    async fn send(&self, target: Target, body: Vec<u8>) -> Result<oneshot::Receiver<Outcome>, Error> {
        let place = tokio::time::timeout(CONFIRM, self.window.clone().acquire_owned()).await;
        let place = place.map_err(link::away)?.map_err(|_| Error::Closed)?;
        let (outcome, told) = oneshot::channel();
        let job = Job { target, body, outcome, place };
        self.jobs.send(job).await.map_err(|_| Error::Closed)?;
        Ok(told)
    }

    /// Publishes messages of one lane, in order.
    async fn publish(&self, queue: &str, bodies: Vec<Vec<u8>>) -> Vec<Result<Outcome, Error>> {
        if let Err(error) = self.ensure(&self.publishing, queue).await {
            return vec![Err(error); bodies.len()];
        }
        let mut told = Vec::with_capacity(bodies.len());
        for body in bodies {
            let sent = self.send(Target::Queue(queue.to_owned()), body).await;
            told.push(async move {
                match tokio::time::timeout(CONFIRM, sent?).await {
                    Ok(outcome) => outcome.map_err(|_| Error::Closed),
                    Err(late) => Err(link::away(late)),
                }
            });
        }
        join_all(told).await
    }

    fn count(&self, outcome: Result<Outcome, Error>) -> Result<(), Error> {
        let counts = &self.counts;
        let (counter, answer) = match outcome {
            Ok(Outcome::Confirmed) => (&counts.confirmed, Ok(())),
            Ok(Outcome::Full) => (&counts.refused, Err(Error::Full)),
            Ok(Outcome::Returned) => (&counts.returned, Err(link::away("the queue is gone"))),
            Ok(Outcome::Failed) => (&counts.failed, Err(link::away("the connection to rabbitmq broke"))),
            Err(error) => (&counts.failed, Err(error)),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Publishes again those messages of a lane of which `outcome` became.
    async fn again(
        &self,
        queue: &str,
        bodies: &[Vec<u8>],
        outcomes: &mut [Result<Outcome, Error>],
        outcome: Outcome,
    ) {
        let chosen = outcomes.iter_mut().zip(bodies).filter(|(o, _)| **o == Ok(outcome));
        let (places, bodies): (Vec<_>, Vec<_>) = chosen.map(|(o, body)| (o, body.clone())).unzip();
        for (place, told) in places.into_iter().zip(self.publish(queue, bodies).await) {
            *place = told;
        }
    }

    /// Publishes the messages of one lane; again those whose queue was gone, and those that were refused though
    /// their queue has room: one without a leader, as right after it was declared, refuses like a full one.
    async fn lane(&self, queue: String, bodies: Vec<Vec<u8>>) -> Vec<Result<(), Error>> {
        let mut outcomes = self.publish(&queue, bodies.clone()).await;
        if outcomes.contains(&Ok(Outcome::Returned)) {
            tracing::warn!(queue, "the queue was gone: it is declared anew");
            self.forget(&queue);
            self.again(&queue, &bodies, &mut outcomes, Outcome::Returned).await;
        }
        for pause in LEADERLESS.map(Duration::from_millis) {
            if !outcomes.contains(&Ok(Outcome::Full)) || !self.has_room(&queue).await {
                break;
            }
            tokio::time::sleep(pause).await;
            self.again(&queue, &bodies, &mut outcomes, Outcome::Full).await;
        }
        outcomes.into_iter().map(|outcome| self.count(outcome)).collect()
    }

    /// Whether a queue is far from its bound. A full one refuses until a good part of it is gone.
    async fn has_room(&self, queue: &str) -> bool {
        let depth = self.publishing.depth(queue).await;
        depth.is_ok_and(|(messages, _)| messages < self.options.max_length / 2)
    }
}

/// The hand-off through RabbitMQ.
pub struct Handoff {
    shared: Arc<Shared>,
}

impl Handoff {
    /// A hand-off. It connects when it is first used. It must be made inside a tokio runtime.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(options: Options) -> Result<Arc<Self>, Error> {
        let publishing = Arc::new(Link::new(&options, "callboard publishes", link::PUBLISHING)?);
        let consuming = Link::new(&options, "callboard consumes", link::CONSUMING)?;
        let (jobs, received) = mpsc::channel(WINDOW);
        let tracker = TaskTracker::new();
        let tracer = options.tracer.clone();
        tracker.spawn(publish::run(publishing.clone(), notices::exchange(&options.prefix), tracer, received));
        let shared = Shared {
            options,
            publishing,
            consuming,
            jobs,
            window: Arc::new(Semaphore::new(WINDOW)),
            known: watch::Sender::default(),
            declared: Mutex::default(),
            anew: broadcast::Sender::new(ANEW),
            id: Uuid::now_v7(),
            listens: AtomicBool::new(false),
            pace: Pace::default(),
            counts: Counts::default(),
            closing: CancellationToken::new(),
            tracker,
        };
        Ok(Arc::new(Self { shared: Arc::new(shared) }))
    }

    /// Adds queues for who consumes all, for example those of the registered kinds.
    ///
    /// # Errors
    /// [`Error::Full`]: there are too many.
    pub fn add_queues(&self, queues: &[Arc<str>]) -> Result<(), Error> {
        queues.iter().try_for_each(|queue| self.shared.learn(queue))
    }

    /// A task of a queue ran so long: messages are cut to what a worker starts soon.
    pub fn ran(&self, queue: &Arc<str>, took: Duration) {
        self.shared.pace.ran(queue, took);
    }

    /// Markers for whoever repairs.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the broker cannot be reached.
    pub async fn markers(&self) -> Result<Markers, Error> {
        Markers::open(self.shared.clone()).await
    }

    /// What went on since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            confirmed: read(&counts.confirmed),
            refused: read(&counts.refused),
            returned: read(&counts.returned),
            failed: read(&counts.failed),
            redelivered: read(&counts.redelivered),
            undecodable: read(&counts.undecodable),
            declared: read(&counts.declared),
        }
    }

    /// Ends every consumer with [`Error::Closed`]; what they hold is returned.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        self.close();
    }
}

/// Hears from other nodes which queues are to be consumed anew, until the hand-off is closed. What is told while the
/// connection is away concerns nobody here: with it, all consumers went.
async fn listen(shared: Arc<Shared>) {
    let hear = async {
        loop {
            let exchange = notices::exchange(&shared.options.prefix);
            if let Ok(mut listener) = Listener::open(&shared.consuming, &exchange).await {
                while let Ok(notice) = listener.next().await {
                    if let Notice::Anew { queue, by } = notice
                        && by != shared.id
                    {
                        // Nobody may be consuming at the moment.
                        let _ = shared.anew.send(queue);
                    }
                }
            }
            tokio::time::sleep(session::AGAIN).await;
        }
    };
    tokio::select! {
        () = hear => {}
        () = shared.closing.cancelled() => {}
    }
}

/// What the tasks of one message have in common.
type Group = (bool, Option<Timestamp>);

#[async_trait]
impl handoff::Handoff for Handoff {
    async fn publish(&self, batch: Vec<Ready>) -> Vec<Result<(), Error>> {
        let shared = &*self.shared;
        if shared.closing.is_cancelled() {
            return vec![Err(Error::Closed); batch.len()];
        }
        if shared.publishing.is_blocked() {
            return vec![Err(link::away("rabbitmq takes nothing for now")); batch.len()];
        }
        let mut lanes: BTreeMap<_, Vec<(Group, Vec<usize>)>> = BTreeMap::new();
        let mut answers = vec![Err(Error::Full); batch.len()];
        for (i, ready) in batch.iter().enumerate() {
            if shared.learn(&ready.queue).is_err() {
                continue;
            }
            let lane = lanes.entry((ready.queue.clone(), ready.band.index())).or_default();
            let group = (ready.alone, ready.not_before);
            let most = if ready.alone { 1 } else { shared.pace.ids(&ready.queue) };
            match lane.last_mut() {
                Some((last, of)) if *last == group && of.len() < most => of.push(i),
                _ => lane.push((group, vec![i])),
            }
        }
        let published = lanes.into_iter().filter_map(|((queue, _), messages)| {
            let band = batch.get(*messages.first()?.1.first()?)?.band;
            let name = message::queue_name(&shared.options.prefix, &queue, band);
            let tasks =
                |of: &[usize]| -> Vec<Ready> { of.iter().filter_map(|i| batch.get(*i).cloned()).collect() };
            let bodies = messages.iter().map(|(_, of)| message::encode(&tasks(of))).collect();
            Some(async move { (messages, shared.lane(name, bodies).await) })
        });
        for (messages, told) in join_all(published).await {
            for ((_, of), answer) in messages.into_iter().zip(told) {
                for i in of {
                    answers[i] = answer.clone();
                }
            }
        }
        answers
    }

    async fn check(&self) -> Result<(), Error> {
        self.shared.publishing.check().await
    }

    async fn consume(&self, queues: Queues) -> Result<Box<dyn Consumer>, Error> {
        if self.shared.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        if !self.shared.listens.swap(true, Ordering::Relaxed) {
            self.shared.tracker.spawn(listen(self.shared.clone()));
        }
        Ok(Box::new(consume::Subscription::new(&self.shared, queues)))
    }
}
