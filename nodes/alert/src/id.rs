//! Ids of alerts that several nodes would choose alike.

use callboard_domain::alert::Observation;
use uuid::Builder;

/// Nodes that see the same thing in the same second name its alert alike, so that the second of them writes the
/// row of the first. `nth` tells an alert from an earlier one of that second that is resolved.
///
/// A UUIDv7 in text, so that it sorts by time; what would be random comes from the rule and the subject.
pub(crate) fn shared(seen: &Observation, nth: u8) -> String {
    let seconds = u64::try_from(seen.at.micros()).unwrap_or(0) / 1_000_000;
    let hash = fnv(&[seen.rule.as_bytes(), &[0], seen.subject.as_bytes(), &[0, nth]]).to_be_bytes();
    let mut bytes = [0; 10];
    let (_, tail) = bytes.split_at_mut(2);
    tail.copy_from_slice(&hash);
    Builder::from_unix_timestamp_millis(seconds * 1_000, &bytes).into_uuid().to_string()
}

/// FNV-1a: the same in every version of this program, which the standard library does not promise of its own.
fn fnv(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::Timestamp;

    #[test]
    fn the_same_thing_in_one_second_has_one_id_and_others_have_others() {
        let seen = |subject: &str, at| Observation {
            rule: "task_failed".into(),
            subject: subject.into(),
            message: format!("at {at}"),
            firing: true,
            at: Timestamp::from_micros(at),
            count: 1,
        };
        let id = shared(&seen("echo", 5_000_001), 0);
        assert_eq!(id, shared(&seen("echo", 5_900_000), 0));
        assert_eq!(id, "00000000-1388-7000-".to_owned() + &id[19..]);
        for other in [shared(&seen("echo", 5_000_001), 1), shared(&seen("else", 5_000_001), 0)] {
            assert_ne!(id, other);
        }
        assert!(id < shared(&seen("echo", 6_000_000), 0));
    }
}
