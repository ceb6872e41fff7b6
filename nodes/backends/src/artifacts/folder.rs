//! Artifacts as files in a folder, each named by its SHA-256.
//!
//! ```text
//! <folder>/sha256/ab/cdef...        the bytes and nothing else: `sha256sum` of it is its name
//! <folder>/sha256/ab/cdef....type   its media type
//! <folder>/tmp/                     what is being written; emptied when the folder is opened
//! ```
//!
//! A file appears under its name only once it is whole and on the disk: written aside, flushed, renamed, and
//! the folder flushed. One process at a time owns the folder. Nothing is ever removed here.

use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::{ArtifactDigest, limits};
use callboard_ports::artifacts::{self, Artifact, Error};
use futures::stream;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most bytes of one part of a stream.
const PART: usize = 64 << 10;
/// The most bytes of a media type.
const MEDIA_TYPE: usize = 127;
/// What an artifact is whose media type is not known.
const UNKNOWN: &str = "application/octet-stream";

/// Artifacts as files in a folder.
#[derive(Clone, Debug)]
pub struct Artifacts {
    folder: Arc<Folder>,
}

impl Artifacts {
    /// Opens a folder, which is made if it is not there. What a dead process left half written is removed.
    /// It reads and writes the disk, and blocks for that long.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the path, if it cannot be made or written.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = Folder { path: folder.into(), written: AtomicU64::new(0) };
        let temporary = folder.path.join("tmp");
        for path in [&folder.path.join("sha256"), &temporary] {
            fs::create_dir_all(path).map_err(at(path))?;
        }
        for entry in fs::read_dir(&temporary).map_err(at(&temporary))? {
            let path = entry.map_err(at(&temporary))?.path();
            fs::remove_file(&path).map_err(at(&path))?;
        }
        sync_folder(&folder.path)?;
        Ok(Self { folder: Arc::new(folder) })
    }
}

#[async_trait]
impl artifacts::Artifacts for Artifacts {
    /// A media type that is none (empty, over 127 bytes or not plain ASCII) is kept as
    /// `application/octet-stream`.
    async fn put(&self, data: Bytes, media_type: &str) -> Result<ArtifactDigest, Error> {
        if data.len() > limits::ARTIFACT_BYTES {
            return Err(Error::TooLarge(data.len()));
        }
        let media_type = sound(media_type).to_owned();
        let folder = self.folder.clone();
        blocking(move || folder.put(&data, &media_type)).await
    }

    async fn get(&self, digest: ArtifactDigest) -> Result<Artifact, Error> {
        let folder = self.folder.clone();
        let (reader, media_type) = blocking(move || folder.open(digest)).await?;
        let size = reader.left;
        let parts = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match blocking(move || reader.next().map(|part| (part, reader))).await {
                Ok((Some(part), reader)) => Some((Ok(part), Some(reader))),
                Ok((None, _)) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Artifact { size, media_type, data: Box::pin(parts) })
    }
}

/// Runs what waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |error| Error::Unavailable(format!("{path}: {error}"))
}

fn sound(media_type: &str) -> &str {
    let plain = media_type.bytes().all(|b| (b' '..=b'~').contains(&b));
    if plain && (1..=MEDIA_TYPE).contains(&media_type.len()) { media_type } else { UNKNOWN }
}

/// What was renamed into a folder is there after a loss of power only once the folder is flushed.
fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// How many temporary files were begun: their names.
    written: AtomicU64,
}

impl Folder {
    /// The folder and the path of an artifact.
    fn place(&self, digest: ArtifactDigest) -> (PathBuf, PathBuf) {
        let hex = digest.hex();
        let folder = self.path.join("sha256").join(&hex[..2]);
        let path = folder.join(&hex[2..]);
        (folder, path)
    }

    fn put(&self, data: &[u8], media_type: &str) -> Result<ArtifactDigest, Error> {
        let digest = ArtifactDigest::new(Sha256::digest(data).into());
        let (folder, path) = self.place(digest);
        if holds(&path, data)? {
            // Whoever wrote it may not have come to flushing the folder yet.
            sync_folder(&folder)?;
            return Ok(digest);
        }
        if !folder.is_dir() {
            fs::create_dir_all(&folder).map_err(at(&folder))?;
            sync_folder(&self.path.join("sha256"))?;
        }
        // The type first: once the bytes have their name the artifact is there, and its type stays.
        let type_path = path.with_extension("type");
        if !path.exists() || !type_path.exists() {
            self.write(media_type.as_bytes(), &type_path)?;
        }
        self.write(data, &path)?;
        sync_folder(&folder)?;
        Ok(digest)
    }

