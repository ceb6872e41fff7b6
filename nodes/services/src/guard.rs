//! A process that ends with the one that started it.

use crate::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts the server in a session of its own, tells its process id, and reads its input to the end. The end
/// comes when whoever holds the other side of that pipe is gone, however it went: then the server is killed, and
/// what it leaves behind is removed, unless `keep` was said. A killed server is waited for, so that not even a
/// zombie of it is left: PostgreSQL would take that for a running server.
const GUARDIAN: &str = r#"
log=$1; shift
setsid "$@" >>"$log" 2>&1 </dev/null &
server=$!
echo "$server"
stop() {
    [ -n "$server" ] || return
    kill -9 -"$server" "$server"
    wait "$server"
    server=
}
while read -r word; do
    case $word in
        kill) stop ;;
        keep) keep=1 ;;
    esac
done
stop
[ -z "$keep" ] || exit 0
[ -z "$CALLBOARD_CONTAINER" ] || "$CALLBOARD_ENGINE" rm --force --volumes "$CALLBOARD_CONTAINER" >/dev/null
# What PostgreSQL has started ends by itself a moment later, and may still write.
[ -z "$CALLBOARD_FOLDER" ] || rm -rf "$CALLBOARD_FOLDER" || { sleep 1; rm -rf "$CALLBOARD_FOLDER"; }
"#;

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) folder: PathBuf,
    pub(crate) leaves: Leaves,
}

/// What is removed once whoever started a server is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaves {
    pub(crate) folder: Option<PathBuf>,
    /// A container, as its engine's program and its name.
    pub(crate) container: Option<(PathBuf, String)>,
}

impl Leaves {
    /// A server's folder, if it lies among temporary files: one that was chosen by a person stays.
    pub(crate) fn folder(folder: &Path) -> Self {
        let temporary = folder.starts_with(std::env::temp_dir());
        Self { folder: temporary.then(|| folder.to_owned()), container: None }
    }
}

/// A server under its guardian.
#[derive(Debug)]
pub(crate) struct Guarded {
    guardian: Child,
    /// Closing it ends the server.
    pipe: Option<ChildStdin>,
    pid: u32,
    /// Its process id may be another's once it was killed.
    killed: bool,
    log: PathBuf,
}

