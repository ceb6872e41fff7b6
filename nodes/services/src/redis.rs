//! One Redis.

use crate::guard::{Guarded, Spec, run};
use crate::{Error, Programs, free_port};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Redis of one's own, that keeps nothing on disk. Gone when dropped.
#[derive(Debug)]
pub struct Redis {
    spec: Spec,
    log: PathBuf,
    port: u16,
    cli: Vec<PathBuf>,
    server: Option<Guarded>,
}

impl Redis {
    /// Starts one, with its log in `folder`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self, Error> {
        Self::start_on(programs, folder, free_port()?)
    }

    /// Starts one on a port.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_on(programs: &Programs, folder: &Path, port: u16) -> Result<Self, Error> {
        let folder = folder.join(format!("redis-{port}"));
        std::fs::create_dir_all(&folder).map_err(Error::io(folder.display().to_string()))?;
        let place = &programs.redis;
        let spec = Spec {
            program: place.program("redis-server").into(),
            args: ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
                .map(Into::into)
                .to_vec(),
            env: place.env.clone(),
            folder: folder.clone(),
            clean: Some(folder.clone()),
        };
        let cli = vec![place.program("redis-cli")];
        let mut redis = Self { spec, log: folder.join("log"), port, cli, server: None };
        redis.restart()?;
        Ok(redis)
    }

    /// Its address, for one of its 16 databases.
    #[must_use]
    pub fn url(&self, database: u8) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command of its own client, such as `FLUSHALL`.
    ///
    /// # Errors
    /// The command failed.
    pub fn command(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(&self.cli[0]);
        command.envs(self.spec.env.iter().map(|(name, value)| (name, value)));
        run(command.args(["-e", "-p", &self.port.to_string()]).args(args))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.server.take().map_or(Ok(()), Guarded::kill)
    }

    /// Starts it again after it was killed; it is empty.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill()?;
        let server = Guarded::start(&self.spec, &self.log)?;
        server.until("Redis", || self.command(&["ping"]).is_ok())?;
        self.server = Some(server);
        Ok(())
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.server.iter().for_each(|server| server.signal("STOP"));
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server.iter().for_each(|server| server.signal("CONT"));
    }
}
