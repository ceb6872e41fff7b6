//! `artifact get`, and files that appear whole or not at all.

use crate::cli::args::ArtifactGetArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use anyhow::Context as _;
use std::io::Write;
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

/// A file that is written beside its name and takes it when it is whole.
pub(super) struct Partial {
    file: NamedTempFile,
    path: PathBuf,
}

impl Partial {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let file =
            NamedTempFile::new_in(folder).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path: path.to_path_buf() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        Ok(written.with_context(|| format!("cannot write {}", self.path.display()))?)
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        let Self { file, path } = self;
        file.persist(&path)
            .map_err(|e| e.error)
            .with_context(|| format!("cannot write {}", path.display()))?;
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
    fn a_folder_that_is_not_there_is_named() {
        let error = Partial::create(Path::new("no/such/folder/a.png")).err().unwrap();
        assert!(error.to_string().starts_with("cannot write no/such/folder/a.png"), "{error}");
    }
}
