//! What the ports stand on. One module per port, one submodule per backend.
//!
//! With the embedded ones, everything a single node needs lives in this process and its data folder; the others
//! talk to the servers of a cluster. Each backend runs the contract suite of its port.
//!
//! Nothing here knows actors, the network or configuration files: options are plain data, and the
//! one binary wires them.

pub mod answers;
pub mod artifacts;
pub mod handoff;
pub mod ledger;
pub mod locks;
pub mod logs;
pub mod redis_link;
pub mod store;
pub mod token_buckets;
pub mod trace;
