//! The endpoint that speaks OpenAI's API: who may call it, and the names it gives to models.

use callboard_domain::limits;
use callboard_provider_broker::config::ProviderConfig;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The most keys: each is compared with in every request.
const KEYS: usize = 1_000;
/// The most characters of an alias.
const ALIAS_CHARS: usize = 128;
/// What a hash begins with: how it was made.
const SCHEME: &str = "sha256:";

/// The endpoint `/v1` on the public listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAi {
    /// Whether it is served.
    pub enabled: bool,
    /// Who may call it.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// Names for models of providers.
    pub models: BTreeMap<String, Alias>,
}

/// A key that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose it is: what is shown instead of it.
    pub name: String,
    /// The hash of it.
    pub hash: KeyHash,
    /// Whose its calls are: what limits and budgets of a namespace count, and what traces show. Empty: those of the
    /// namespace `default`.
    #[serde(default)]
    pub namespace: String,
    /// What it may do.
    #[serde(default)]
    pub role: KeyRole,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Call models.
    #[default]
    Caller,
    /// Make the calls of an admin too.
    Admin,
}

/// What a name for a model stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alias {
    /// The provider to use, and no other. Empty: they are tried in their order.
    pub provider: String,
    /// The model. Empty: each provider's own.
    pub model: String,
}

/// The SHA-256 of a key. A key is long and random, so nothing slower is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(SCHEME).filter(|hex| hex.len() == 64 && hex.is_ascii())?;
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(SCHEME)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // It may be the key itself that was put here: it is not repeated.
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom("must be `sha256:` and 64 hexadecimal digits; `callboard keys new` makes one")
        })
    }
}

/// Every field that is wrong, by its key. `providers` are those of this node, if it hosts any.
pub(super) fn check(
    openai: &OpenAi,
    providers: Option<&[ProviderConfig]>,
    bad: &mut impl FnMut(&str, String),
) {
    if openai.keys.len() > KEYS {
        bad("openai.keys", format!("must be at most {KEYS}"));
    }
    for (i, key) in openai.keys.iter().enumerate() {
        if key.name.is_empty() || key.name.len() > limits::NAME_CHARS {
            bad(&format!("openai.keys[{i}].name"), format!("must be 1 to {} characters", limits::NAME_CHARS));
        }
        if key.namespace.len() > limits::NAME_CHARS {
            let what = format!("must be at most {} characters", limits::NAME_CHARS);
            bad(&format!("openai.keys[{i}].namespace"), what);
        }
        if openai.keys[..i].iter().any(|other| other.name == key.name) {
            bad(&format!("openai.keys[{i}].name"), format!("`{}` must be unique", key.name));
        }
    }
    for (name, alias) in &openai.models {
        let field = format!("openai.models.{name}");
        if name.is_empty() || name.len() > ALIAS_CHARS {
            bad(&field, format!("must be 1 to {ALIAS_CHARS} characters"));
        }
        if alias.provider.is_empty() && alias.model.is_empty() {
            bad(&field, "must name a provider, a model or both".into());
        }
        let missing = |providers: &[ProviderConfig]| providers.iter().all(|p| p.name != alias.provider);
        if !alias.provider.is_empty() && providers.is_some_and(missing) {
            bad(&field, format!("there is no provider `{}`", alias.provider));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_sha256sum_and_reads_what_it_writes() {
        let hash = KeyHash::of("abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(KeyHash::parse(text), Some(hash));
        assert_eq!(KeyHash::parse(&text.to_uppercase().replace("SHA", "sha")), Some(hash));
        for wrong in
            ["", "abc", "sha256:", &text[..70], &text.replace('b', "g"), &text.replace("sha256", "md5")]
        {
            assert_eq!(KeyHash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_a_key_is_not_repeated() {
        let wrong = |text: &str| {
            let openai: OpenAi = toml::from_str(text).unwrap();
            let mut said = Vec::new();
            let providers = [ProviderConfig::offline()];
            check(&openai, Some(&providers), &mut |key, what| said.push(format!("{key}: {what}")));
            said
        };
        let base = "enabled = true\nkeys = []\n";
        assert_eq!(wrong(&format!("{base}[models]\nfast = {{ provider = \"offline\" }}")), [""; 0]);
        assert_eq!(
            wrong(&format!("{base}[models]\na = {{}}\nb = {{ provider = \"gone\", model = \"m\" }}")),
            [
                "openai.models.a: must name a provider, a model or both",
                "openai.models.b: there is no provider `gone`"
            ]
        );
        let key = format!("{{ name = \"a\", hash = \"{}\" }}", KeyHash::of("k"));
        let twice = format!("enabled = true\nmodels = {{}}\nkeys = [{key}, {key}]");
        assert_eq!(wrong(&twice), ["openai.keys[1].name: `a` must be unique"]);
        let plain = "enabled = true\nmodels = {}\nkeys = [{ name = \"a\", hash = \"cb-geheim\" }]";
        let said = toml::from_str::<OpenAi>(plain).unwrap_err().message().to_owned();
        assert!(said.contains("callboard keys new") && !said.contains("geheim"), "{said}");
    }
}
