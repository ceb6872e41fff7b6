//! What a provider's headers say is left: pure, whatever they hold.
//!
//! - OpenAI and those that do alike: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`. Resets are spans as Go
//!   writes them (`1s`, `6m0s`, `12ms`), or plain seconds.
//! - Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`. Resets are
//!   moments in RFC 3339; the `Date` of the same answer tells how far off they are, whatever our clock says.
//!
//! What names no reset, or cannot be read, says nothing.

use super::allowance::{Left, Statement};
use callboard_domain::Timestamp;
use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, HeaderName};
use std::time::Duration;

/// Where one kind of limit is told: how much is left of it, and when it is whole again.
struct Told {
    remaining: HeaderName,
    reset: HeaderName,
}

const fn told(remaining: &'static str, reset: &'static str) -> Told {
    Told { remaining: HeaderName::from_static(remaining), reset: HeaderName::from_static(reset) }
}

// Made once: they are looked for in each answer.
static OPENAI_REQUESTS: Told = told("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests");
static OPENAI_TOKENS: Told = told("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
static ANTHROPIC_REQUESTS: Told =
    told("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset");
static ANTHROPIC_TOKENS: [Told; 3] = [
    told("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    told("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    told("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];
/// What the names of all of them hold.
const MARK: &str = "-ratelimit-";

/// The largest number of seconds that is a span: beyond, it is a moment in Unix time.
const SPAN_SECONDS: f64 = 1e9;

/// What the headers of an answer say. `now` is what our clock shows, for answers without a date.
pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Option<Statement> {
    // Most answers have none of these: one look at each name is all they cost.
    if !headers.keys().any(|name| name.as_str().contains(MARK)) {
        return None;
    }
    let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let openai = |told: &Told| {
        let remaining = text(&told.remaining)?.parse().ok()?;
        Some(Left { remaining, reset: span(text(&told.reset)?)? })
    };
    let then = || {
        let date =
            headers.get(DATE).and_then(|date| micros(DateTime::parse_from_rfc2822(date.to_str().ok()?)));
        date.unwrap_or_else(|| now.micros())
    };
    let anthropic = |told: &Told| {
        let remaining = text(&told.remaining)?.parse().ok()?;
        let at = micros(DateTime::parse_from_rfc3339(text(&told.reset)?))?;
        let reset = Duration::from_micros(u64::try_from(at.saturating_sub(then())).unwrap_or_default());
        Some(Left { remaining, reset })
    };
    Some(Statement {
        requests: fewest([openai(&OPENAI_REQUESTS), anthropic(&ANTHROPIC_REQUESTS)].into_iter().flatten()),
        // Whichever of them is spent first refuses the call.
        tokens: fewest(
            openai(&OPENAI_TOKENS).into_iter().chain(ANTHROPIC_TOKENS.iter().filter_map(anthropic)),
        ),
    })
}

fn fewest(left: impl Iterator<Item = Left>) -> Option<Left> {
    left.min_by_key(|left| left.remaining)
}

fn micros<E>(at: Result<DateTime<chrono::FixedOffset>, E>) -> Option<i64> {
    Some(at.ok()?.timestamp_micros())
}

/// A span as Go writes it, such as `1h2m3.5s` or `12ms`, or in plain seconds.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<f64>() {
        let is_span = (0.0..SPAN_SECONDS).contains(&seconds);
        return is_span.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten();
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|at| *at > 0)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok().filter(|n| *n < SPAN_SECONDS)?;
        total = total.checked_add(Duration::try_from_secs_f64(part * seconds).ok()?)?;
        rest = tail;
    }
    (!text.trim().is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    /// 2023-11-14T22:13:20Z.
    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn left(remaining: u64, millis: u64) -> Option<Left> {
        Some(Left { remaining, reset: Duration::from_millis(millis) })
    }

    #[test]
    fn spans_are_read_as_providers_write_them() {
        for (text, millis) in [
            ("1s", 1_000),
            ("6m0s", 360_000),
            ("12ms", 12),
            ("1h2m3.5s", 3_723_500),
            ("2m59.56s", 179_560),
            ("7", 7_000),
            ("0.25", 250),
            ("0s", 0),
            ("500us", 0),
        ] {
            assert_eq!(span(text).map(|span| span.as_millis()), Some(millis), "{text}");
        }
        for none in ["", " ", "s", "1", "-1s", "1x", "1s2", "1.2.3s", "1 s", "1700000000", "NaN", "inf", "∞s"]
        {
            assert_eq!(span(none).is_some(), none == "1", "{none}");
        }
    }

    #[test]
    fn the_headers_of_openai_are_read() {
        let all = headers(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let statement = Statement { requests: left(59, 1_000), tokens: left(149_984, 360_000) };
        assert_eq!(read(&all, NOW), Some(statement));
        // What names no reset says nothing; others are read all the same.
        let some = headers(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("x-ratelimit-reset-tokens", "12ms"),
        ]);
        assert_eq!(read(&some, NOW), Some(Statement { requests: None, tokens: left(7, 12) }));
        assert_eq!(read(&headers(&[("content-type", "x")]), NOW), None);
    }

    #[test]
    fn the_headers_of_anthropic_are_read_and_count_from_the_date_of_the_answer() {
        let mut all = headers(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2023-11-14T22:13:27Z"),
            ("anthropic-ratelimit-tokens-remaining", "8000"),
            ("anthropic-ratelimit-tokens-reset", "2023-11-14T22:14:20Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "100"),
            ("anthropic-ratelimit-output-tokens-reset", "2023-11-14T22:13:20+00:00"),
        ]);
        let statement = Statement { requests: left(0, 7_000), tokens: left(100, 0) };
        assert_eq!(read(&all, NOW), Some(statement), "the tokens of which fewest are left");
        // Our clock may be hours off.
        let wrong = Timestamp::from_micros(NOW.micros() + 7_200_000_000);
        all.insert(DATE, "Tue, 14 Nov 2023 22:13:25 GMT".parse().unwrap());
        assert_eq!(read(&all, wrong).unwrap().requests, left(0, 2_000));
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_not_and_never_a_panic(
            names in prop::collection::vec(0_usize..8, 0..8),
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 8),
            texts in prop::collection::vec("[0-9.hmsµnu:TZ+-]{0,20}", 8),
            now in any::<i64>(),
        ) {
            const NAMES: [&str; 8] = [
                "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset", "anthropic-ratelimit-requests-reset", "date",
            ];
            let mut map = HeaderMap::new();
            for name in names {
                for value in [values[name].as_slice(), texts[name].as_bytes()] {
                    if let Ok(value) = HeaderValue::from_bytes(value) {
                        map.insert(NAMES[name], value);
                    }
                }
            }
            read(&map, Timestamp::from_micros(now));
        }

        #[test]
        fn a_span_that_go_writes_is_read_back(h in 0_u64..100, m in 0_u64..60, ms in 0_u64..60_000) {
            let expected = Duration::from_millis((h * 60 + m) * 60_000 + ms);
            let text = format!("{h}h{m}m{}s", ms as f64 / 1_000.0);
            let read = span(&text).unwrap();
            prop_assert!(read.abs_diff(expected) < Duration::from_micros(1), "{text}: {read:?}");
        }
    }
}
