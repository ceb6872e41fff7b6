//! Actors that panic, and the mail they keep.

use callboard_runtime::actor::{
    self, Behaviour, CallError, Crash, Handle, Handling, Request, Restart, Scope,
};
use callboard_runtime::mesh::{self, Context};
use futures::FutureExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::task::TaskTracker;

const SOON: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Counter {
    count: u32,
    crash_in_loop: Option<Arc<tokio::sync::Notify>>,
}

struct Add(u32);

impl Request for Add {
    type Reply = u32;
}

struct AddLater(u32, tokio::sync::oneshot::Receiver<()>);

impl Request for AddLater {
    type Reply = u32;
}

impl Behaviour for Counter {
    const NAME: &'static str = "counter";

    fn started(&mut self, scope: &Scope) {
        if let Some(crash) = self.crash_in_loop.clone() {
            scope.spawn(async move {
                crash.notified().await;
                panic!("the loop fails");
            });
        }
    }
}

impl Handle<Add> for Counter {
    fn handle(&mut self, Add(n): Add) -> Handling<u32> {
        assert!(n != 13, "unlucky");
        self.count += n;
        Handling::Now(self.count)
    }
}

impl Handle<AddLater> for Counter {
    fn handle(&mut self, AddLater(n, go): AddLater) -> Handling<u32> {
        self.count += n;
        let count = self.count;
        Handling::Later(
            async move {
                go.await.unwrap();
                assert!(n != 13, "unlucky");
                count
            }
            .boxed(),
        )
    }
}

/// What the work of a call is part of.
struct Cause;

impl Request for Cause {
    type Reply = Context;
}

impl Handle<Cause> for Counter {
    fn handle(&mut self, _: Cause) -> Handling<Context> {
        Handling::Later(async { mesh::current() }.boxed())
    }
}

/// Holds something for ever, while it is awaited.
struct Hold(tokio::sync::oneshot::Sender<()>);

impl Request for Hold {
    type Reply = ();
}

impl Handle<Hold> for Counter {
    fn handle(&mut self, Hold(held): Hold) -> Handling<()> {
        Handling::WhileAwaited(
            async move {
                let _held = held;
                std::future::pending().await
            }
            .boxed(),
        )
    }
}

struct Fixture {
    system: actor::System,
    restarts: Arc<Mutex<Vec<Restart>>>,
}

impl Fixture {
    fn new() -> Self {
        Self { system: actor::System::start().unwrap(), restarts: Arc::default() }
    }

    fn start(&self, mailbox: usize, make: impl Fn() -> Counter + Send + 'static) -> actor::Address<Counter> {
        let restarts = Arc::clone(&self.restarts);
        let options = actor::Options {
            mailbox,
            backoff: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(1),
            runtime: tokio::runtime::Handle::current(),
            tracker: TaskTracker::new(),
            on_restart: Arc::new(move |restart| restarts.lock().unwrap().push(restart)),
        };
        actor::start(&self.system.arbiter().unwrap(), options, make)
    }

    async fn restarts(&self, count: usize) -> Vec<Restart> {
        let seen = async {
            loop {
                let restarts = self.restarts.lock().unwrap().clone();
                if restarts.len() >= count {
                    return restarts;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, seen).await.unwrap()
    }
}

#[tokio::test]
async fn what_a_call_makes_an_actor_do_is_part_of_what_caused_the_call() {
    let fixture = Fixture::new();
    let actor = fixture.start(64, Counter::default);
    let context = Context { request_id: "r1".into(), ..Context::default() };
    assert_eq!(context.clone().scope(actor.call(Cause, SOON)).await, Ok(context));
    assert_eq!(actor.call(Cause, SOON).await, Ok(Context::default()));
}

#[tokio::test]
async fn what_runs_while_it_is_awaited_ends_when_the_caller_gives_up() {
    let fixture = Fixture::new();
    let actor = fixture.start(64, Counter::default);
    let (held, mut gone) = tokio::sync::oneshot::channel();
    let mut call = Box::pin(actor.call(Hold(held), SOON));
    // It has been handled once the message after it is.
    tokio::select! {
        answer = &mut call => panic!("{answer:?}"),
        after = actor.call(Add(1), SOON) => assert_eq!(after, Ok(1)),
    }
    assert_eq!(gone.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty));
    drop(call);
    assert!(tokio::time::timeout(SOON, gone).await.unwrap().is_err(), "it was dropped");
}

#[tokio::test]
async fn a_panic_in_a_handler_restarts_the_actor_with_new_state_and_its_mail() {
    let fixture = Fixture::new();
    let actor = fixture.start(64, Counter::default);
    assert_eq!(actor.call(Add(1), SOON).await, Ok(1));
    // All of these are in the mailbox before the first answer is read: the panic is in their middle.
    let calls = [
        actor.call(Add(2), SOON),
        actor.call(Add(13), SOON),
        actor.call(Add(4), SOON),
        actor.call(Add(5), SOON),
    ];
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers[0], Ok(3));
    assert!(matches!(answers[1], Err(CallError::MayHaveRun { .. })), "{:?}", answers[1]);
    assert_eq!(answers[2..], [Ok(4), Ok(9)]);
    let restarts = fixture.restarts(1).await;
    assert_eq!((restarts.len(), restarts[0].reason.as_str(), restarts[0].count), (1, "unlucky", 1));
}

