//! Values of arguments: spans, points in time, and where output goes.

use callboard_domain::Timestamp;
use clap::builder::{PossibleValue, TypedValueParser};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the answer goes and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Aligned text for a person.
    Table,
    /// JSON for a program: one document, or one a line where there are many.
    Json,
    /// A file. Only `result`, `artifact get` and `image` write one.
    File(PathBuf),
}

/// Parses [`Output`]: `table`, `json`, and anything else as a path.
#[derive(Clone, Debug)]
pub struct OutputParser;

impl TypedValueParser for OutputParser {
    type Value = Output;

    fn parse_ref(
        &self,
        _: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Output, clap::Error> {
        Ok(match value.to_str() {
            Some("table") => Output::Table,
            Some("json") => Output::Json,
            _ => Output::File(value.into()),
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(["table", "json"].into_iter().map(PossibleValue::new)))
    }
}

/// A span such as `500ms`, `10s`, `5m`, `1h30m` or `2d`.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no span: expected a number and a unit, such as 500ms, 10s, 5m, 2h or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    Ok(total)
}

/// A point in time in RFC 3339 form.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn time(text: &str) -> Result<Timestamp, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|t| Timestamp::from_micros(t.timestamp_micros()))
        .map_err(|_| format!("`{text}` is no RFC 3339 time: expected one such as 2026-01-31T18:30:00Z"))
}

/// A span on the wire.
#[must_use]
pub fn span_to_proto(span: Duration) -> prost_types::Duration {
    callboard_domain::convert::duration_to_proto(span)
}

/// A point in time on the wire.
#[must_use]
pub fn time_to_proto(at: Timestamp) -> prost_types::Timestamp {
    callboard_domain::convert::time_to_proto(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_their_parts() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("0s", 0),
        ] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "10x", "-5s", "1.2.3s", "1e9s", "99999999999999999999d", "5 m"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_keep_their_offset() {
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Ok(Timestamp::from_micros(0)));
        assert!(time("tomorrow").unwrap_err().contains("RFC 3339"));
    }
}
