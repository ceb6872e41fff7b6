//! What travels: names of queues, and messages of many ids.
//!
//! A body is a line of JSON, then 24 bytes for each task: its id and its hand-off. The line says the version:
//! fields may be added to it, and a reader refuses a version it does not know. A marker has no tasks: whoever
//! consumes it says so, and nothing else comes of it.

use callboard_domain::{Band, TaskId, Timestamp};
use callboard_ports::handoff::Ready;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

const VERSION: u32 = 1;
const RECORD: usize = 24;
/// The longest escaped name: AMQP allows 255 bytes with prefix and band.
const NAME: usize = 120;

/// The name of a lane's queue.
pub(super) fn queue_name(prefix: &str, queue: &str, band: Band) -> String {
    let mut name = String::new();
    for byte in queue.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > NAME {
        let digest: String = Sha256::digest(queue).iter().map(|b| format!("{b:02x}")).collect();
        name = format!("~{digest}");
    }
    let band = match band {
        Band::Low => "low",
        Band::Middle => "middle",
        Band::High => "high",
    };
    format!("{prefix}.{name}.{band}")
}

/// How many tasks a body holds.
pub(super) fn tasks_in(body: &[u8]) -> usize {
    let head = body.iter().position(|byte| *byte == b'\n').map_or(body.len(), |end| end + 1);
    (body.len() - head) / RECORD
}

#[derive(Serialize, Deserialize)]
struct Version {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Head {
    v: u32,
    queue: Arc<str>,
    band: u8,
    #[serde(default)]
    alone: bool,
    /// Microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marker: Option<u64>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// These tasks wait for a worker: at least one.
    Tasks(Vec<Ready>),
    /// All that was published into this lane before has been consumed.
    Marker(Marker),
}

/// Shows how far a lane has been consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) number: u64,
    pub(super) queue: Arc<str>,
    pub(super) band: Band,
}

fn line(head: &Head) -> Vec<u8> {
    let mut body = serde_json::to_vec(head).unwrap_or_default();
    body.push(b'\n');
    body
}

/// A message of tasks that share queue, band, loneliness and time: those of the first.
pub(super) fn encode(tasks: &[Ready]) -> Vec<u8> {
    let Some(first) = tasks.first() else { return Vec::new() };
    let mut body = line(&Head {
        v: VERSION,
        queue: first.queue.clone(),
        band: first.band.index(),
        alone: first.alone,
        not_before: first.not_before.map(Timestamp::micros),
        marker: None,
    });
    for task in tasks {
        body.extend_from_slice(task.id.as_bytes());
        body.extend_from_slice(&task.handoff.to_be_bytes());
    }
    body
}

/// A message that only shows where it is.
pub(super) fn encode_marker(marker: &Marker) -> Vec<u8> {
    line(&Head {
        v: VERSION,
        queue: marker.queue.clone(),
        band: marker.band.index(),
        alone: false,
        not_before: None,
        marker: Some(marker.number),
    })
}

/// What a message says; nothing if it cannot be read.
pub(super) fn decode(body: &[u8]) -> Option<Body> {
    let end = body.iter().position(|b| *b == b'\n')?;
    let (line, records) = (body.get(..end)?, body.get(end + 1..)?);
    if serde_json::from_slice::<Version>(line).ok()?.v != VERSION {
        return None;
    }
    let head: Head = serde_json::from_slice(line).ok()?;
    let band = Band::from_index(head.band)?;
    if let Some(number) = head.marker {
        return Some(Body::Marker(Marker { number, queue: head.queue, band }));
    }
    if records.is_empty() || records.len() % RECORD != 0 {
        return None;
    }
    let task = |record: &[u8]| {
        let (id, handoff) = record.split_at_checked(16)?;
        Some(Ready {
            id: TaskId::from_bytes(id.try_into().ok()?),
            handoff: u64::from_be_bytes(handoff.try_into().ok()?),
            queue: head.queue.clone(),
            band,
            alone: head.alone,
            not_before: head.not_before.map(Timestamp::from_micros),
        })
    };
    records.chunks_exact(RECORD).map(task).collect::<Option<_>>().map(Body::Tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(n: u8) -> Ready {
        let id = TaskId::from_bytes([n; 16]);
        let queue = "a queue/ü".into();
        Ready { id, handoff: u64::MAX - u64::from(n), queue, band: Band::High, alone: true, not_before: None }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let tasks = vec![ready(1), ready(2)];
        assert_eq!(decode(&encode(&tasks)), Some(Body::Tasks(tasks)));
        let marker = Marker { number: 7, queue: "a queue/ü".into(), band: Band::Low };
        assert_eq!(decode(&encode_marker(&marker)), Some(Body::Marker(marker)));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let body = encode(&[ready(1)]);
        assert_eq!(decode(&body[..body.len() - 1]), None);
        assert_eq!(decode(b"{}\n"), None);
        let newer = String::from_utf8_lossy(&body).replacen("\"v\":1", "\"v\":2", 1);
        assert_eq!(decode(newer.as_bytes()), None);
    }

    /// What a node of the version before writes, and what one of the next may: while a cluster is upgraded both
    /// are there. The bytes stand here for good: who changes them breaks every cluster that is being upgraded.
    #[test]
    fn messages_of_the_version_before_and_of_one_with_more_fields_are_read() {
        let tasks = vec![Ready { handoff: 3, queue: "q".into(), ..ready(7) }];
        let mut records = vec![7; 16];
        records.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        let message = |line: &str| [line.as_bytes(), b"\n", &*records].concat();
        let first = message(r#"{"v":1,"queue":"q","band":2,"alone":true}"#);
        assert_eq!(encode(&tasks), first);
        assert_eq!(decode(&first), Some(Body::Tasks(tasks.clone())));
        let more = message(r#"{"v":1,"queue":"q","band":2,"alone":true,"tenant":"t","nested":{"a":[1]}}"#);
        assert_eq!(decode(&more), Some(Body::Tasks(tasks)), "fields may be added");
        let marker = Marker { number: 7, queue: "q".into(), band: Band::Low };
        let first = br#"{"v":1,"queue":"q","band":0,"alone":false,"marker":7}"#;
        assert_eq!(encode_marker(&marker), [&first[..], b"\n"].concat());
        assert_eq!(decode(&encode_marker(&marker)), Some(Body::Marker(marker)));
    }

    #[test]
    fn names_are_escaped_and_bounded() {
        assert_eq!(queue_name("cb", "a.b", Band::Low), "cb.a%2Eb.low");
        assert!(queue_name("cb", &"ü".repeat(64), Band::Middle).len() < 200);
    }
}
