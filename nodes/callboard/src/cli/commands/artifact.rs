//! `artifact get`, and files that appear whole or not at all.

use crate::cli::args::ArtifactGetArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use anyhow::Context as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

pub(super) async fn get(context: &mut Context, args: ArtifactGetArgs) -> Result<(), Failure> {
    let mut artifact = context.client.artifact(&args.digest).await?;
    let (size, media_type) = (artifact.size_bytes, artifact.media_type.clone());
    if let Some(path) = context.out.file() {
        let mut file = Partial::create(&path)?;
        while let Some(bytes) = artifact.next().await? {
            file.write(&bytes)?;
        }
        file.finish()?;
        output::wrote(&path, size, &output::style::clean(&media_type));
        return Ok(());
    }
    // Even text could steer the terminal; only what is made to be read by people goes there.
    if context.out.is_terminal() && !is_text(&media_type) {
        return Err(Failure::Usage(format!(
            "the artifact is binary ({}, {}) and standard output is a terminal: name a file with --output FILE",
            output::style::clean(&media_type),
            output::time::bytes(size)
        )));
    }
    while let Some(bytes) = artifact.next().await? {
        match context.out.is_terminal() {
            true => context.out.text(&output::style::clean_lines(&String::from_utf8_lossy(&bytes)))?,
            false => context.out.bytes(&bytes)?,
        }
    }
    Ok(())
}

fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/") || media_type.starts_with("application/json")
}

/// A file that is written beside its name and takes it when it is whole. What is there and is no file, a pipe or a device, is
/// written to as it is.
pub(super) struct Partial {
    to: To,
    path: PathBuf,
}

enum To {
    Beside(NamedTempFile),
    There(File),
}

impl Partial {
    /// # Errors
    /// It cannot be written: nothing is fetched for it then.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let cannot = || format!("cannot write {}", path.display());
        // A link is followed, also one that leads to nothing yet.
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(_) if path.is_symlink() => {
                let link = path.read_link().with_context(cannot)?;
                path.parent().unwrap_or(Path::new("")).join(link)
            }
            Err(_) => path.to_path_buf(),
        };
        let to = match path.metadata() {
            Ok(there) if there.is_dir() => {
                return Err(Failure::Usage(format!("{}: it is a folder; name a file", cannot())));
            }
            Ok(there) if !there.is_file() => {
                To::There(OpenOptions::new().write(true).open(&path).with_context(cannot)?)
            }
            _ if path.file_name().is_none() => {
                return Err(Failure::Usage(format!("{}: name a file", cannot())));
            }
            _ => {
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                // As any new file; the umask takes away from it.
                let mode = Permissions::from_mode(0o666);
                let file = tempfile::Builder::new().permissions(mode).tempfile_in(folder);
                To::Beside(file.map_err(|error| error.kind()).map_err(io::Error::from).with_context(cannot)?)
            }
        };
        Ok(Self { to, path })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.to {
            To::Beside(file) => file.write_all(bytes),
            To::There(file) => file.write_all(bytes),
        };
        Ok(written.with_context(|| format!("cannot write {}", self.path.display()))?)
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        let Self { to, path } = self;
        if let To::Beside(file) = to {
            file.persist(&path)
                .map_err(|e| e.error)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let mut partial = Partial::create(&path).unwrap();
        partial.write(b"ab").unwrap();
        assert!(!path.exists());
        partial.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"ab");
        drop(Partial::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "what was given up is gone");
    }

    #[test]
    fn what_is_there_and_no_file_is_written_to_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        std::os::unix::fs::symlink("there", &link).unwrap();
        for bytes in [b"one", b"two"] {
            // The first time the link leads to nothing yet.
            let mut partial = Partial::create(&link).unwrap();
            partial.write(bytes).unwrap();
            partial.finish().unwrap();
            assert_eq!(std::fs::read(&there).unwrap(), bytes);
            assert!(link.is_symlink());
        }
        let mut device = Partial::create(Path::new("/dev/null")).unwrap();
        device.write(b"gone").unwrap();
        device.finish().unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(matches!(Partial::create(folder.path()), Err(Failure::Usage(_))));
        assert!(matches!(Partial::create(Path::new("")), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Partial::create(Path::new("no/such/folder/a.png")).err().unwrap();
        assert!(error.to_string().starts_with("cannot write no/such/folder/a.png"), "{error}");
    }
}
