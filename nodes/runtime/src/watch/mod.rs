//! Who follows a task on this node is told of every event of it.
//!
//! - The [`Hub`] passes events on to those who watch. It observes the store's commits; nobody polls. A watcher
//!   that does not keep up is cut off: its channel ends, and it goes on from the last seq it has by reading
//!   the store.
//! - In a cluster, [`Remote`] stands before the hub: it puts together what this node commits and what its peers
//!   do. It subscribes once per peer with the tasks that are watched here, and passes each task's events on
//!   once and in order. What a peer says is a hint: a gap in seq, a lost peer, a new watch and a slow period
//!   (only while somebody watches) each lead to one read of the store for all tasks concerned.
//!
//! It does not answer clients, nor its peers: that is the business of the API and of the Supervisor.

mod follow;
mod hub;
mod line;
mod remote;
#[cfg(test)]
mod tests;
mod wire;

pub use follow::{EventSource, Requests};
pub use hub::{Hub, Subscription};
pub use remote::{Options, Remote};
