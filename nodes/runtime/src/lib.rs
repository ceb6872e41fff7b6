//! The actor mesh: supervision, clients that are local or remote, the watch hub.
