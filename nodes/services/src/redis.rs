//! One Redis.

use crate::container::Options;
use crate::guard::{Leaves, Spec, run};
use crate::instance::{Client, Instance};
use crate::programs::{REDIS, Source};
use crate::{Error, Programs, free_port};
use std::path::Path;
use std::process::Command;

/// A Redis of one's own, that keeps nothing on disk. Gone when dropped.
#[derive(Debug)]
pub struct Redis {
    instance: Instance,
    port: u16,
    cli: Client,
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
        let shown = port.to_string();
        let args = ["--port", &shown, "--save", "", "--appendonly", "no"];
        let (instance, cli) = match &programs.redis {
            Source::Folder(place) => {
                let spec = Spec {
                    program: place.program("redis-server").into(),
                    args: args.iter().chain(&["--bind", "127.0.0.1"]).map(Into::into).collect(),
                    env: place.env.clone(),
                    folder: folder.clone(),
                    leaves: Leaves { folder: Some(folder.clone()), container: None },
                };
                (Instance::process(REDIS.what, spec), place.client("redis-cli"))
            }
            Source::Image(image) => {
                // What comes from outside the container does not come from its loopback address.
                let args = [&["redis-server", "--protected-mode", "no"][..], &args].concat();
                let options = Options { kind: "redis", port, inside: port, options: &[], args: &args };
                let (instance, container) = image.instance(REDIS.what, &folder, &options);
                (instance, container.client("redis-cli"))
            }
        };
        let mut redis = Self { instance, port, cli };
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
        run(cli(&self.cli, self.port).args(args))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.instance.kill()
    }

    /// Starts it again after it was killed; it is empty.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        let Self { instance, port, cli: client } = self;
        instance.start(|| run(cli(client, *port).arg("ping")).is_ok())
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.instance.pause();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.instance.resume();
    }
}

/// Its own client, which fails when the server answers with an error.
fn cli(client: &Client, port: u16) -> Command {
    let mut command = client.command();
    command.args(["-e", "-p", &port.to_string()]);
    command
}
