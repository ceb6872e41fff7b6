//! PostgreSQL refuses to run as root: then it runs as nobody.

use crate::programs::Place;
use crate::{Error, debian, guard};
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The user and group `nobody`, by number: what they are called differs between systems.
const NOBODY: &str = "65534";

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    uid == Some("0")
}

/// The words that run a program as a plain user.
pub(crate) fn words(program: &Path) -> Vec<OsString> {
    let mut words = Vec::new();
    if is_root() {
        words.push("setpriv".into());
        words.extend(["--reuid=", "--regid="].map(|option| format!("{option}{NOBODY}").into()));
        words.push("--clear-groups".into());
    }
    words.push(program.into());
    words
}

/// A command that runs a program as a plain user.
pub(crate) fn command(program: &Path) -> Command {
    let words = words(program);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Gives a folder to the plain user.
pub(crate) fn give(folder: &Path) -> Result<(), Error> {
    if is_root() {
        guard::run(Command::new("chown").arg("-R").arg(format!("{NOBODY}:{NOBODY}")).arg(folder))?;
    }
    Ok(())
}

/// Whether the plain user can run a program: it may lie in a folder that only root may enter.
pub(crate) fn can_run(place: &Place, program: &str) -> bool {
    // The shell runs it: what changes the user may still have root's rights when it does.
    let mut command = command(Path::new("sh"));
    command.args(["-c", "\"$0\" --version"]).arg(place.program(program));
    command.envs(place.env.iter().map(|(name, value)| (name, value)));
    // The folder that this runs in may be closed to the plain user as well.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Copies a folder of unpacked programs to the system's folder for temporary files, which everybody may enter.
///
/// One copy serves every process and every run, for it is 70 megabytes and more. It is completed each time: what
/// tidies the folder for temporary files away takes single files.
pub(crate) fn copy_within_reach(target: &Path, root: &Path) -> Result<PathBuf, Error> {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let copy = std::env::temp_dir().join(format!("callboard-programs-{:016x}", hasher.finish()));
    let shown = copy.display().to_string();
    let _lock = debian::lock(target, "copy")?;
    if let Err(error) = fs::create_dir(&copy)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(Error::io(shown)(error));
    }
    // Anybody can make a folder of that name there. Programs of theirs are not run.
    let found = fs::symlink_metadata(&copy).map_err(Error::io(shown.as_str()))?;
    if !found.is_dir() || found.uid() != 0 {
        return Err(Error::io(shown)(std::io::Error::other("it is somebody else's: remove it")));
    }
    guard::run(Command::new("cp").args(["--archive", "--update"]).arg(root.join(".")).arg(&copy))?;
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&copy, open).map_err(Error::io(shown))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::{POSTGRES, Search, Source, Way};
    use crate::{Postgres, Programs, shared};

    /// Lays what would have been unpacked into a folder: a copy of the programs that this machine has.
    fn unpack(place: &Place, target: &Path) {
        let folder = target.join(POSTGRES.folder);
        let parts = match &place.root {
            Some(root) => vec![(root.clone(), PathBuf::new())],
            None => ["usr/lib/postgresql", "usr/share/postgresql"]
                .map(|part| (Path::new("/").join(part), PathBuf::from(part)))
                .to_vec(),
        };
        for (from, to) in parts {
            let to = folder.join(to);
            fs::create_dir_all(&to).unwrap();
            guard::run(Command::new("cp").arg("--archive").arg(from.join(".")).arg(to)).unwrap();
        }
        fs::write(folder.join(debian::STAMP), "").unwrap();
    }

    #[test]
    fn unpacked_programs_run_from_a_folder_that_only_we_may_enter() {
        let own = match &shared::programs().unwrap().postgres {
            Source::Folder(own) if own.root.is_some() || own.bin.starts_with("/usr/lib/postgresql") => own,
            _ => {
                eprintln!("not run: this machine has no programs that are laid out as Debian's");
                return;
            }
        };
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        unpack(own, closed.path());
        let path = std::env::var_os("PATH").unwrap();
        let search = Search { target: closed.path(), path: &path, ways: &[Way::Unpacked] };
        let found = search.find(&POSTGRES).unwrap();
        let Source::Folder(place) = &found else { panic!("it is no folder") };
        let programs = Programs { postgres: found.clone(), ..shared::programs().unwrap().clone() };
        let server = Postgres::start(&programs).unwrap();
        assert_eq!(server.sql("postgres", "SELECT 42").unwrap().trim(), "42");
        drop(server);
        if !is_root() {
            assert!(place.bin.starts_with(closed.path()), "a plain user needs no copy");
            return;
        }
        let copy = place.root.clone().unwrap();
        assert_eq!(copy.parent(), Some(std::env::temp_dir().as_path()));
        // The folder for temporary files is tidied.
        fs::remove_file(place.program("psql")).unwrap();
        search.find(&POSTGRES).unwrap();
        assert!(place.program("psql").is_file());
        // A folder that nobody gave us.
        guard::run(Command::new("chown").arg(NOBODY).arg(&copy)).unwrap();
        let error = search.find(&POSTGRES).unwrap_err().to_string();
        assert!(error.contains("it is somebody else's"), "{error}");
        fs::remove_dir_all(&copy).unwrap();
    }
}
