//! Who may make an admin's calls.

use super::openai::{bearer, find};
use crate::config::{Key, KeyRole};
use callboard_domain::{Code, Error};
use tonic::metadata::MetadataMap;

/// Who may make an admin's calls: whoever has one of the configured keys with the role of an admin. Where no key is
/// configured they are as open as every other call of gRPC: who reaches the listener may make them.
#[derive(Debug)]
pub(super) struct Admins(Vec<Key>);

impl Admins {
    pub(super) const fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// The name of the key of a call; empty if none is needed.
    ///
    /// # Errors
    /// There is none, it is not known, or it is no admin's. What was given is not repeated.
    pub(super) fn check(&self, metadata: &MetadataMap) -> Result<String, Error> {
        if self.0.is_empty() {
            return Ok(String::new());
        }
        let needed = |text: &str| Error::new(Code::KeyNeeded, text);
        let given = bearer(metadata.as_ref()).ok_or_else(|| {
            needed(
                "an admin's key is needed: send it as metadata `authorization: Bearer KEY` (CALLBOARD_KEY)",
            )
        })?;
        match find(&self.0, given) {
            Some(Key { name, role: KeyRole::Admin, .. }) => Ok(name.clone()),
            Some(Key { name, role: KeyRole::Caller, .. }) => Err(Error::new(
                Code::RoleNeeded,
                format!("the key `{name}` is no admin's: it needs role = \"admin\" in openai.keys"),
            )),
            None => Err(needed("this key is not known here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyHash;

    fn key(name: &str, role: KeyRole) -> Key {
        Key { name: name.into(), hash: KeyHash::of(name), namespace: String::new(), role }
    }

    fn check(admins: &Admins, given: Option<&str>) -> Result<String, Code> {
        let mut metadata = MetadataMap::new();
        if let Some(given) = given {
            metadata.insert("authorization", given.parse().unwrap());
        }
        admins.check(&metadata).map_err(|error| {
            assert!(!error.message.contains("secret"), "{error}");
            error.code
        })
    }

    #[test]
    fn where_keys_are_configured_only_an_admins_lets_in() {
        let admins = Admins::new(vec![key("team", KeyRole::Caller), key("ops", KeyRole::Admin)]);
        assert_eq!(check(&admins, Some("Bearer ops")), Ok("ops".into()));
        assert_eq!(check(&admins, Some("Bearer team")), Err(Code::RoleNeeded));
        for wrong in [None, Some("Bearer secret"), Some("ops"), Some("Basic ops"), Some("Bearer ")] {
            assert_eq!(check(&admins, wrong), Err(Code::KeyNeeded), "{wrong:?}");
        }
        let nobody = Admins::new(vec![key("team", KeyRole::Caller)]);
        assert_eq!(check(&nobody, Some("Bearer team")), Err(Code::RoleNeeded));
    }

    #[test]
    fn without_keys_admin_calls_are_as_open_as_others() {
        let open = Admins::new(Vec::new());
        assert_eq!((check(&open, None), check(&open, Some("Bearer any"))), (Ok("".into()), Ok("".into())));
    }
}
