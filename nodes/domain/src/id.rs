//! Typed ids. An id is parsed once, at the border.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// What was wrong with the text of an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct Invalid {
    text: String,
    expected: &'static str,
}

impl Invalid {
    fn new(text: &str, expected: &'static str) -> Self {
        // A caller may send anything as an id: only so much of it comes back.
        Self { text: text.chars().take(64).collect(), expected }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// From the 16 bytes of a UUID.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes of the UUID.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Uuid::try_parse(text).map(Self).map_err(|_| Invalid::new(text, $what))
            }
        }
    };
}

uuid_id!(
    /// A task. A UUIDv7: it begins with the time of admission, so ids sort by it.
    TaskId,
    "a task id (a UUID such as 01939e2c-7e10-7cc3-98c4-dc0c0c07398f)"
);
uuid_id!(
    /// One incarnation of a node in the cluster: the lease under which it holds tasks.
    SessionId,
    "a session id (a UUID)"
);

impl TaskId {
    /// The part people can tell ids apart by: the last eight digits.
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text[text.len() - 8..].to_owned()
    }
}

/// A task as a caller names it: its id, or the last digits of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskRef {
    /// The whole id.
    Id(TaskId),
    /// 4 to 31 lower-case hexadecimal digits, without hyphens.
    Suffix(String),
}

impl FromStr for TaskRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if (4..32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Suffix(digits.to_ascii_lowercase()));
        }
        Err(Invalid::new(text, "a task id, nor the last 4 or more digits of one"))
    }
}

/// The SHA-256 of an artifact's bytes: its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactDigest([u8; 32]);

impl ArtifactDigest {
    /// Wraps a SHA-256.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The 32 bytes of the SHA-256.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits alone.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Display for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ArtifactDigest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new(text, "an artifact digest (`sha256:` and 64 hexadecimal digits)");
        let hex = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_told_from_an_id_and_from_nonsense() {
        let id = "01939e2c-7e10-7cc3-98c4-dc0c0c07398f";
        assert_eq!(id.parse(), Ok(TaskRef::Id(id.parse().unwrap())));
        assert_eq!("0C07398F".parse(), Ok(TaskRef::Suffix("0c07398f".into())));
        assert_eq!("dc0c-0c07398f".parse(), Ok(TaskRef::Suffix("dc0c0c07398f".into())));
        for wrong in ["", "abc", "xyzzy", "0c07398g", "01939e2c-7e10-7cc3-98c4-dc0c0c07398f00"] {
            assert!(wrong.parse::<TaskRef>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_digest_round_trips_and_rejects_multibyte_text() {
        let digest = ArtifactDigest::new([0xab; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:ab".parse::<ArtifactDigest>().is_err());
        let multibyte = format!("sha256:{}", "é".repeat(32));
        assert!(multibyte.parse::<ArtifactDigest>().is_err());
    }
}
