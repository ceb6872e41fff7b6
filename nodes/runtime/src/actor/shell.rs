use super::address::Address;
use crate::mesh;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// What an actor is beneath its shell: plain state.
pub trait Behaviour: Unpin + Send + 'static {
    /// Its name, in logs and metrics.
    const NAME: &'static str;

    /// Called after each start, with new state: the place to start loops.
    fn started(&mut self, _scope: &Scope) {}
}

/// A message with an answer.
pub trait Request: Send + 'static {
    /// The answer.
    type Reply: Send + 'static;
}

/// What an actor does with a message.
pub trait Handle<M: Request>: Behaviour {
    /// Handles it. Runs on the actor's thread: what takes long is returned as [`Handling::Later`].
    fn handle(&mut self, message: M) -> Handling<M::Reply>;
}

/// An answer, now or later.
pub enum Handling<R> {
    /// The answer.
    Now(R),
    /// A future of the answer; it runs on the runtime's pool, beside later messages.
    Later(BoxFuture<'static, R>),
    /// The same, for what costs money or effort and is of no use to others: dropped once the caller has given up.
    WhileAwaited(BoxFuture<'static, R>),
}

/// A restart of an actor.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The actor.
    pub actor: &'static str,
    /// What the panic said.
    pub reason: String,
    /// How many restarts this makes since it was started.
    pub count: u64,
}

/// How an actor is run.
#[derive(Clone)]
pub struct Options {
    /// The most messages that wait.
    pub mailbox: usize,
    /// The wait before the first restart; doubled by each that follows within a minute.
    pub backoff: Duration,
    /// The longest wait before a restart.
    pub backoff_cap: Duration,
    /// Where an actor's futures run.
    pub runtime: tokio::runtime::Handle,
    /// What keeps track of them.
    pub tracker: TaskTracker,
    /// Is told of each restart. Must not block.
    pub on_restart: Arc<dyn Fn(Restart) + Send + Sync>,
}

/// What an actor's loops need: where to run, and how to say that they failed.
#[derive(Clone)]
pub struct Scope {
    runtime: tokio::runtime::Handle,
    tracker: TaskTracker,
    fail: Arc<dyn Fn(String) + Send + Sync>,
}

impl Scope {
    /// Runs a loop of the actor on the runtime's pool. Its panic restarts the actor.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let fail = Arc::clone(&self.fail);
        self.tracker.spawn_on(
            async move {
                if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                    fail(panic_text(&*panic));
                }
            },
            &self.runtime,
        );
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

/// Starts an actor on a thread.
pub fn start<B: Behaviour>(
    arbiter: &actix::ArbiterHandle,
    options: Options,
    make: impl Fn() -> B + Send + 'static,
) -> Address<B> {
    let addr = actix::Supervisor::start_in_arbiter(arbiter, move |_| Shell::new(options, Box::new(make)));
    Address::new(addr)
}

pub(super) struct Shell<B: Behaviour> {
    behaviour: B,
    make: Box<dyn Fn() -> B + Send>,
    options: Options,
    restarts: u64,
    /// Raised by each start, so that a late failure of an older life is ignored.
    life: u64,
    recent: Vec<Instant>,
}

impl<B: Behaviour> Shell<B> {
    fn new(options: Options, make: Box<dyn Fn() -> B + Send>) -> Self {
        Self { behaviour: make(), make, options, restarts: 0, life: 0, recent: Vec::new() }
    }

    fn fail(&mut self, reason: String, ctx: &mut Context<Self>) {
        self.restarts += 1;
        self.recent.push(Instant::now());
        tracing::error!(actor = B::NAME, reason, restarts = self.restarts, "actor panicked and is restarted");
        (self.options.on_restart)(Restart { actor: B::NAME, reason, count: self.restarts });
        actix::ActorContext::stop(ctx);
    }

    fn backoff(&mut self) -> Duration {
        self.recent.retain(|at| at.elapsed() < Duration::from_secs(60));
        let doublings = u32::try_from(self.recent.len().saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        self.options.backoff.saturating_mul(1 << doublings).min(self.options.backoff_cap)
    }

    fn later<R: Send + 'static>(
        &self,
        work: BoxFuture<'static, R>,
        mut reply: oneshot::Sender<Result<R, &'static str>>,
        while_awaited: bool,
        ctx: &Context<Self>,
    ) {
        let (addr, life) = (ctx.address(), self.life);
        self.options.tracker.spawn_on(
            async move {
                let work = AssertUnwindSafe(work).catch_unwind();
                let worked = tokio::select! {
                    biased;
                    worked = work => worked,
                    () = reply.closed(), if while_awaited => return,
                };
                let answer = match worked {
                    Ok(answer) => Ok(answer),
                    Err(panic) => {
                        let failed = Failed { reason: panic_text(&*panic), life };
                        // The actor may have stopped for good, and then there is nothing to restart.
                        let _ = addr.send(failed).await;
                        Err("it panicked")
                    }
                };
                // The caller may have given up.
                let _ = reply.send(answer);
            },
            &self.options.runtime,
        );
    }
}

impl<B: Behaviour> Actor for Shell<B> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.options.mailbox);
        self.life += 1;
        if self.restarts > 0 {
            let pause = tokio::time::sleep(self.backoff());
            // The mailbox keeps what comes meanwhile.
            ctx.wait(pause.into_actor(self).map(|(), shell, ctx| shell.begin(ctx)));
        } else {
            self.begin(ctx);
        }
    }
}

