//! One PostgreSQL.

use crate::guard::{Guarded, Spec, run};
use crate::{Error, Programs, free_port};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The superuser of the instance.
const USER: &str = "callboard";

/// A PostgreSQL of one's own, with fsync on. Gone, with its data, when dropped.
#[derive(Debug)]
pub struct Postgres {
    spec: Spec,
    folder: PathBuf,
    port: u16,
    psql: PathBuf,
    server: Option<Guarded>,
}

/// PostgreSQL refuses to run as root: then it runs as nobody.
fn as_plain_user(program: &Path) -> Vec<OsString> {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let prefix = if is_root() { nobody.map(OsString::from).to_vec() } else { Vec::new() };
    prefix.into_iter().chain([program.as_os_str().to_owned()]).collect()
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    uid == Some("0")
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

impl Postgres {
    /// Makes a database cluster and starts it. Its data lies in the system's folder for temporary files,
    /// which nobody may enter too.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(programs: &Programs) -> Result<Self, Error> {
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("callboard-postgres-{}-{port}", std::process::id()));
        Self::start_on(programs, &folder, port)
    }

    /// Makes a database cluster in a folder, unless there is one, and starts it on a port.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_on(programs: &Programs, folder: &Path, port: u16) -> Result<Self, Error> {
        let place = &programs.postgres;
        let data = folder.join("data");
        if !data.join("PG_VERSION").exists() {
            fs::create_dir_all(&data).map_err(Error::io(data.display().to_string()))?;
            if is_root() {
                run(Command::new("chown").arg("-R").arg("65534:65534").arg(folder))?;
            }
            let mut initdb = command(&as_plain_user(&place.program("initdb")));
            initdb.envs(place.env.iter().map(|(name, value)| (name, value))).current_dir(folder);
            run(initdb.arg("-D").arg(&data).args([
                "-U",
                USER,
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ]))?;
        }
        let mut words = as_plain_user(&place.program("postgres"));
        let program = words.remove(0);
        words.extend(["-D".into(), data.into(), "-p".into(), port.to_string().into()]);
        // Over TCP alone: what the product relies on (tcp_user_timeout) does nothing on a unix socket.
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
            "shared_buffers=64MB",
            "log_min_messages=warning",
        ] {
            words.extend(["-c".into(), setting.into()]);
        }
        let clean = folder.starts_with(std::env::temp_dir()).then(|| folder.to_owned());
        let spec = Spec { program, args: words, env: place.env.clone(), folder: folder.to_owned(), clean };
        let psql = place.program("psql");
        let mut postgres = Self { spec, folder: folder.to_owned(), port, psql, server: None };
        postgres.restart()?;
        Ok(postgres)
    }

    /// The address of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The user of its addresses.
    #[must_use]
    pub fn user(&self) -> &'static str {
        USER
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL in a database and returns what it answers, a row a line, columns with `|` between them.
    ///
    /// # Errors
    /// The server refuses it.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, Error> {
        psql(&self.psql, &self.spec.env, &self.url(database), sql)
    }

    /// Makes an empty database and returns its address.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url(name))
    }

    /// SIGKILL for the server and all its processes.
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
        let until = Instant::now() + crate::READY_WITHIN;
        loop {
            let server = Guarded::start(&self.spec, &self.folder.join("log"))?;
            match server.until("PostgreSQL", || self.sql("postgres", "SELECT 1").is_ok()) {
                Ok(()) => {
                    self.server = Some(server);
                    return Ok(());
                }
                // Processes of its last life may still hold its memory for a moment.
                Err(error) if Instant::now() > until || !error.to_string().contains("still in use") => {
                    return Err(error);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// SIGSTOP for the server and all its processes.
    pub fn pause(&self) {
        self.server.iter().for_each(|server| server.signal("STOP"));
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server.iter().for_each(|server| server.signal("CONT"));
    }

    /// The process id of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Guarded::pid)
    }
}

/// Runs SQL through PostgreSQL's own client.
pub(crate) fn psql(
    program: &Path,
    env: &[(OsString, OsString)],
    url: &str,
    sql: &str,
) -> Result<String, Error> {
    let mut psql = Command::new(program);
    psql.envs(env.iter().map(|(name, value)| (name, value)));
    run(psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(folder) = &self.spec.clean {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
