use super::*;
use async_trait::async_trait;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const TTL: Duration = Duration::from_secs(9);
const SECOND: Duration = Duration::from_secs(1);

/// A lock service that does what a test tells it.
#[derive(Default)]
struct Script(Mutex<Service>);

#[derive(Default)]
struct Service {
    holder: Option<(String, Instant)>,
    /// Says that it is unavailable.
    away: bool,
    /// Does not answer at all.
    hangs: bool,
    renewals: Vec<Instant>,
}

impl Script {
    fn set(&self, change: impl FnOnce(&mut Service)) {
        change(&mut self.0.lock().unwrap());
    }

    fn holder(&self) -> Option<String> {
        let service = self.0.lock().unwrap();
        service.holder.as_ref().filter(|(_, until)| *until > Instant::now()).map(|(owner, _)| owner.clone())
    }

    async fn answers(&self) -> Result<(), locks::Error> {
        let (away, hangs) = {
            let service = self.0.lock().unwrap();
            (service.away, service.hangs)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if away { Err(locks::Error::Unavailable("away".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Locks for Script {
    async fn acquire(&self, _: &str, owner: &str, ttl: Duration) -> Result<(), locks::Error> {
        self.answers().await?;
        match self.holder() {
            Some(holder) if holder != owner => Err(locks::Error::Held { holder }),
            _ => {
                self.set(|service| service.holder = Some((owner.into(), Instant::now() + ttl)));
                Ok(())
            }
        }
    }

    async fn renew(&self, _: &str, owner: &str, ttl: Duration) -> Result<(), locks::Error> {
        self.set(|service| service.renewals.push(Instant::now()));
        self.answers().await?;
        if self.holder().as_deref() != Some(owner) {
            return Err(locks::Error::Lost);
        }
        self.set(|service| service.holder = Some((owner.into(), Instant::now() + ttl)));
        Ok(())
    }

    async fn release(&self, _: &str, owner: &str) -> Result<(), locks::Error> {
        self.answers().await?;
        if self.holder().as_deref() == Some(owner) {
            self.set(|service| service.holder = None);
        }
        Ok(())
    }
}

/// Numbers the epochs of one role.
#[derive(Default)]
struct Counter(AtomicU64);

#[async_trait]
impl Epochs for Counter {
    async fn next_epoch(&self, name: &str, _: &str) -> Result<Epoch, store::Error> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Epoch { name: name.into(), number })
    }
}

/// A node that contends, and what it did.
struct Node {
    handle: Handle,
    stop: CancellationToken,
    turns: Arc<Mutex<Vec<(Turn, Instant)>>>,
    /// When its last turn was told to end.
    told: Arc<Mutex<Option<Instant>>>,
    task: JoinSet<()>,
}

impl Node {
    /// A node that works until it is told to end.
    fn start(locks: &Arc<Script>, owner: &str) -> Self {
        Self::working(locks, owner, |turn| async move {
            turn.loss.cancelled().await;
            Ok(())
        })
    }

    fn working<F>(locks: &Arc<Script>, owner: &str, work: impl Fn(Turn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), store::Error>> + Send + 'static,
    {
        let singleton = Singleton::new(Options {
            name: "work".into(),
            owner: owner.into(),
            ttl: TTL,
            locks: locks.clone(),
            epochs: Some(Arc::new(Counter::default())),
            jitter: Arc::new(|| 0.5),
        });
        let (handle, stop) = (singleton.handle(), CancellationToken::new());
        let (turns, told) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let mut task = JoinSet::new();
        let (stopped, seen, told_at) = (stop.clone(), turns.clone(), told.clone());
        task.spawn(singleton.run(stopped, move |turn: Turn| {
            seen.lock().unwrap().push((turn.clone(), Instant::now()));
            let (told_at, loss, work) = (told_at.clone(), turn.loss.clone(), work(turn));
            async move {
                let tell = async {
                    loss.cancelled().await;
                    *told_at.lock().unwrap() = Some(Instant::now());
                    std::future::pending().await
                };
                tokio::select! { biased; never = tell => never, ended = work => ended }
            }
        }));
        Self { handle, stop, turns, told, task }
    }

    fn standing(&self) -> Standing {
        self.handle.standing()
    }

    fn holds(&self) -> bool {
        matches!(self.standing(), Standing::Held { .. })
    }

    fn modes(&self) -> Vec<Mode> {
        self.turns.lock().unwrap().iter().map(|(turn, _)| turn.mode).collect()
    }

    fn epochs(&self) -> Vec<u64> {
        self.turns.lock().unwrap().iter().filter_map(|(turn, _)| Some(turn.epoch.as_ref()?.number)).collect()
    }

    fn told(&self) -> Option<Instant> {
        *self.told.lock().unwrap()
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
        assert_eq!(self.standing(), Standing::NotHeld { holder: None });
    }
}

/// Lets time pass in small steps, so that what is due happens when it is due.
async fn pass(span: Duration) {
    let until = Instant::now() + span;
    while Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_node_works_and_the_next_takes_over_when_it_stops() {
    let locks = Arc::new(Script::default());
    let one = Node::start(&locks, "one");
    pass(SECOND).await;
    let two = Node::start(&locks, "two");
    pass(10 * TTL).await;
    assert_eq!(one.standing(), Standing::Held { epoch: Some(1) });
    assert_eq!(two.standing(), Standing::NotHeld { holder: Some("one".into()) });
    assert_eq!((one.modes(), two.modes()), (vec![Mode::Held], vec![]));
    one.end().await;
    assert_eq!(locks.holder(), None, "it was given back");
    pass(TTL / 3 * 6 / 5).await;
    assert!(two.holds());
    two.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_renewed_at_a_third() {
    let locks = Arc::new(Script::default());
    let start = Instant::now();
    let node = Node::start(&locks, "one");
    pass(2 * TTL + SECOND).await;
    let renewals = locks.0.lock().unwrap().renewals.clone();
    let at: Vec<_> = renewals.iter().map(|at| at.duration_since(start).as_secs()).collect();
    assert_eq!(at, [3, 6, 9, 12, 15, 18]);
    node.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_work_is_told_at_two_thirds_without_a_confirmation() {
    for hangs in [false, true] {
        let locks = Arc::new(Script::default());
        let node = Node::start(&locks, "one");
        // The last renewal that is confirmed is at 3 s.
        pass(4 * SECOND).await;
        let asked = locks.0.lock().unwrap().renewals[0];
        locks.set(|service| (service.away, service.hangs) = (!hangs, hangs));
        pass(TTL * 2 / 3 - 2 * SECOND).await;
        assert_eq!(node.told(), None, "hangs: {hangs}");
        pass(2 * SECOND).await;
        let told = node.told().expect("it is told").duration_since(asked);
        assert!(told >= TTL * 2 / 3 && told < TTL * 2 / 3 + SECOND / 100, "{told:?}, hangs: {hangs}");
        assert!(!node.holds());
        drop(node);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_succeeds_late_is_enough() {
    let locks = Arc::new(Script::default());
    let node = Node::start(&locks, "one");
    pass(4 * SECOND).await;
    locks.set(|service| service.away = true);
    pass(4 * SECOND).await;
    locks.set(|service| service.away = false);
    pass(10 * TTL).await;
    assert!(node.holds());
    assert_eq!((node.told(), node.modes().len()), (None, 1));
    node.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_told_at_the_next_renewal_and_not_given_back() {
    let locks = Arc::new(Script::default());
    let node = Node::start(&locks, "one");
    pass(SECOND).await;
    locks.set(|service| service.holder = Some(("thief".into(), Instant::now() + TTL)));
    pass(TTL / 3).await;
    assert!(node.told().is_some());
    assert_eq!(locks.holder().as_deref(), Some("thief"));
    pass(2 * TTL).await;
    assert_eq!((node.holds(), node.epochs()), (true, vec![1, 2]), "when the thief is gone it works again");
    node.end().await;
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_dropped_by_the_end_of_the_lock() {
    struct Dropped(Arc<Mutex<Option<Instant>>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(Instant::now());
        }
    }
    let locks = Arc::new(Script::default());
    let dropped = Arc::new(Mutex::new(None));
    let seen = dropped.clone();
    let node = Node::working(&locks, "one", move |_| {
        let guard = Dropped(seen.clone());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    });
    pass(4 * SECOND).await;
    let asked = locks.0.lock().unwrap().renewals[0];
    locks.set(|service| service.away = true);
    pass(TTL).await;
    let after = dropped.lock().unwrap().expect("it is dropped").duration_since(asked);
    assert!(after >= TTL && after < TTL + SECOND / 10, "{after:?}");
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn without_a_lock_service_every_node_works_slowly_and_one_goes_on() {
    let locks = Arc::new(Script::default());
    locks.set(|service| service.away = true);
    let nodes = [Node::start(&locks, "one"), Node::start(&locks, "two")];
    pass(TTL - SECOND).await;
    for node in &nodes {
        assert_eq!(node.modes(), [], "whoever held the lock may hold it still");
        assert!(matches!(node.standing(), Standing::Unavailable { working: false, .. }));
    }
    pass(2 * TTL).await;
    for node in &nodes {
        assert_eq!((node.modes(), node.told()), (vec![Mode::Unlocked], None));
        assert!(matches!(node.standing(), Standing::Unavailable { working: true, .. }));
    }
    locks.set(|service| service.away = false);
    pass(TTL).await;
    assert_eq!(nodes.iter().filter(|node| node.holds()).count(), 1);
    for node in &nodes {
        assert!(node.told().is_some(), "the slow turn is over");
        let wanted: &[_] = if node.holds() { &[Mode::Unlocked, Mode::Held] } else { &[Mode::Unlocked] };
        assert_eq!(node.modes(), wanted);
    }
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_slower_where_every_node_works() {
    let turn = |mode| Turn { mode, epoch: None, loss: CancellationToken::new(), jitter: Arc::new(|| 0.5) };
    assert_eq!(turn(Mode::Held).pace(SECOND), SECOND);
    assert_eq!(turn(Mode::Unlocked).pace(SECOND), SECOND * 9 / 2);
    let held = turn(Mode::Held);
    assert!(held.pause(SECOND).await);
    held.loss.cancel();
    assert!(!held.pause(SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_refused_epoch_is_followed_by_the_next_in_the_same_step() {
    let locks = Arc::new(Script::default());
    let node = Node::working(&locks, "one", |turn| async move {
        if turn.epoch.is_some_and(|epoch| epoch.number < 3) {
            return Err(store::Error::Fenced);
        }
        turn.loss.cancelled().await;
        Ok(())
    });
    let start = Instant::now();
    pass(SECOND).await;
    assert_eq!((node.epochs(), node.standing()), (vec![1, 2, 3], Standing::Held { epoch: Some(3) }));
    assert!(node.turns.lock().unwrap().iter().all(|(_, at)| at.duration_since(start) < SECOND / 10));
    node.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_lost_the_lock_takes_no_epoch_from_its_successor() {
    let locks = Arc::new(Script::default());
    let thief = locks.clone();
    let node = Node::working(&locks, "one", move |_| {
        // As after a pause: the lock ran out, somebody else has it and has taken an epoch.
        thief.set(|service| service.holder = Some(("two".into(), Instant::now() + 3 * TTL)));
        async { Err(store::Error::Fenced) }
    });
    pass(2 * TTL).await;
    assert_eq!((node.epochs(), node.holds()), (vec![1], false));
    assert_eq!(locks.holder().as_deref(), Some("two"));
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_gives_the_lock_back_and_is_tried_again_later() {
    for error in [store::Error::Fenced, store::Error::Unavailable("x".into())] {
        let locks = Arc::new(Script::default());
        let fails = error.clone();
        let node = Node::working(&locks, "one", move |_| {
            let fails = fails.clone();
            async { Err(fails) }
        });
        pass(SECOND).await;
        assert_eq!(locks.holder(), None, "{error}");
        let tries = node.epochs().len();
        assert_eq!(tries, if error == store::Error::Fenced { 3 } else { 1 });
        pass(TTL / 3).await;
        assert_eq!(node.epochs().len(), 2 * tries, "{error}");
        node.end().await;
    }
}
