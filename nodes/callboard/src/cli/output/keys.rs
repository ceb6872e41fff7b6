//! A key that was made, and what goes into the configuration.

use serde::Serialize;

/// A key that was made.
#[derive(Debug, Serialize)]
pub struct Made<'a> {
    /// Whose it is.
    pub name: &'a str,
    /// The key.
    pub key: String,
    /// The hash of it.
    pub hash: String,
    /// Whether it may make an admin's calls.
    pub admin: bool,
}

/// The key, and the lines of the configuration that let it in.
#[must_use]
pub fn render(made: &Made<'_>) -> String {
    let Made { name, key, hash, admin } = made;
    let role = if *admin { "role = \"admin\"\n" } else { "" };
    format!(
        "key: {key} (shown once: keep it where its owner finds it)\n\n# for the configuration of every node\n\
         [[openai.keys]]\nname = {name:?}\nhash = {hash:?}\n{role}"
    )
}
