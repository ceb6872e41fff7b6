//! What the caches did, for a person.

use super::style::{Paint, Palette, clean};
use super::table::{Cell, Table};
use super::time::bytes;
use callboard_client::v1;
use std::collections::BTreeMap;

/// What all nodes counted together, by namespace and kind; what is of no single one at the end.
#[must_use]
pub fn total(nodes: &[v1::NodeCacheStatistics]) -> Vec<v1::CacheStatistics> {
    let mut sums = BTreeMap::<(bool, &str, &str), v1::CacheStatistics>::new();
    for row in nodes.iter().flat_map(|node| &node.rows) {
        let sum =
            sums.entry((row.others, &row.namespace, &row.kind)).or_insert_with(|| v1::CacheStatistics {
                namespace: row.namespace.clone(),
                kind: row.kind.clone(),
                others: row.others,
                ..Default::default()
            });
        sum.hits_memory += row.hits_memory;
        sum.hits_shared += row.hits_shared;
        sum.misses += row.misses;
        sum.joined += row.joined;
        sum.replayed += row.replayed;
        sum.similar += row.similar;
        sum.entries += row.entries;
        sum.bytes += row.bytes;
    }
    sums.into_values().collect()
}

/// What the caches of all nodes did, as a table, and which node did not answer.
#[must_use]
pub fn statistics(nodes: &[v1::NodeCacheStatistics], palette: Palette, width: Option<usize>) -> String {
    let rows = total(nodes);
    let mut out = match rows.is_empty() {
        true => "no call has used a cache yet\n".to_owned(),
        false => table(&rows).render(palette, width),
    };
    for node in nodes.iter().filter(|node| !node.unreachable.is_empty()) {
        out.push_str(&format!("{} is missing here: {}\n", clean(&node.node), clean(&node.unreachable)));
    }
    out
}

fn table(rows: &[v1::CacheStatistics]) -> Table {
    let mut table = Table::new(&[
        "NAMESPACE",
        "KIND",
        ">IN MEMORY",
        ">SHARED",
        ">MISSED",
        ">HIT RATE",
        ">JOINED",
        ">REPLAYED",
        ">SIMILAR",
        ">ANSWERS",
        ">BYTES",
    ]);
    for row in rows {
        let hits = row.hits_memory + row.hits_shared;
        let asked = hits + row.misses;
        let rate = match asked {
            0 => "-".to_owned(),
            _ => format!("{:.1} %", 100.0 * hits as f64 / asked as f64),
        };
        let (namespace, kind) = match row.others {
            true => ("(others)", "(others)"),
            false => {
                (row.namespace.as_str(), Some(row.kind.as_str()).filter(|k| !k.is_empty()).unwrap_or("-"))
            }
        };
        table.row(vec![
            Cell::new(namespace, Paint::Strong),
            Cell::from(kind),
            row.hits_memory.to_string().into(),
            row.hits_shared.to_string().into(),
            row.misses.to_string().into(),
            rate.into(),
            row.joined.to_string().into(),
            row.replayed.to_string().into(),
            row.similar.to_string().into(),
            row.entries.to_string().into(),
            bytes(row.bytes).into(),
        ]);
    }
    table
}

/// What became of a clear.
#[must_use]
pub const fn cleared(done: &v1::ClearCacheResponse) -> &'static str {
    match done.unsaved {
        false => "forgotten",
        true => {
            "forgotten on every node that could be told, but not written down yet, as the store is away: until it is, a \
             node that starts may give answers of before"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_summed_up_and_one_that_is_missing_is_named() {
        let row = v1::CacheStatistics {
            namespace: "default".into(),
            kind: "text.generate".into(),
            hits_memory: 90,
            misses: 10,
            joined: 3,
            entries: 10,
            bytes: 12_000,
            ..Default::default()
        };
        let direct = v1::CacheStatistics { namespace: "shop".into(), replayed: 2, ..Default::default() };
        let others = v1::CacheStatistics { others: true, hits_shared: 1, misses: 2, ..Default::default() };
        let nodes = [
            v1::NodeCacheStatistics {
                node: "a".into(),
                rows: vec![row.clone(), direct, others.clone()],
                ..Default::default()
            },
            v1::NodeCacheStatistics {
                node: "b".into(),
                rows: vec![v1::CacheStatistics { hits_shared: 5, similar: 1, ..row }, others],
                ..Default::default()
            },
            v1::NodeCacheStatistics {
                node: "c".into(),
                unreachable: "no connection to it".into(),
                ..Default::default()
            },
        ];
        insta::assert_snapshot!(statistics(&nodes, Palette::plain(), None));
        assert_eq!(statistics(&[], Palette::plain(), None), "no call has used a cache yet\n");
    }
}
