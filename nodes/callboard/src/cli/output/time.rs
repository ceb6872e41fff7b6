//! Spans, points in time and sizes, for a person.

use callboard_domain::Timestamp;
use callboard_domain::convert::{duration_from_proto, time_from_proto};
use std::time::Duration;

/// Now, on this machine's clock.
#[must_use]
pub fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// A point in time from the wire, if it is set.
#[must_use]
pub fn point(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    at.map(time_from_proto)
}

/// A span from the wire, if it is set.
#[must_use]
pub fn duration(span: Option<&prost_types::Duration>) -> Option<Duration> {
    span.and_then(duration_from_proto)
}

/// A span in its two largest units: `350 ms`, `1.2 s`, `2 min 5 s`, `3 h 12 min`, `4 d 2 h`.
#[must_use]
pub fn span(span: Duration) -> String {
    let (millis, seconds) = (span.as_millis(), span.as_secs());
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0 if millis < 1 && !span.is_zero() => "under 1 ms".to_owned(),
        0 => format!("{millis} ms"),
        1..10 => format!("{:.1} s", (millis / 100) as f64 / 10.0),
        10..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

/// How far a point in time is from now: `3 s ago`, `in 5 min`, `now`.
#[must_use]
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let coarse = |span: Duration| match span.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..86_400 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    };
    let (past, future) = (now.since(at), at.since(now));
    if past.as_secs() > 0 {
        format!("{} ago", coarse(past))
    } else if future.as_millis() > 0 {
        // Rounded up: what is due in 0.4 s is not due now.
        format!("in {}", coarse(future + Duration::from_millis(999)))
    } else {
        "now".to_owned()
    }
}

/// A point in time with how far it is from now.
#[must_use]
pub fn both(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", clock(at), relative(at, now))
}

/// A point in time to the second, in UTC.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_micros(at.micros())
        .map_or_else(|| at.to_rfc3339(), |t| t.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// How long after a start something happened: `+1.203 s`.
#[must_use]
pub fn offset(at: Timestamp, start: Timestamp) -> String {
    let since = at.since(start);
    match since.as_secs() {
        0..100 => format!("+{:.3} s", since.as_secs_f64()),
        _ => format!("+{}", span(since)),
    }
}

/// A size in bytes, with its unit.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well_at_every_size() {
        for (millis, text) in [
            (0, "0 ms"),
            (350, "350 ms"),
            (1_000, "1.0 s"),
            (9_999, "9.9 s"),
            (42_900, "42 s"),
            (125_000, "2 min 5 s"),
            (7_200_000, "2 h"),
            (100 * 3_600_000, "4 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(span(Duration::from_micros(20)), "under 1 ms");
    }

    #[test]
    fn points_are_told_from_now() {
        let at = Timestamp::from_micros;
        let now = at(1_000_000_000);
        assert_eq!(relative(at(997_000_000), now), "3 s ago");
        assert_eq!(relative(now, now), "now");
        assert_eq!(relative(at(1_000_400_000), now), "in 1 s");
        assert_eq!(relative(at(1_300_000_000), now), "in 5 min");
        assert_eq!(both(at(0), now), "1970-01-01 00:00:00Z (16 min ago)");
        assert_eq!(offset(at(1_001_203_000), now), "+1.203 s");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!([bytes(7), bytes(12_340), bytes(5_000_000)].join(" "), "7 B 12.3 kB 5.0 MB");
    }
}
