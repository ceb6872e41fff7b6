//! The broker against a provider that is real on the wire, and against scripted ones where time matters.

mod adapters;
mod admin;
mod breaker;
mod cancel;
mod cluster;
mod config;
mod embeddings;
mod experiments;
mod experiments_shared;
mod faults;
mod keys;
mod left;
mod limits;
mod money;
mod offline;
mod reload;
mod retry;
mod routes;
mod routing;
mod service;
mod shared;
mod streams;
mod support;
mod wire;