impl<B: Behaviour> Shell<B> {
    fn begin(&mut self, ctx: &mut Context<Self>) {
        let (addr, life) = (ctx.address(), self.life);
        let (runtime, tracker) = (self.options.runtime.clone(), self.options.tracker.clone());
        let scope = Scope {
            runtime: runtime.clone(),
            tracker: tracker.clone(),
            fail: Arc::new(move |reason| {
                let addr = addr.clone();
                let failed = Failed { reason, life };
                tracker.spawn_on(
                    async move {
                        // The actor may have stopped for good.
                        let _ = addr.send(failed).await;
                    },
                    &runtime,
                );
            }),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.behaviour.started(&scope))) {
            self.fail(panic_text(&*panic), ctx);
        }
    }
}

impl<B: Behaviour> Supervised for Shell<B> {
    fn restarting(&mut self, _ctx: &mut Self::Context) {
        self.behaviour = (self.make)();
    }
}

/// A message in a mailbox, counted until it is dropped.
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Call<M: Request> {
    pub(super) message: M,
    /// What the caller's work is part of, and so the call's.
    pub(super) context: mesh::Context,
    pub(super) reply: oneshot::Sender<Result<M::Reply, &'static str>>,
    /// Until it is handled.
    pub(super) waiting: Waiting,
}

impl<M: Request> actix::Message for Call<M> {
    type Result = ();
}

impl<B: Handle<M>, M: Request> actix::Handler<Call<M>> for Shell<B> {
    type Result = ();

    fn handle(&mut self, call: Call<M>, ctx: &mut Self::Context) {
        drop(call.waiting);
        // Whoever called has given up: it was told that the call may have run, so leaving it is right too.
        if call.reply.is_closed() {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| self.behaviour.handle(call.message))) {
            Ok(Handling::Now(answer)) => {
                let _ = call.reply.send(Ok(answer));
            }
            Ok(Handling::Later(work)) => self.later(call.context.scope(work).boxed(), call.reply, false, ctx),
            Ok(Handling::WhileAwaited(work)) => {
                self.later(call.context.scope(work).boxed(), call.reply, true, ctx);
            }
            Err(panic) => {
                let _ = call.reply.send(Err("it panicked"));
                self.fail(panic_text(&*panic), ctx);
            }
        }
    }
}

/// A future of the actor has panicked.
struct Failed {
    reason: String,
    life: u64,
}

impl actix::Message for Failed {
    type Result = ();
}

impl<B: Behaviour> actix::Handler<Failed> for Shell<B> {
    type Result = ();

    fn handle(&mut self, failed: Failed, ctx: &mut Self::Context) {
        if failed.life == self.life {
            self.fail(failed.reason, ctx);
        }
    }
}

pub(super) struct Ping(pub(super) oneshot::Sender<()>);

impl actix::Message for Ping {
    type Result = ();
}

impl<B: Behaviour> actix::Handler<Ping> for Shell<B> {
    type Result = ();

    fn handle(&mut self, ping: Ping, _: &mut Self::Context) {
        let _ = ping.0.send(());
    }
}

/// How to make an actor panic.
#[cfg(any(test, feature = "fault-injection"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// In its handler.
    Now,
    /// In a future of its handler, after an await.
    AfterAwait,
}

#[cfg(any(test, feature = "fault-injection"))]
pub(super) struct CrashCall(pub(super) Crash, pub(super) oneshot::Sender<()>);

#[cfg(any(test, feature = "fault-injection"))]
impl actix::Message for CrashCall {
    type Result = ();
}

#[cfg(any(test, feature = "fault-injection"))]
impl<B: Behaviour> actix::Handler<CrashCall> for Shell<B> {
    type Result = ();

    #[expect(clippy::panic, reason = "that is what it is for")]
    fn handle(&mut self, CrashCall(crash, reply): CrashCall, ctx: &mut Self::Context) {
        match crash {
            Crash::Now => {
                let work = || -> () { panic!("crashed on purpose, in a handler") };
                if let Err(panic) = catch_unwind(work) {
                    drop(reply);
                    self.fail(panic_text(&*panic), ctx);
                }
            }
            Crash::AfterAwait => {
                let (inner, _answer) = oneshot::channel::<Result<(), &'static str>>();
                let work = async move {
                    let _reply = reply;
                    tokio::task::yield_now().await;
                    panic!("crashed on purpose, after an await");
                };
                self.later(Box::pin(work), inner, false, ctx);
            }
        }
    }
}
