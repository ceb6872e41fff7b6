//! Records as nodes send them to each other.

use callboard_contracts::mesh::v1 as mesh;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use std::time::Duration;

pub(super) fn to_wire(record: ProviderRecord) -> mesh::ProviderRecord {
    let ProviderRecord { subject, epoch, until, at, cool_down, value, note, author } = record;
    mesh::ProviderRecord {
        topic: u32::from(subject.topic.code()),
        provider: subject.provider,
        key: subject.key,
        model: subject.model,
        epoch,
        until_us: until.micros(),
        at_us: at.micros(),
        cool_down_us: u64::try_from(cool_down.as_micros()).unwrap_or(u64::MAX),
        value,
        note,
        author,
    }
}

/// A record that was sent; none if it is of a topic that a later version knows.
pub(crate) fn from_wire(record: mesh::ProviderRecord) -> Option<ProviderRecord> {
    let topic = u8::try_from(record.topic).ok().and_then(Topic::from_code)?;
    Some(ProviderRecord {
        subject: Subject { topic, provider: record.provider, key: record.key, model: record.model },
        epoch: record.epoch,
        until: Timestamp::from_micros(record.until_us),
        at: Timestamp::from_micros(record.at_us),
        cool_down: Duration::from_micros(record.cool_down_us),
        value: record.value,
        note: record.note,
        author: record.author,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_same_after_its_way_and_one_of_a_later_version_is_left_out() {
        let record = ProviderRecord {
            subject: Subject { key: "k".into(), model: "m".into(), ..Subject::of(Topic::Breaker, "p") },
            epoch: 3,
            until: Timestamp::from_micros(-7),
            cool_down: Duration::from_secs(5),
            value: "v".into(),
            note: "n".into(),
            author: "a".into(),
            ..ProviderRecord::new(Subject::of(Topic::Breaker, "p"), Timestamp::from_micros(9))
        };
        let sent = to_wire(record.clone());
        assert_eq!(from_wire(sent.clone()), Some(record));
        assert_eq!(from_wire(mesh::ProviderRecord { topic: 99, ..sent.clone() }), None);
        assert_eq!(from_wire(mesh::ProviderRecord { topic: 0, ..sent }), None);
    }
}