impl Guarded {
    /// Starts it; what it says goes to `log`.
    pub(crate) fn start(spec: &Spec, log: &Path) -> Result<Self, Error> {
        File::options().create(true).append(true).open(log).map_err(Error::io(log.display().to_string()))?;
        let (engine, container) = spec.leaves.container.clone().unwrap_or_default();
        // A session of its own: what is meant for the whole group of its parent (a terminal's Ctrl-C, the SIGKILL
        // of a time limit) must not reach the guardian, for nobody would kill the server then.
        let mut guardian = Command::new("setsid")
            .args(["sh", "-c", GUARDIAN, "guardian"])
            .arg(log)
            .arg(&spec.program)
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .env("CALLBOARD_FOLDER", spec.leaves.folder.as_deref().unwrap_or(Path::new("")))
            .env("CALLBOARD_ENGINE", engine)
            .env("CALLBOARD_CONTAINER", container)
            .current_dir(&spec.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("cannot run setsid"))?;
        let pipe = guardian.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = guardian.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(Error::io("cannot read from sh"))?;
        }
        let pid = line.trim().parse().map_err(|_| Error::Start { what: "the guardian", log: line })?;
        Ok(Self { guardian, pipe, pid, killed: false, log: log.to_owned() })
    }

    /// The server's process id, until it is killed.
    pub(crate) fn pid(&self) -> Option<u32> {
        (!self.killed).then_some(self.pid)
    }

    /// Whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        !self.killed && runs(self.pid)
    }

    /// SIGKILL for it and all that it started, and waits until it is gone. The guardian stays.
    pub(crate) fn kill(&mut self) {
        if self.killed {
            return;
        }
        signal("KILL", &[vec![format!("-{}", self.pid), self.pid.to_string()], children(self.pid)].concat());
        self.say("kill");
        // Gone, not a zombie: the guardian has waited for it then.
        wait_until(|| state(self.pid).is_none());
        self.killed = true;
    }

    /// Waits for it to end by itself. Says whether it has.
    pub(crate) fn wait(&self) -> bool {
        wait_until(|| !self.is_running())
    }

    /// Sends a signal to it and all that it started.
    pub(crate) fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            signal(name, &[vec![pid.to_string()], children(pid)].concat());
        }
    }

    /// Ends it and its guardian. What it leaves behind stays: another guardian minds it now.
    pub(crate) fn release(mut self) {
        self.say("keep");
    }

    fn say(&mut self, word: &str) {
        // A guardian that is gone does nothing with it either.
        let _ = self.pipe.as_mut().map(|pipe| writeln!(pipe, "{word}"));
    }

    /// Waits until `ready` holds.
    pub(crate) fn until(&self, what: &'static str, mut ready: impl FnMut() -> bool) -> Result<(), Error> {
        let until = Instant::now() + crate::READY_WITHIN;
        while !ready() {
            if !self.is_running() || Instant::now() > until {
                return Err(Error::Start { what, log: self.last_words() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(&self.log) {
            // What can be read of it is shown.
            let _ = log.read_to_end(&mut text);
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The guardian kills what is left. It cannot be waited for only if somebody else did.
        drop(self.pipe.take());
        let _ = self.guardian.wait();
    }
}

/// Whether a process runs. A zombie has ended.
pub(crate) fn runs(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The state of a process, as in `/proc/PID/stat`. None if there is none.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name, in parentheses, may hold anything.
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + GONE_WITHIN;
    while !holds() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

fn signal(name: &str, pids: &[String]) {
    // Who has ended meanwhile cannot be reached, which is fine.
    let _ = Command::new("sh")
        .args([
            "-c",
            "name=$1; shift; for pid in \"$@\"; do kill -s \"$name\" -- \"$pid\"; done",
            "kill",
            name,
        ])
        .args(pids)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// The direct children of a process: PostgreSQL's each lead a group of their own.
fn children(parent: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1).is_some_and(|ppid| ppid == parent.to_string())
    };
    pids.filter(is_child).map(|pid| pid.to_string()).collect()
}

/// Runs a program to its end and returns what it said.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(shown.clone()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let output = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed { command: shown, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Spec {
        Spec {
            program: "sleep".into(),
            args: vec!["600".into()],
            env: vec![],
            folder: folder.to_owned(),
            leaves: Leaves { folder: Some(folder.join("data")), container: None },
        }
    }

    #[test]
    fn a_server_and_its_data_go_with_whoever_holds_its_guardian() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let mut guarded = Guarded::start(&sleeper(dir.path()), &dir.path().join("log")).unwrap();
        assert!(guarded.is_running());
        // As when this process is killed: nobody tells the guardian, its pipe just closes.
        drop(guarded.pipe.take());
        assert!(guarded.wait(), "it outlives its guardian");
        assert!(wait_until(|| !dir.path().join("data").exists()));
    }

    #[test]
    fn what_kills_the_group_of_the_parent_spares_the_guardian() {
        let dir = tempfile::tempdir().unwrap();
        let guarded = Guarded::start(&sleeper(dir.path()), &dir.path().join("log")).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", guarded.guardian.id())).unwrap();
        // State, parent, group, session.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let own = guarded.guardian.id().to_string();
        assert_eq!(fields[2..4], [own.as_str(), own.as_str()]);
    }

    #[test]
    fn the_data_of_a_killed_server_stays_until_the_end_and_a_released_one_s_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let start = || Guarded::start(&sleeper(dir.path()), &dir.path().join("log")).unwrap();
        let mut first = start();
        first.kill();
        assert_eq!((first.is_running(), first.pid(), data.exists()), (false, None, true));
        let second = start();
        first.release();
        assert!(data.exists() && second.is_running());
        drop(second);
        assert!(!data.exists());
    }
}
