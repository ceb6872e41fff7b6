//! The folder that holds a node's data. Its lock is the proof that no other node uses it.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const LOCK: &str = "callboard.lock";

/// A data folder that this process holds. Given up when dropped, or when the process dies.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made or written.
    #[error("cannot write to the data folder {path}: {source}; give another with --data-dir", path = path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another node holds it.
    #[error(
        "the data folder {path} is in use by {holder}: stop that node, or give another folder with --data-dir",
        path = path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who, as it wrote down.
        holder: String,
    },
}

impl DataDir {
    /// Makes the folder if need be, and takes its lock. `holder` is what others are told.
    ///
    /// # Errors
    /// It cannot be written, or another node holds it.
    pub fn open(path: &Path, holder: &str) -> Result<Self, Error> {
        let not_writable = |source| Error::NotWritable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(not_writable)?;
        // The same words wherever a later command is run from.
        let path = fs::canonicalize(path).map_err(not_writable)?;
        let not_writable = |source| Error::NotWritable { path: path.clone(), source };
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join(LOCK))
            .map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What it wrote is for people; without it the error is still right.
                let _ = lock.read_to_string(&mut holder);
                let holder =
                    if holder.trim().is_empty() { "another node".into() } else { holder.trim().into() };
                return Err(Error::InUse { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(Error::NotWritable { path, source }),
        }
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            lock.seek(SeekFrom::Start(0))?;
            writeln!(lock, "{holder}")
        };
        write(&mut lock).map_err(not_writable)?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder, in full.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("callboard.db")
    }

    /// The file of the ledger.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger.db")
    }

    /// The folder of artifacts.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_node_at_a_time_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path, "the node `a` (process 1)").unwrap();
        let error = DataDir::open(&path, "b").unwrap_err().to_string();
        assert!(error.contains("in use by the node `a` (process 1)"), "{error}");
        drop(first);
        assert!(DataDir::open(&path, "b").is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::open(&file.join("data"), "a").unwrap_err().to_string();
        assert!(error.contains("cannot write to the data folder"), "{error}");
    }
}
