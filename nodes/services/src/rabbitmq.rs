//! One RabbitMQ.

use crate::container::Options;
use crate::guard::{Guarded, Leaves, Spec, run};
use crate::instance::{Client, Instance};
use crate::programs::{Place, RABBITMQ, Source};
use crate::{Error, Programs, free_port};
use std::ffi::OsString;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Two of Erlang's threads, that sleep when there is nothing to do.
const ERLANG: &str = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none";

/// A RabbitMQ of one's own. Gone, with its data, when dropped.
#[derive(Debug)]
pub struct RabbitMq {
    instance: Instance,
    port: u16,
    ctl: Client,
    /// Erlang's name server, of this instance alone. A container has its own.
    _epmd: Option<Guarded>,
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
        fs::create_dir_all(folder).map_err(Error::io(folder.display().to_string()))?;
        let (instance, ctl, epmd) = match &programs.rabbitmq {
            Source::Folder(place) => {
                let (instance, epmd, env) = process(place, folder, port)?;
                (instance, Client { env, ..place.client("rabbitmqctl") }, Some(epmd))
            }
            Source::Image(image) => {
                let erlang = format!("--env=RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS={ERLANG}");
                // Its data lies in a folder that carries the name of its host.
                let options = ["--hostname", "callboard", &erlang];
                let options = Options { kind: "rabbitmq", port, inside: 5672, options: &options, args: &[] };
                let (instance, container) = image.instance(RABBITMQ.what, folder, &options);
                (instance, container.client("rabbitmqctl"), None)
            }
        };
        let mut rabbitmq = Self { instance, port, ctl, _epmd: epmd };
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
        run(self.ctl.command().arg("-q").args(args))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.instance.kill()
    }

    /// Starts it again on the same data and port.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.instance.start(|| answers(self.port))
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

/// Variables and their values.
type Environment = Vec<(OsString, OsString)>;

/// A server that is a process, its name server, and the environment of both.
fn process(place: &Place, folder: &Path, port: u16) -> Result<(Instance, Guarded, Environment), Error> {
    let (dist, epmd) = (free_port()?, free_port()?);
    let write = |name: &str, text| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::io(path.display().to_string()))
    };
    write("plugins", "[].\n")?;
    write("env.conf", "")?;
    let config = "loopback_users = none\nvm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 50MB\n\
                  log.console.level = warning\nlog.file = false\nlog.console = true\n";
    write("rabbitmq.conf", config)?;
    let mut env = place.env.clone();
    let mut set = |name: &str, value: OsString| env.push((name.into(), value));
    set("HOME", folder.into());
    set("ERL_EPMD_PORT", epmd.to_string().into());
    set("ERL_EPMD_ADDRESS", "127.0.0.1".into());
    set("RABBITMQ_NODENAME", "callboard@localhost".into());
    set("RABBITMQ_MNESIA_BASE", folder.join("mnesia").into());
    set("RABBITMQ_LOG_BASE", folder.join("logs").into());
    set("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins").into());
    set("RABBITMQ_CONF_ENV_FILE", folder.join("env.conf").into());
    set("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq").into());
    set("RABBITMQ_NODE_PORT", port.to_string().into());
    set("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into());
    set("RABBITMQ_DIST_PORT", dist.to_string().into());
    set("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG.into());
    let spec = |program, leaves| Spec {
        program,
        args: Vec::new(),
        env: env.clone(),
        folder: folder.to_owned(),
        leaves,
    };
    // Before the name server, for it removes the folder if that does not start.
    let server = place.program("rabbitmq-server").into();
    let instance = Instance::process(RABBITMQ.what, spec(server, Leaves::folder(folder)));
    let epmd = spec(epmd_program(place.root.as_deref()), Leaves::default());
    let epmd = Guarded::start(&epmd, &folder.join("epmd.log"))?;
    Ok((instance, epmd, env))
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
