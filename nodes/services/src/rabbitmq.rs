//! One RabbitMQ.

use crate::guard::{Guarded, Spec, run};
use crate::{Error, Programs, free_port};
use std::ffi::OsString;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A RabbitMQ of one's own. Gone, with its data, when dropped.
#[derive(Debug)]
pub struct RabbitMq {
    spec: Spec,
    folder: PathBuf,
    port: u16,
    ctl: PathBuf,
    server: Option<Guarded>,
    /// Erlang's name server, of this instance alone.
    _epmd: Guarded,
}

impl RabbitMq {
    /// Starts one, with its data in the system's folder for temporary files.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(programs: &Programs) -> Result<Self, Error> {
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("callboard-rabbitmq-{}-{port}", std::process::id()));
        Self::start_on(programs, &folder, port)
    }

    /// Starts one on a port, with its data in a folder.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_on(programs: &Programs, folder: &Path, port: u16) -> Result<Self, Error> {
        let place = &programs.rabbitmq;
        fs::create_dir_all(folder).map_err(Error::io(folder.display().to_string()))?;
        let (dist, epmd) = (free_port()?, free_port()?);
        fs::write(folder.join("plugins"), "[].\n").map_err(Error::io("cannot write the plugins"))?;
        fs::write(folder.join("env.conf"), "").map_err(Error::io("cannot write the environment"))?;
        let config = "loopback_users = none\nvm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 50MB\n\
                      log.console.level = warning\nlog.file = false\nlog.console = true\n";
        fs::write(folder.join("rabbitmq.conf"), config)
            .map_err(Error::io("cannot write the configuration"))?;
        let mut env = place.env.clone();
        let mut set = |name: &str, value: OsString| env.push((name.into(), value));
        set("HOME", folder.into());
        set("ERL_EPMD_PORT", epmd.to_string().into());
        set("ERL_EPMD_ADDRESS", "127.0.0.1".into());
        set("RABBITMQ_NODENAME", "callboard@localhost".into());
        set("RABBITMQ_MNESIA_BASE", folder.join("mnesia").into());
        set("RABBITMQ_LOG_BASE", folder.join("log").into());
        set("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins").into());
        set("RABBITMQ_CONF_ENV_FILE", folder.join("env.conf").into());
        set("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq").into());
        set("RABBITMQ_NODE_PORT", port.to_string().into());
        set("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into());
        set("RABBITMQ_DIST_PORT", dist.to_string().into());
        set("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none".into());
        let epmd = Spec {
            program: epmd_program(place.root.as_deref()),
            args: Vec::new(),
            env: env.clone(),
            folder: folder.to_owned(),
            clean: None,
        };
        let epmd = Guarded::start(&epmd, &folder.join("epmd.out"))?;
        let spec = Spec {
            program: place.program("rabbitmq-server").into(),
            args: Vec::new(),
            env,
            folder: folder.to_owned(),
            clean: folder.starts_with(std::env::temp_dir()).then(|| folder.to_owned()),
        };
        let ctl = place.program("rabbitmqctl");
        let mut rabbitmq = Self { spec, folder: folder.to_owned(), port, ctl, server: None, _epmd: epmd };
        rabbitmq.restart()?;
        Ok(rabbitmq)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs `rabbitmqctl`, which takes a second or two.
    ///
    /// # Errors
    /// It failed.
    pub fn ctl(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(&self.ctl);
        command.envs(self.spec.env.iter().map(|(name, value)| (name, value))).current_dir(&self.folder);
        run(command.arg("-q").args(args))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.server.take().map_or(Ok(()), Guarded::kill)
    }

    /// Starts it again on the same data and port.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill()?;
        let server = Guarded::start(&self.spec, &self.folder.join("out"))?;
        server.until("RabbitMQ", || answers(self.port))?;
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

/// Whether a broker greets a client: its port is open before it does.
fn answers(port: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let greet = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
        stream.write_all(b"AMQP\0\0\x09\x01")?;
        let mut first = [0; 1];
        // A method frame: connection.start.
        Ok(stream.read(&mut first)? == 1 && first[0] == 1)
    };
    greet().unwrap_or(false)
}

/// Erlang's name server: in the folder of its runtime system, which carries a version.
fn epmd_program(root: Option<&Path>) -> OsString {
    let lib = root.unwrap_or(Path::new("/")).join("usr/lib/erlang");
    let entries = fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = entries.map(|dir| dir.join("bin/epmd")).find(|file| {
        file.is_file()
            && file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("erts-"))
    });
    found.map_or_else(|| "epmd".into(), PathBuf::into_os_string)
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(folder) = &self.spec.clean {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
