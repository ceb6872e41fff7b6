//! Calls from actor to actor, on this node and between nodes.
//!
//! - One client type per actor, local or remote; a caller cannot tell which. Locally it calls the service
//!   object of the actor in this process, remotely the same service over a [`Link`]; a *routed* client calls
//!   whichever node hosts the role.
//! - A call answers with a result, with *did not run* or with *may have run* ([`Error`]), never ambiguously.
//! - Every call carries its deadline, who calls, the id of the request that caused it, the W3C trace context and,
//!   where it can speak for one, the attempt that calls ([`Context`]).
//! - [`serve`] is the other end: the services of the roles a node hosts, on its mesh listener. Between nodes
//!   everything is verified in both directions ([`tls`]), unless the cluster is configured without.
//!
//! Which nodes there are, and which of them to avoid, is the business of [`peers`](crate::peers).

mod client;
pub(crate) mod connect;
mod context;
pub(crate) mod error;
mod link;
mod server;
pub mod tls;

pub use client::{
    AlertClient, AlertService, BrokerClient, BrokerService, EventStream, GenerateStream, Route,
    SupervisorClient, SupervisorService, WorkerClient, WorkerService,
};
pub use connect::Timing;
pub use context::{Context, current};
pub use error::Error;
pub use link::{Link, Observer, Options as LinkOptions, Unobserved};
pub use server::{
    BeginsTrace, Error as ServeError, MeteredLayer, MethodRead, Options as ServeOptions, RpcMetrics,
    Services, TracedLayer, serve,
};