    /// Writes a file aside and gives it its name once it is on the disk.
    fn write(&self, data: &[u8], path: &Path) -> Result<(), Error> {
        let name = self.written.fetch_add(1, Ordering::Relaxed).to_string();
        let temporary = self.path.join("tmp").join(name);
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(data).and_then(|()| file.sync_all()))
            .map_err(at(&temporary))
            .and_then(|()| fs::rename(&temporary, path).map_err(at(path)));
        if written.is_err() {
            // A full disk should not stay full because of us; if this fails too, the next start removes it.
            fs::remove_file(&temporary).ok();
        }
        written
    }

    fn open(&self, digest: ArtifactDigest) -> Result<(Reader, String), Error> {
        let (_, path) = self.place(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::NotFound),
            file => file.map_err(at(&path))?,
        };
        let left = file.metadata().map_err(at(&path))?.len();
        // Without its type the artifact is still whole.
        let media_type = fs::read_to_string(path.with_extension("type")).unwrap_or_default();
        Ok((Reader { file, path, left, digest, hash: Sha256::new() }, sound(&media_type).to_owned()))
    }
}

/// Whether a file holds exactly these bytes.
fn holds(path: &Path, data: &[u8]) -> Result<bool, Error> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file.map_err(at(path))?,
    };
    if file.metadata().map_err(at(path))?.len() != data.len() as u64 {
        return Ok(false);
    }
    let mut part = vec![0; PART];
    for wanted in data.chunks(PART) {
        let part = &mut part[..wanted.len()];
        if file.read_exact(part).is_err() || part != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads an artifact part by part and checks what it has read. The last part is given out only once the whole
/// has its digest, so nobody has all bytes of a damaged artifact without knowing it.
struct Reader {
    file: File,
    path: PathBuf,
    left: u64,
    digest: ArtifactDigest,
    hash: Sha256,
}

impl Reader {
    fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let size = PART.min(usize::try_from(self.left).unwrap_or(PART));
        let mut part = vec![0; size];
        match self.file.read_exact(&mut part) {
            // It has become shorter than it was when it was opened.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Error::Damaged),
            read => read.map_err(at(&self.path))?,
        }
        self.hash.update(&part);
        self.left -= size as u64;
        if self.left == 0 && ArtifactDigest::new(self.hash.clone().finalize().into()) != self.digest {
            return Err(Error::Damaged);
        }
        Ok((size > 0).then(|| part.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_ports::Artifacts as _;
    use futures::StreamExt;

    #[tokio::test]
    async fn what_a_dead_process_left_is_removed_and_errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("tmp")).unwrap();
        fs::write(folder.path().join("tmp/0"), "half").unwrap();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        assert!(!folder.path().join("tmp/0").exists());
        fs::remove_dir(folder.path().join("tmp")).unwrap();
        let error = artifacts.put(Bytes::from_static(b"x"), "text/plain").await.unwrap_err();
        assert!(error.to_string().contains(&*folder.path().join("tmp").to_string_lossy()), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Artifacts::open(&file).unwrap_err();
        assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_grew_or_shrank_is_damaged_and_one_without_type_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        let digest = artifacts.put(Bytes::from_static(b"abc"), "text/plain").await.unwrap();
        let (_, path) = artifacts.folder.place(digest);
        for wrong in ["", "ab", "abcd"] {
            fs::write(&path, wrong).unwrap();
            let answers: Vec<_> = artifacts.get(digest).await.unwrap().data.collect().await;
            assert_eq!(answers, [Err(Error::Damaged)], "{wrong}");
        }
        fs::remove_file(path.with_extension("type")).unwrap();
        fs::write(&path, "abc").unwrap();
        let artifact = artifacts.get(digest).await.unwrap();
        assert_eq!(artifact.media_type, UNKNOWN);
        assert_eq!(artifact.data.collect::<Vec<_>>().await, [Ok(Bytes::from_static(b"abc"))]);
    }

    #[tokio::test]
    async fn a_media_type_that_is_none_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        for (i, wrong) in ["", "text/plain\n", "té/xt", &"x".repeat(128)].into_iter().enumerate() {
            let digest = artifacts.put(Bytes::from(i.to_string()), wrong).await.unwrap();
            assert_eq!(artifacts.get(digest).await.unwrap().media_type, UNKNOWN, "{wrong}");
        }
    }
}
