//! One running server, a process or a container: what the three kinds have in common.

use crate::Error;
use crate::container::Container;
use crate::guard::{Guarded, Spec};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server that can be killed, paused, and started again on the same data and port.
#[derive(Debug)]
pub(crate) struct Instance {
    what: &'static str,
    spec: Spec,
    container: Option<Container>,
    /// What it says, over all its starts.
    log: PathBuf,
    /// Its last start. The guardian of a killed server stays until the next one minds what it leaves behind.
    guarded: Option<Guarded>,
}

/// How a program that comes with a server is run, such as `psql`.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) words: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Client {
    /// The program, to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Instance {
    /// One that is a process. It does not run yet.
    pub(crate) fn process(what: &'static str, spec: Spec) -> Self {
        let log = spec.folder.join("log");
        Self { what, spec, container: None, log, guarded: None }
    }

    /// One that is a container. It does not run yet; its log goes to a file in `folder`.
    pub(crate) fn container(what: &'static str, container: Container, folder: &Path) -> Self {
        let (spec, log) = (container.run(folder), folder.join("log"));
        Self { what, spec, container: Some(container), log, guarded: None }
    }

    /// Kills it if it runs, starts it, and waits until it is `ready`.
    pub(crate) fn start(&mut self, ready: impl FnMut() -> bool) -> Result<(), Error> {
        self.kill()?;
        let next = Guarded::start(&self.spec, &self.log)?;
        // From now on the container is there, with its data.
        if let Some(container) = &self.container {
            self.spec = container.start(&self.spec);
        }
        if let Some(last) = self.guarded.take() {
            last.release();
        }
        // Kept also if it does not get ready: what it leaves behind must be minded.
        self.guarded.insert(next).until(self.what, ready)
    }

    /// SIGKILL for all its processes, and waits until they are gone.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        let Some(guarded) = &mut self.guarded else { return Ok(()) };
        if let Some(container) = &self.container
            && guarded.is_running()
        {
            container.command("kill")?;
            // The engine's client, which is what the guardian has started, ends with the container.
            if !guarded.wait() {
                return Err(Error::Start { what: self.what, log: "its container cannot be killed".into() });
            }
        }
        guarded.kill();
        Ok(())
    }

    /// Lets it stand still.
    pub(crate) fn pause(&self) {
        self.halt("STOP", "pause");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.halt("CONT", "unpause");
    }

    fn halt(&self, signal: &str, command: &str) {
        let Some(guarded) = &self.guarded else { return };
        match &self.container {
            // It has ended meanwhile, as a process that is sent a signal may have.
            Some(container) => drop(container.command(command)),
            None => guarded.signal(signal),
        }
    }

    /// The process id of the server. A container's is not told.
    pub(crate) fn pid(&self) -> Option<u32> {
        let guarded = self.guarded.as_ref().filter(|_| self.container.is_none())?;
        guarded.pid()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The guardian removes what there is, and is waited for. If it could not even be started:
        drop(self.guarded.take());
        if let Some(folder) = &self.spec.leaves.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
