//! Debian's packages, downloaded by apt and unpacked into a folder: nothing is installed.

use crate::Error;
use crate::guard::run;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Written last: the folder is complete.
pub(crate) const STAMP: &str = "unpacked";

/// Unpacks packages with what they need that the machine lacks, once. `name` is the folder's.
pub(crate) fn unpack(target: &Path, name: &str, packages: &[&str]) -> Result<PathBuf, Error> {
    let folder = target.join(name);
    // Two processes must not unpack at once.
    let _lock = lock(target, name)?;
    if folder.join(STAMP).exists() {
        return Ok(folder);
    }
    let downloads = target.join(format!("{name}-packages"));
    fs::create_dir_all(downloads.join("partial")).map_err(Error::io(downloads.display().to_string()))?;
    // The machine's own lists first; a plain user, or a machine without lists, gets lists of its own.
    if let Err(first) = download(&downloads, packages, None) {
        let lists = target.join("apt-lists");
        fs::create_dir_all(lists.join("partial")).map_err(Error::io(lists.display().to_string()))?;
        run(apt(Some(&lists), &downloads).arg("update")).map_err(|_| first)?;
        download(&downloads, packages, Some(&lists))?;
    }
    let entries = fs::read_dir(&downloads).map_err(Error::io(downloads.display().to_string()))?;
    for entry in entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "deb")) {
        run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&folder))?;
    }
    relocate(&folder)?;
    File::create(folder.join(STAMP)).map_err(Error::io("cannot write the stamp"))?;
    // Their content is unpacked.
    let _ = fs::remove_dir_all(&downloads);
    Ok(folder)
}

/// Waits for a lock of this name in a folder. It goes with the process that holds it, if not earlier.
pub(crate) fn lock(target: &Path, name: &str) -> Result<File, Error> {
    fs::create_dir_all(target).map_err(Error::io(target.display().to_string()))?;
    let path = target.join(format!("{name}.lock"));
    let lock = File::create(&path).map_err(Error::io(path.display().to_string()))?;
    lock.lock().map_err(Error::io(path.display().to_string()))?;
    Ok(lock)
}

fn apt(lists: Option<&Path>, downloads: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root"]);
    command.arg("-o").arg(format!("Dir::Cache::archives={}", downloads.display()));
    if let Some(lists) = lists {
        command.arg("-o").arg(format!("Dir::State::lists={}", lists.display()));
        command.arg("-o").arg(format!("Dir::Cache::pkgcache={}/pkgcache.bin", lists.display()));
        command.arg("-o").arg(format!("Dir::Cache::srcpkgcache={}/srcpkgcache.bin", lists.display()));
    }
    command
}

fn download(downloads: &Path, packages: &[&str], lists: Option<&Path>) -> Result<(), Error> {
    let args = ["install", "--yes", "--download-only", "--no-install-recommends"];
    run(apt(lists, downloads).args(args).args(packages)).map(drop)
}

/// Erlang's start scripts hold the path they were packaged for.
fn relocate(folder: &Path) -> Result<(), Error> {
    for script in ["erl", "erlc", "start", "start_erl"] {
        let path = folder.join("usr/lib/erlang/bin").join(script);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let text = text.replace("ROOTDIR=/usr/lib/erlang", "ROOTDIR=${ERL_ROOTDIR:-/usr/lib/erlang}");
        fs::write(&path, text).map_err(Error::io(path.display().to_string()))?;
    }
    Ok(())
}
