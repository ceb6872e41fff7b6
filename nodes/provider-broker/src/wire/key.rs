//! Where a key comes from.

use crate::config::ProviderConfig;
use crate::secret::Secret;
use std::path::Path;

/// The most bytes of a key.
const KEY_BYTES: u64 = 4 << 10;

/// The key that a configuration names, if it names one.
///
/// # Errors
/// The field that is wrong, and why.
pub(crate) fn read_key(
    config: &ProviderConfig,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, (&'static str, String)> {
    let (field, key) = if let Some(name) = &config.api_key_env {
        ("api_key_env", env(name).ok_or_else(|| ("api_key_env", format!("names {name}, which is not set")))?)
    } else if let Some(path) = &config.api_key_file {
        let unreadable =
            |e: std::io::Error| ("api_key_file", format!("cannot be read: {}: {e}", path.display()));
        ("api_key_file", read_key_file(path).map_err(unreadable)?)
    } else {
        return Ok(None);
    };
    let key = key.trim();
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err((field, "must lead to a key of visible ASCII characters without spaces".into()));
    }
    Ok(Some(Secret::new(key)))
}

fn read_key_file(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut key = String::new();
    std::fs::File::open(path)?.take(KEY_BYTES).read_to_string(&mut key)?;
    Ok(key)
}
