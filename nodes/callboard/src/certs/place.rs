//! Puts files in place whole or not at all, with the mode they need from the beginning.

use super::{Error, file};
use std::io::Write as _;
use std::path::Path;

/// The mode of a key's file.
pub(super) const PRIVATE: u32 = 0o600;
/// The mode of a certificate's file.
pub(super) const PUBLIC: u32 = 0o644;

/// Writes a file. One that is there is replaced only if that is wanted.
pub(super) fn put(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), Error> {
    let failed = |e| file("write", path, e);
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut builder = tempfile::Builder::new();
    let builder = with_mode(&mut builder, mode);
    let mut aside = builder.tempfile_in(folder).map_err(failed)?;
    aside.write_all(text.as_bytes()).map_err(failed)?;
    aside.as_file().sync_all().map_err(failed)?;
    let placed = if replace { aside.persist(path) } else { aside.persist_noclobber(path) };
    match placed {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Exists(path.to_owned())),
        Err(e) => Err(failed(e.error)),
    }
}

#[cfg(unix)]
fn with_mode<'b, 'p, 's>(
    builder: &'b mut tempfile::Builder<'p, 's>,
    mode: u32,
) -> &'b mut tempfile::Builder<'p, 's> {
    use std::os::unix::fs::PermissionsExt as _;
    builder.permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn with_mode<'b, 'p, 's>(
    builder: &'b mut tempfile::Builder<'p, 's>,
    _: u32,
) -> &'b mut tempfile::Builder<'p, 's> {
    builder
}
