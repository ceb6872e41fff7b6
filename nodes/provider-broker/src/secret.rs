//! A key, and how it is kept out of what people read.

use callboard_domain::limits;
use callboard_domain::llm::Error;
use std::sync::Arc;

const MASK: &str = "***";

/// A provider's key. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    pub(crate) fn new(key: &str) -> Self {
        Self(key.into())
    }

    /// The key, for the one header it belongs in.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// The error without the key in its message, which is cut to its limit.
pub(crate) fn clean(key: Option<&Secret>, mut error: Error) -> Error {
    // The key goes first: cutting could leave half of it.
    if let Some(key) = key.filter(|key| !key.0.is_empty()) {
        error.message = error.message.replace(&*key.0, MASK);
    }
    error.message = limits::cut_message(mask_tokens(&error.message));
    error
}

/// Masks what looks like a key of the usual forms: providers repeat keys of others, or parts of ours.
fn mask_tokens(text: &str) -> String {
    const BEGINNINGS: [&str; 2] = ["sk-", "AIza"];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = BEGINNINGS.iter().filter_map(|beginning| rest.find(beginning)).min() {
        let (before, found) = rest.split_at(at);
        let end = found
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*')))
            .unwrap_or(found.len());
        out.push_str(before);
        if before.ends_with(|c: char| c.is_alphanumeric()) {
            out.push_str(&found[..end]);
        } else {
            out.push_str(MASK);
        }
        rest = &found[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::ErrorKind;

    #[test]
    fn keys_are_masked_and_words_are_not() {
        let clean = |text: &str| {
            clean(Some(&Secret::new("geheim")), Error::new(ErrorKind::Authentication, text)).message
        };
        assert_eq!(clean("wrong key geheim, or geheim2"), "wrong key ***, or ***2");
        assert_eq!(clean("wrong key: sk-proj-ab**cd."), "wrong key: ***.");
        assert_eq!(clean("of sk-ant-api03-x_y or AIzaSyD-4_z, not of bAIza"), "of *** or ***, not of bAIza");
        assert_eq!(clean("a risk-free ask-me desk"), "a risk-free ask-me desk");
        assert_eq!(format!("{:?}", Secret::new("geheim")), "***");
    }

    #[test]
    fn no_part_of_a_key_survives_the_cut() {
        let text = format!("{}geheim", "x".repeat(limits::MESSAGE_BYTES - 6));
        let message = clean(Some(&Secret::new("geheim")), Error::new(ErrorKind::Timeout, text)).message;
        assert!(message.ends_with("***") && !message.contains("geh"));
    }
}
