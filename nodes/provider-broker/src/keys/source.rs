//! Where a key comes from.

use crate::config::KeyConfig;
use crate::secret::Secret;
use std::path::{Path, PathBuf};

/// The most bytes of a key.
const KEY_BYTES: u64 = 4 << 10;

/// Where a key is.
#[derive(Debug)]
pub(super) enum Source {
    /// Nowhere: the provider asks for none, or the key is one that cannot change.
    Fixed,
    /// In a file, which may be replaced.
    File(PathBuf),
}

impl Source {
    /// Where the key of a configuration is, and the key.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn open(
        config: &KeyConfig,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Secret), String> {
        let unreadable = |path: &Path, e: &std::io::Error| format!("cannot be read: {}: {e}", path.display());
        let (source, text) = match (&config.env, &config.file) {
            (Some(name), _) => {
                (Self::Fixed, env(name).ok_or_else(|| format!("names {name}, which is not set"))?)
            }
            (None, Some(path)) => {
                let text = read_now(path).map_err(|e| unreadable(path, &e))?;
                (Self::File(path.clone()), text)
            }
            (None, None) => return Err("must be set".into()),
        };
        let secret =
            parse(&text).ok_or("must lead to a key of visible ASCII characters without spaces".to_owned())?;
        Ok((source, secret))
    }

    /// The key as it is there now; `None` if it cannot have changed.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn read(&self) -> Option<Result<Secret, String>> {
        use tokio::io::AsyncReadExt;
        let Self::File(path) = self else { return None };
        let read = async {
            let mut text = String::new();
            tokio::fs::File::open(path).await?.take(KEY_BYTES).read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        Some(match read.await {
            Ok(text) => parse(&text).ok_or_else(|| "it holds no key".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }
}

/// The key in a text.
fn parse(text: &str) -> Option<Secret> {
    let key = text.trim();
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic())).then(|| Secret::new(key))
}

fn read_now(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(KEY_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
