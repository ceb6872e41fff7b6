//! Reads whole numbers as a JSON schema's `integer` means them: `512.0` is one, too.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The highest float below which every whole number is exact: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number, for `#[serde(deserialize_with)]`.
pub(crate) fn number<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    deserializer.deserialize_u64(Whole(PhantomData))
}

/// As [`number`], for a field that may be absent: give it `#[serde(default)]`.
pub(crate) fn optional<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    number(deserializer).map(Some)
}

struct Whole<N>(PhantomData<N>);

impl<N: TryFrom<u64>> Visitor<'_> for Whole<N> {
    type Value = N;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<N, E> {
        N::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<N, E> {
        if value.fract() == 0.0 && (0.0..=EXACT).contains(&value) {
            return self.visit_u64(value as u64);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Sizes {
        #[serde(deserialize_with = "super::number")]
        a: u32,
        #[serde(deserialize_with = "super::optional")]
        b: Option<u8>,
    }

    #[test]
    fn whole_floats_count_and_everything_else_is_refused() {
        let read = |json| serde_json::from_str::<Sizes>(json).ok();
        assert_eq!(read(r#"{"a": 512.0, "b": 7}"#), Some(Sizes { a: 512, b: Some(7) }));
        assert_eq!(read(r#"{"a": -0}"#), Some(Sizes::default()));
        for wrong in [r#"{"a": 1.5}"#, r#"{"a": -1}"#, r#"{"a": 1e10}"#, r#"{"b": 256}"#, r#"{"b": "1"}"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
