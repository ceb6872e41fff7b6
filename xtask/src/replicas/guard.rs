//! Processes that do not outlive this one, however it ends.

use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps the list of process groups and of containers it is told, and reads its input to the end. The end comes when
/// this process is gone: then it kills them, and removes the folder of the run.
const SCRIPT: &str = r#"
pids=
containers=
while read -r word pid; do
    case $word in
        add) pids="$pids $pid" ;;
        container) containers="$containers $pid" ;;
        gone) pids=$(for one in $pids; do [ "$one" = "$pid" ] || printf ' %s' "$one"; done) ;;
    esac
done
for pid in $pids; do kill -9 -"$pid" "$pid"; done
for one in $containers; do docker rm --force "$one"; done
[ -z "$1" ] || rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// A process of its own, in a session of its own: what ends us (Ctrl-C, the SIGKILL of a time limit) spares it.
#[derive(Debug)]
pub(crate) struct Guard {
    process: Child,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
}

/// A process under guard. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// The process, with its pipes if it has some.
    pub(crate) child: Child,
    pipe: Arc<Mutex<Option<ChildStdin>>>,
    gone: bool,
}

impl Guard {
    /// Starts it. `folder` is removed at the end, if one is given.
    ///
    /// # Errors
    /// There is no `sh` or no `setsid`.
    pub(crate) fn start(folder: Option<&Path>) -> Result<Self> {
        Self::of(Command::new("setsid"), folder)
    }

    fn of(mut setsid: Command, folder: Option<&Path>) -> Result<Self> {
        let mut process = setsid
            .args(["sh", "-c", SCRIPT, "guard"])
            .arg(folder.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run setsid (Debian: apt-get install util-linux)")?;
        let pipe = Arc::new(Mutex::new(process.stdin.take()));
        Ok(Self { process, pipe })
    }

    /// Starts a process, in a group of its own: a terminal's Ctrl-C reaches us, and what follows is the guard's.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Guarded> {
        let shown = command.get_program().display().to_string();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let guarded = Guarded { child, pipe: Arc::clone(&self.pipe), gone: false };
        say(&self.pipe, "add", guarded.child.id());
        Ok(guarded)
    }

    /// Removes a container at the end. It belongs to its engine, and would outlive the process that runs it.
    pub(crate) fn remove_container(&self, name: &str) {
        say(&self.pipe, "container", name);
    }
}

impl Guarded {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn runs(&mut self) -> Result<bool> {
        let ended = self.child.try_wait().context("cannot look at a process")?.is_some();
        if ended {
            self.is_gone();
        }
        Ok(!ended)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.is_gone();
    }

    /// Its number may be another's from now on.
    fn is_gone(&mut self) {
        if !std::mem::replace(&mut self.gone, true) {
            say(&self.pipe, "gone", self.child.id());
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.process.wait();
    }
}

fn say(pipe: &Mutex<Option<ChildStdin>>, word: &str, of: impl std::fmt::Display) {
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    // A guard that is gone does nothing with it either.
    let _ = pipe.as_mut().map(|pipe| writeln!(pipe, "{word} {of}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn sleeper(guard: &Guard) -> Guarded {
        guard.spawn(Command::new("sleep").arg("600")).unwrap()
    }

    fn soon(mut holds: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while !holds() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        holds()
    }

    #[test]
    fn processes_and_their_folder_go_with_the_guard() {
        let folder = std::env::temp_dir().join(format!("callboard-guard-test-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("data")).unwrap();
        let guard = Guard::start(Some(&folder)).unwrap();
        let mut one = sleeper(&guard);
        assert!(one.runs().unwrap());
        // As when this process is killed: nobody tells the guard, its pipe just closes.
        drop(guard);
        assert!(soon(|| !one.runs().unwrap()), "it outlives its guard");
        assert!(!folder.exists());
    }

    #[test]
    fn containers_go_with_the_guard() {
        let folder = std::env::temp_dir().join(format!("callboard-guard-docker-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (docker, said) = (folder.join("docker"), folder.join("said"));
        let script = folder.join("script");
        std::fs::write(&script, format!("#!/bin/sh\necho \"$*\" >> {}\n", said.display())).unwrap();
        // By another process: what a fork of this one holds open for writing meanwhile cannot be run.
        assert!(Command::new("install").args([&script, &docker]).status().unwrap().success());
        let mut setsid = Command::new("setsid");
        setsid.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
        let guard = Guard::of(setsid, None).unwrap();
        guard.remove_container("one");
        drop(guard);
        let asked = std::fs::read_to_string(&said).unwrap_or_default();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(asked, "rm --force one\n");
    }

    #[test]
    fn a_killed_one_is_gone_and_can_be_started_again() {
        let guard = Guard::start(None).unwrap();
        let mut one = sleeper(&guard);
        one.kill();
        assert!(!one.runs().unwrap());
        let mut two = sleeper(&guard);
        assert!(two.runs().unwrap());
    }
}
