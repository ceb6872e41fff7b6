use super::shell::{Behaviour, Call, Handle, Ping, Request, Shell, Waiting};
use crate::mesh;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The mailbox is full, or the actor is gone. The call certainly did not run.
    #[error("the actor {actor} did not take the call: {why}")]
    DidNotRun {
        /// The actor.
        actor: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The actor failed or did not answer in time. The call may have run.
    #[error("the actor {actor} took the call and did not answer: {why}")]
    MayHaveRun {
        /// The actor.
        actor: &'static str,
        /// Why.
        why: &'static str,
    },
}

impl From<CallError> for callboard_domain::Error {
    fn from(error: CallError) -> Self {
        use callboard_domain::Code;
        let (code, actor) = match &error {
            CallError::DidNotRun { actor, .. } => (Code::ActorUnavailable, *actor),
            CallError::MayHaveRun { actor, .. } => (Code::MayHaveRun, *actor),
        };
        let rich = Self::new(code, error.to_string()).with("actor", actor);
        match code {
            Code::ActorUnavailable => rich.retry_after(Duration::from_millis(200)),
            _ => rich,
        }
    }
}

impl From<CallError> for tonic::Status {
    fn from(error: CallError) -> Self {
        callboard_domain::Error::from(error).into()
    }
}

/// Where an actor is called.
pub struct Address<B: Behaviour> {
    addr: actix::Addr<Shell<B>>,
    waiting: Arc<AtomicUsize>,
}

impl<B: Behaviour> Clone for Address<B> {
    fn clone(&self) -> Self {
        Self { addr: self.addr.clone(), waiting: Arc::clone(&self.waiting) }
    }
}

impl<B: Behaviour> Address<B> {
    pub(super) fn new(addr: actix::Addr<Shell<B>>) -> Self {
        Self { addr, waiting: Arc::default() }
    }

    /// How many calls wait in its mailbox.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Calls the actor and waits for the answer, at most `deadline`.
    ///
    /// # Errors
    /// [`CallError`] says whether the call may have run.
    pub async fn call<M: Request>(&self, message: M, deadline: Duration) -> Result<M::Reply, CallError>
    where
        B: Handle<M>,
    {
        let (reply, answer) = oneshot::channel();
        let context = mesh::current();
        let waiting = Waiting::new(&self.waiting);
        self.addr.try_send(Call { message, context, reply, waiting }).map_err(|e| not_sent::<B, _>(&e))?;
        await_answer::<B, _>(answer, deadline)
            .await?
            .map_err(|why| CallError::MayHaveRun { actor: B::NAME, why })
    }

    /// Asks the actor whether it works through its mail.
    ///
    /// # Errors
    /// It does not, or did not within `deadline`.
    pub async fn ping(&self, deadline: Duration) -> Result<(), CallError> {
        let (reply, answer) = oneshot::channel();
        match self.addr.try_send(Ping(reply)) {
            // A full mailbox is load, not death; whether it moves is seen by the next ask.
            Err(actix::prelude::SendError::Full(_)) => Ok(()),
            Err(e) => Err(not_sent::<B, _>(&e)),
            Ok(()) => await_answer::<B, _>(answer, deadline).await,
        }
    }

    /// Makes the actor panic, in its handler or in a future it spawned.
    ///
    /// # Errors
    /// Always: that is what it is for.
    #[cfg(any(test, feature = "fault-injection"))]
    pub async fn crash(&self, crash: super::Crash, deadline: Duration) -> Result<(), CallError> {
        let (reply, answer) = oneshot::channel();
        self.addr.try_send(super::shell::CrashCall(crash, reply)).map_err(|e| not_sent::<B, _>(&e))?;
        await_answer::<B, _>(answer, deadline).await
    }
}

fn not_sent<B: Behaviour, M>(error: &actix::prelude::SendError<M>) -> CallError {
    let why = match error {
        actix::prelude::SendError::Full(_) => "its mailbox is full",
        actix::prelude::SendError::Closed(_) => "it has stopped",
    };
    CallError::DidNotRun { actor: B::NAME, why }
}

async fn await_answer<B: Behaviour, T>(
    answer: oneshot::Receiver<T>,
    deadline: Duration,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(CallError::MayHaveRun { actor: B::NAME, why: "it dropped the call" }),
        Err(_) => Err(CallError::MayHaveRun { actor: B::NAME, why: "the deadline has passed" }),
    }
}
