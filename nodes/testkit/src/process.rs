//! Real processes: started on a free port in a folder of the test's, waited for, killed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinSet;

/// The most lines of output that are kept.
const OUTPUT_LINES: usize = 4_000;
/// The most bytes that are kept of a line.
const LINE_BYTES: usize = 2_000;

/// Why a process did not start, or did not stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("could not start {program}")]
    Start {
        /// What was to be started.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It could not be waited for or signalled.
    #[error("could not reach the process")]
    Signal(#[source] std::io::Error),
    /// It ended before it was ready.
    #[error("ended with {status} before it was ready:\n{output}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// It took too long.
    #[error("not {what} in {deadline:?}:\n{output}")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        deadline: Duration,
        /// What it said.
        output: String,
    },
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder; the test's if `None`.
    pub folder: Option<PathBuf>,
}

impl Spec {
    /// A program without arguments.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), folder: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets its working folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }
}

/// The last lines of a process's output.
#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    fn push(&self, mut line: String) {
        line.truncate(line.floor_char_boundary(LINE_BYTES));
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == OUTPUT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    async fn drain(self, mut lines: Lines<BufReader<impl AsyncRead + Unpin>>) {
        while let Ok(Some(line)) = lines.next_line().await {
            self.push(line);
        }
    }
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    output: Output,
    readers: JoinSet<()>,
}

impl Process {
    /// Starts a process and waits until a line of its standard output says that it is ready: the first for
    /// which `ready` returns something.
    ///
    /// # Errors
    /// If it cannot be started, ends before it is ready, or is not ready in time.
    pub async fn spawn<T>(
        spec: &Spec,
        ready: impl FnMut(&str) -> Option<T>,
        deadline: Duration,
    ) -> Result<(Self, T), Error> {
        let start = |source| Error::Start { program: spec.program.display().to_string(), source };
        let mut command = tokio::process::Command::new(&spec.program);
        command.args(&spec.args).envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(folder) = &spec.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn().map_err(start)?;
        let gone = || start(std::io::ErrorKind::NotFound.into());
        let pid = child.id().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let stderr = child.stderr.take().ok_or_else(gone)?;
        let mut process = Self { child, pid, output: Output::default(), readers: JoinSet::new() };
        process.readers.spawn(process.output.clone().drain(BufReader::new(stderr).lines()));
        let mut lines = BufReader::new(stdout).lines();
        let found = tokio::time::timeout(deadline, find(&mut lines, &process.output, ready)).await;
        match found {
            Ok(Some(value)) => {
                process.readers.spawn(process.output.clone().drain(lines));
                Ok((process, value))
            }
            Ok(None) => {
                let status = process.wait(deadline).await?;
                // What it said last may still be in the pipe.
                while process.readers.join_next().await.is_some() {}
                Err(Error::Ended { status, output: process.output() })
            }
            Err(_) => Err(Error::Late { what: "ready", deadline, output: process.output() }),
        }
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its resident memory, in MiB; zero where the system does not tell.
    #[must_use]
    pub fn memory_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }

    /// The processor time it has used; zero where the system does not tell. A tick is 10 ms on Linux.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 =
            after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The last lines it wrote, standard error among them.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn is_running(&mut self) -> Result<bool, Error> {
        Ok(self.child.try_wait().map_err(Error::Signal)?.is_none())
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill9(&mut self) -> Result<ExitStatus, Error> {
        self.child.start_kill().map_err(Error::Signal)?;
        self.child.wait().await.map_err(Error::Signal)
    }

    /// Asks it to stop with SIGTERM and waits until it is gone.
    ///
    /// # Errors
    /// If it is not gone in time.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus, Error> {
        if self.is_running()? {
            // Neither the standard library nor tokio sends other signals than SIGKILL.
            let mut kill = tokio::process::Command::new("sh");
            kill.args(["-c", "kill -TERM \"$0\""]).arg(self.pid.to_string());
            kill.status().await.map_err(Error::Signal)?;
        }
        self.wait(deadline).await
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// If it has not ended in time.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus, Error> {
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(status) => status.map_err(Error::Signal),
            Err(_) => Err(Error::Late { what: "ended", deadline, output: self.output() }),
        }
    }
}

async fn find<T>(
    lines: &mut Lines<BufReader<ChildStdout>>,
    output: &Output,
    mut ready: impl FnMut(&str) -> Option<T>,
) -> Option<T> {
    while let Ok(Some(line)) = lines.next_line().await {
        let found = ready(&line);
        output.push(line);
        if found.is_some() {
            return found;
        }
    }
    None
}
