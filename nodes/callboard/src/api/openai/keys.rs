//! Who may call.

use super::error::Error;
use crate::config::{Key, KeyHash};
use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

/// Whose key a request had.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) std::sync::Arc<str>);

/// Who may call.
#[derive(Debug)]
pub(super) enum Access {
    /// Whoever has one of these keys.
    Keys(Vec<Key>),
    /// Whoever is on this machine, but for pages in a browser: no key is configured.
    Machine,
    /// Nobody: no key is configured, and others can reach the listener.
    Nobody,
}

impl Access {
    /// With these keys, on a listener that only this machine reaches, or others do.
    pub(super) fn new(keys: &[Key], loopback: bool) -> Self {
        match (keys, loopback) {
            ([], true) => Self::Machine,
            ([], false) => Self::Nobody,
            (keys, _) => Self::Keys(keys.to_vec()),
        }
    }

    /// Whether nobody may call.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// The key of a request; none if none is needed.
    ///
    /// # Errors
    /// Why the request is refused, without what it gave as its key.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Option<&Key>, Error> {
        match self {
            Self::Keys(keys) => {
                let given = bearer(headers).ok_or_else(|| {
                    Error::unauthorized("a key is needed: send it as `Authorization: Bearer KEY`")
                })?;
                find(keys, given).map(Some).ok_or_else(|| Error::unauthorized("this key is not known here"))
            }
            // A page of any site can make a browser send requests to this machine.
            Self::Machine if headers.contains_key(header::ORIGIN) => Err(Error::forbidden(
                "origin_not_allowed",
                "pages in a browser may call only with a key: configure one (openai.keys)",
            )),
            Self::Machine => Ok(None),
            Self::Nobody => Err(Error::unauthorized(
                "nobody may call: others can reach this listener, and no key is configured (openai.keys)",
            )),
        }
    }
}

/// The key that a call gives.
pub(in crate::api) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim()).filter(|key| !key.is_empty())
}

/// The key that was given. How long this takes says nothing of the keys there are: all are compared with, each to its
/// end, and by their hashes.
pub(in crate::api) fn find<'a>(keys: &'a [Key], given: &str) -> Option<&'a Key> {
    let given = KeyHash::of(given);
    let mut found = None;
    for key in keys {
        if bool::from(key.hash.as_bytes().ct_eq(given.as_bytes())) {
            found = Some(key);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyRole;
    use axum::response::IntoResponse as _;

    fn key(name: &str, key: &str) -> Key {
        Key { name: name.into(), hash: KeyHash::of(key), namespace: String::new(), role: KeyRole::Caller }
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    /// Whose key it was, or the status of the refusal.
    fn check(access: &Access, headers: &HeaderMap) -> Result<Option<String>, u16> {
        let checked = access.check(headers);
        checked.map(|key| key.map(|key| key.name.clone())).map_err(|e| e.into_response().status().as_u16())
    }

    #[test]
    fn a_key_is_known_by_its_hash() {
        let access = Access::new(&[key("a", "one"), key("b", "two")], true);
        let given = |text: &str| check(&access, &headers(header::AUTHORIZATION, text));
        assert_eq!(given("Bearer one"), Ok(Some("a".into())));
        assert_eq!(given("bearer  two "), Ok(Some("b".into())));
        for wrong in ["Bearer three", "Bearer one two", "Bearer", "Bearer ", "Basic one", "one"] {
            assert_eq!(given(wrong), Err(401), "{wrong}");
        }
        assert_eq!(check(&access, &HeaderMap::new()), Err(401));
        assert_eq!(given(&format!("Bearer {}", KeyHash::of("one"))), Err(401), "a hash is no key");
    }

    #[test]
    fn without_keys_this_machine_may_call_and_pages_in_a_browser_and_others_may_not() {
        let (here, there) = (Access::new(&[], true), Access::new(&[], false));
        assert_eq!(check(&here, &HeaderMap::new()), Ok(None));
        assert_eq!(check(&here, &headers(header::AUTHORIZATION, "Bearer whatever")), Ok(None));
        assert_eq!(check(&here, &headers(header::ORIGIN, "https://example.com")), Err(403));
        assert_eq!(check(&there, &headers(header::AUTHORIZATION, "Bearer whatever")), Err(401));
        assert!(there.is_closed() && !here.is_closed());
    }
}
