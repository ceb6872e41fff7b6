//! What the nodes of a cluster tell each other of providers, and what is kept of it between their lives: open breakers, and
//! what an admin has switched.
//!
//! What a node learns it tells every other one at once ([`Tell`]) and writes to the store; it reads the store when it starts,
//! and rarely after that, for what it was not told. Neither has to be there for calls to be made: a node that is alone knows
//! what it finds out by itself.
//!
//! Waits that providers name while they are well are told too, and kept nowhere: see [`waits`].
//!
//! It decides nothing: [`Records`] keeps the greater of two records about the same, and those who act on records look there.

mod keeper;
mod records;
mod waits;
mod wire;

pub(crate) use keeper::{keep, recall};
pub(crate) use records::{Records, SUBJECT_BYTES};
pub(crate) use waits::{Of, Subject as WaitSubject, Wait, Waits, heard as heard_waits};
pub(crate) use wire::from_wire;

use callboard_contracts::mesh::v1 as mesh;
use callboard_ports::ProviderRecords;
use futures::future::BoxFuture;
use std::sync::Arc;

/// Tells every other node of records and waits. It ends within a second or so, whether they heard it or not.
pub type Tell = Arc<dyn Fn(mesh::TellRecordsRequest) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a broker shares its records through.
#[derive(Clone)]
pub struct Sharing {
    /// Keeps them.
    pub store: Arc<dyn ProviderRecords>,
    /// Tells the other nodes.
    pub tell: Tell,
}
