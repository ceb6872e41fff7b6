//! Where the keys of a provider are, and how the calls are shared out among them.

use super::ProviderConfig;
use callboard_domain::limits;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The most keys of one provider.
const KEYS: usize = 32;
/// The largest weight of a key.
pub(crate) const WEIGHT: u32 = 1_000;
/// What the names of keys without one begin with.
const ID: &str = "key-";

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
const fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// One key of a provider: where it is, and how much goes over it. It is never the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Its name, shown wherever it was used: at most 64 of `a-z 0-9 . _ -`, unique at its provider. `key-1` for the
    /// first if `None`, and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The file that holds it. It is read again when it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Its share of the calls, relative to the weights of the others, 1 to 1000.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// The most calls over it at once, on each node; no limit if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
}

impl Default for KeyConfig {
    fn default() -> Self {
        Self { id: None, env: None, file: None, weight: 1, max_in_flight: None }
    }
}

/// Whether a text may be the name of a provider or a key.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= limits::NAME_CHARS && name.chars().all(allowed)
}

impl ProviderConfig {
    /// The keys, the short form of a single one among them, each with its name and the field it comes from.
    pub(crate) fn all_keys(&self) -> Vec<(String, String, KeyConfig)> {
        let short = self.api_key_env.is_some() || self.api_key_file.is_some();
        let short = short.then(|| {
            let key = KeyConfig {
                env: self.api_key_env.clone(),
                file: self.api_key_file.clone(),
                ..KeyConfig::default()
            };
            let field = if key.env.is_some() { "api_key_env" } else { "api_key_file" };
            (format!("{ID}1"), field.to_owned(), key)
        });
        let keys = self.keys.iter().enumerate().map(|(i, key)| {
            let id = key.id.clone().unwrap_or_else(|| format!("{ID}{}", i + 1));
            let field = if key.env.is_some() { "env" } else { "file" };
            (id, format!("keys[{i}].{field}"), key.clone())
        });
        short.into_iter().chain(keys).collect()
    }

    /// The fields of the list of keys that are wrong, and why.
    pub(super) fn key_problems(&self) -> Vec<(String, &'static str)> {
        let mut problems = Vec::new();
        if self.keys.is_empty() {
            return problems;
        }
        if self.api_key_env.is_some() || self.api_key_file.is_some() {
            problems.push(("keys".into(), "must not be set beside api_key_env or api_key_file"));
        }
        if self.keys.len() > KEYS {
            problems.push(("keys".into(), "must be at most 32"));
        }
        let ids: Vec<_> = self.all_keys().into_iter().map(|(id, ..)| id).collect();
        let ids = &ids[ids.len() - self.keys.len()..];
        for (i, (key, id)) in self.keys.iter().zip(ids).enumerate() {
            let mut bad = |field: &str, problem| problems.push((format!("keys[{i}].{field}"), problem));
            if !is_name(id) {
                bad("id", "must be 1 to 64 of a-z, 0-9, '.', '_' and '-'");
            } else if ids[..i].contains(id) {
                bad("id", "must be unique at its provider");
            }
            match (&key.env, &key.file) {
                (None, None) => bad("env", "must be set, or file: where the key is"),
                (Some(_), Some(_)) => bad("file", "must not be set beside env"),
                _ => {}
            }
            if !(1..=WEIGHT).contains(&key.weight) {
                bad("weight", "must be 1 to 1000; leave a key out to switch it off");
            }
            if key.max_in_flight == Some(0) {
                bad("max_in_flight", "must be over zero; leave a key out to switch it off");
            }
        }
        problems
    }
}
