//! The ledger: in a file of a node by itself, and in the database of a cluster.

pub mod postgres;
pub mod sqlite;
