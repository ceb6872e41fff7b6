//! A process that ends with the one that started it.

use crate::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts the server in a session of its own, tells its process id, and waits for the end of its input: when
/// whoever holds the other end of that pipe is gone, however it went, the server is killed. It is waited for, so
/// that not even a zombie of it is left: PostgreSQL would take that for a running server. Then its data is
/// removed, unless the pipe said to keep it.
const GUARDIAN: &str = r#"log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & server=$!; echo $server; read -r word; kill -9 -$server $server 2>/dev/null; wait $server; [ "$word" = keep ] || [ -z "$CALLBOARD_CLEAN" ] || rm -rf "$CALLBOARD_CLEAN""#;

/// A server under its guardian.
#[derive(Debug)]
pub(crate) struct Guarded {
    guardian: Child,
    /// Closing it ends the server.
    pipe: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) folder: PathBuf,
    /// What is removed once whoever started it is gone.
    pub(crate) clean: Option<PathBuf>,
}

impl Guarded {
    /// Starts it; what it says goes to `log`.
    pub(crate) fn start(spec: &Spec, log: &Path) -> Result<Self, Error> {
        File::options().create(true).append(true).open(log).map_err(Error::io(log.display().to_string()))?;
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(log)
            .arg(&spec.program)
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .env("CALLBOARD_CLEAN", spec.clean.as_deref().unwrap_or(Path::new("")))
            .current_dir(&spec.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("cannot run sh"))?;
        let pipe = guardian.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = guardian.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(Error::io("cannot read from sh"))?;
        }
        let pid = line.trim().parse().map_err(|_| Error::Start { what: "the guardian", log: line })?;
        Ok(Self { guardian, pipe, pid, log: log.to_owned() })
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it runs.
    pub(crate) fn is_running(&self) -> bool {
        // A zombie has ended.
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
    }

    /// SIGKILL for it and all that it started, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<(), Error> {
        self.keep();
        let children = children(self.pid);
        signal("KILL", &[vec![format!("-{}", self.pid), self.pid.to_string()], children].concat());
        self.end()
    }

    /// Sends a signal to it and all that it started.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, &[vec![self.pid.to_string()], children(self.pid)].concat());
    }

    /// What it leaves on disk stays: it will be started again.
    fn keep(&mut self) {
        use std::io::Write as _;
        // A guardian that is gone removes nothing either.
        let _ = self.pipe.as_mut().map(|pipe| pipe.write_all(b"keep\n"));
    }

    fn end(&mut self) -> Result<(), Error> {
        drop(self.pipe.take());
        self.guardian.wait().map_err(Error::io("cannot wait for a server"))?;
        let until = Instant::now() + Duration::from_secs(10);
        while self.is_running() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
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
        let mut text = String::new();
        if let Ok(mut log) = File::open(&self.log) {
            // A log that is no text is shown as far as it is.
            let _ = log.read_to_string(&mut text);
        }
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The guardian kills what is left.
        let _ = self.end();
    }
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

    #[test]
    fn a_server_dies_with_whoever_holds_its_guardian() {
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec {
            program: "sleep".into(),
            args: vec!["600".into()],
            env: vec![],
            folder: dir.path().to_owned(),
            clean: None,
        };
        let mut guarded = Guarded::start(&spec, &dir.path().join("log")).unwrap();
        assert!(guarded.is_running());
        // As when this process is killed: nobody tells the guardian, its pipe just closes.
        drop(guarded.pipe.take());
        let until = Instant::now() + Duration::from_secs(10);
        while guarded.is_running() {
            assert!(Instant::now() < until, "it outlives its guardian");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
