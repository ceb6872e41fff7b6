//! How values stand in the configuration that are no plain texts and numbers there: spans of time with their unit, addresses
//! that may be left out.

use crate::cli::values;
use serde::{Deserialize, Deserializer, Serializer, de};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) mod span {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, values};

    pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", span.as_millis()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        values::span(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

pub(super) mod optional_span {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, span, values};

    pub(crate) fn serialize<S: Serializer>(of: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match of {
            Some(of) => span::serialize(of, serializer),
            None => serializer.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(None),
            text => values::span(text).map(Some).map_err(de::Error::custom),
        }
    }
}

pub(super) mod optional_address {
    use super::{Deserialize, Deserializer, Serializer, SocketAddr, de};

    pub(crate) fn serialize<S: Serializer>(
        at: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.map(|a| a.to_string()).unwrap_or_default())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| de::Error::custom(format!("`{text}` is no address and port"))),
        }
    }
}