#[tokio::test]
async fn a_panic_after_an_await_restarts_the_actor_and_spares_its_siblings() {
    let fixture = Fixture::new();
    let actor = fixture.start(64, Counter::default);
    let (go_bad, bad) = tokio::sync::oneshot::channel();
    let (go_good, good) = tokio::sync::oneshot::channel();
    let unlucky = actor.call(AddLater(13, bad), SOON);
    let lucky = actor.call(AddLater(1, good), SOON);
    let script = async {
        go_bad.send(()).unwrap();
        fixture.restarts(1).await;
        // The other call began before the restart and is answered after it.
        go_good.send(()).unwrap();
    };
    let (unlucky, lucky, ()) = futures::join!(unlucky, lucky, script);
    assert!(matches!(unlucky, Err(CallError::MayHaveRun { .. })), "{unlucky:?}");
    assert_eq!(lucky, Ok(14));
    assert_eq!(actor.call(Add(1), SOON).await, Ok(1), "the state is new");
}

#[tokio::test]
async fn a_panic_in_a_loop_restarts_the_actor_and_its_loop() {
    let fixture = Fixture::new();
    let crash = Arc::new(tokio::sync::Notify::new());
    let handed = Arc::clone(&crash);
    let actor = fixture.start(64, move || Counter { count: 0, crash_in_loop: Some(Arc::clone(&handed)) });
    for life in 1..=2 {
        crash.notify_one();
        let restarts = fixture.restarts(life).await;
        assert_eq!(restarts[life - 1].reason, "the loop fails");
        assert!(actor.ping(SOON).await.is_ok());
    }
}

#[tokio::test]
async fn a_full_mailbox_refuses_and_says_that_nothing_ran() {
    let fixture = Fixture::new();
    let actor = fixture.start(4, Counter::default);
    // While it waits out its backoff, nothing leaves the mailbox.
    assert!(actor.crash(Crash::Now, SOON).await.is_err());
    let calls: Vec<_> = (0..64).map(|_| actor.call(Add(1), SOON)).collect();
    let answers = futures::future::join_all(calls).await;
    let ran = answers.iter().filter(|a| a.is_ok()).count();
    let refused = answers.iter().filter(|a| matches!(a, Err(CallError::DidNotRun { .. }))).count();
    assert_eq!(ran + refused, 64);
    assert!(refused > 0);
    assert_eq!(
        actor.call(Add(0), SOON).await,
        Ok(u32::try_from(ran).unwrap()),
        "only what was not refused ran"
    );
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_time_may_have_run() {
    let fixture = Fixture::new();
    let actor = fixture.start(64, Counter::default);
    let (_never, go) = tokio::sync::oneshot::channel();
    let answer = actor.call(AddLater(1, go), Duration::from_millis(20)).await;
    assert!(
        matches!(answer, Err(CallError::MayHaveRun { why: "the deadline has passed", .. })),
        "{answer:?}"
    );
    assert!(actor.crash(Crash::AfterAwait, SOON).await.is_err());
    fixture.restarts(1).await;
}
