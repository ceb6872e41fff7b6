//! The client itself: a cheap handle on the routes.

use crate::call::{self, Budget, Outcome, Repeat};
use crate::error::Error;
use crate::options::Options;
use crate::route::Routes;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// The most bytes of one answer: a task with its input and result, or a page of tasks.
pub(crate) const ANSWER_BYTES: usize = 8 << 20;

/// A client of a node or a cluster. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    routes: Arc<Routes>,
    options: Arc<Options>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("addresses", &self.options.addresses).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of these addresses. It connects at its first call, which must be made on a tokio runtime.
    ///
    /// # Errors
    /// `INVALID_ADDRESS` if an address is none, or if there is none.
    pub fn connect(options: Options) -> Result<Self, Error> {
        Ok(Self { routes: Arc::new(Routes::new(&options)?), options: Arc::new(options) })
    }

    /// The address in use, or the next to be tried.
    #[must_use]
    pub fn address(&self) -> &str {
        self.routes.current()
    }

    /// What the client was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) async fn call<M, T, F, R>(&self, repeat: Repeat, message: M, send: F) -> Result<T, Error>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(self.options.timeout, repeat, message, send).await.result
    }

    pub(crate) async fn call_within<M, T, F, R>(
        &self,
        total: Duration,
        repeat: Repeat,
        message: M,
        send: F,
    ) -> Outcome<T>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let budget = Budget { total, patience: self.options.patience, tell: true };
        call::call(&self.routes, budget, repeat, message, send).await
    }

    /// Opens a stream. `patience` is how long to go on while no address answers.
    pub(crate) async fn open<M, T, F, R>(
        &self,
        patience: Duration,
        repeat: Repeat,
        message: M,
        send: F,
    ) -> Result<T, Error>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let budget = Budget { total: patience.max(self.options.timeout), patience, tell: false };
        call::call(&self.routes, budget, repeat, message, send).await.result
    }
}
