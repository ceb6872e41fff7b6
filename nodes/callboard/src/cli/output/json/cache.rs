//! What the caches did.

use super::set;
use crate::cli::output::cache::total;
use callboard_client::v1;
use serde::Serialize;

/// What the caches of all nodes did together, and each node's part.
#[derive(Serialize)]
pub struct CacheStatistics<'a> {
    total: Vec<Row>,
    nodes: Vec<Node<'a>>,
}

/// What became of a clear.
#[derive(Serialize)]
pub struct Cleared {
    /// Whether it is written down.
    pub saved: bool,
}

#[derive(Serialize)]
struct Node<'a> {
    node: &'a str,
    /// Why there is nothing of it.
    unreachable: Option<&'a str>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// Null where it is of no single namespace and kind.
    namespace: Option<String>,
    /// Null where it is of no single one; empty for direct calls.
    kind: Option<String>,
    hits_memory: u64,
    hits_shared: u64,
    misses: u64,
    joined: u64,
    replayed: u64,
    similar: u64,
    entries: u64,
    bytes: u64,
}

impl From<v1::CacheStatistics> for Row {
    fn from(row: v1::CacheStatistics) -> Self {
        Self {
            namespace: (!row.others).then_some(row.namespace),
            kind: (!row.others).then_some(row.kind),
            hits_memory: row.hits_memory,
            hits_shared: row.hits_shared,
            misses: row.misses,
            joined: row.joined,
            replayed: row.replayed,
            similar: row.similar,
            entries: row.entries,
            bytes: row.bytes,
        }
    }
}

impl<'a> From<&'a [v1::NodeCacheStatistics]> for CacheStatistics<'a> {
    fn from(nodes: &'a [v1::NodeCacheStatistics]) -> Self {
        let node = |node: &'a v1::NodeCacheStatistics| Node {
            node: &node.node,
            unreachable: set(&node.unreachable),
            rows: node.rows.iter().cloned().map(Row::from).collect(),
        };
        Self {
            total: total(nodes).into_iter().map(Row::from).collect(),
            nodes: nodes.iter().map(node).collect(),
        }
    }
}
