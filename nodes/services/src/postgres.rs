//! One PostgreSQL.

use crate::container::Options;
use crate::guard::{Leaves, Spec, run};
use crate::instance::{Client, Instance};
use crate::programs::{POSTGRES, Place, Source};
use crate::{Error, Programs, free_port, plain_user};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The superuser of the instance.
const USER: &str = "callboard";

/// Settings of every instance. With less memory and fewer segments of the log than this, a few minutes of load are
/// spent on evicting pages and making files.
const SETTINGS: [&str; 8] = [
    "-c",
    "max_connections=300",
    "-c",
    "shared_buffers=256MB",
    "-c",
    "max_wal_size=4GB",
    "-c",
    "log_min_messages=warning",
];

/// A PostgreSQL of one's own, with fsync on. Gone, with its data, when dropped.
#[derive(Debug)]
pub struct Postgres {
    instance: Instance,
    port: u16,
    psql: Client,
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
        fs::create_dir_all(folder).map_err(Error::io(folder.display().to_string()))?;
        let shown = port.to_string();
        let (instance, psql) = match &programs.postgres {
            Source::Folder(place) => (process(place, folder, &shown)?, place.client("psql")),
            Source::Image(image) => {
                let options = [
                    "--env=POSTGRES_USER=callboard",
                    "--env=POSTGRES_DB=postgres",
                    "--env=POSTGRES_HOST_AUTH_METHOD=trust",
                    "--env=POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C",
                    "--shm-size=256m",
                ];
                // The same port inside: so an address is the same for a client in the container.
                let args = [&["postgres", "-p", &shown, "-c", "listen_addresses=*"][..], &SETTINGS].concat();
                let options =
                    Options { kind: "postgres", port, inside: port, options: &options, args: &args };
                let (instance, container) = image.instance(POSTGRES.what, folder, &options);
                (instance, container.client("psql"))
            }
        };
        let mut postgres = Self { instance, port, psql };
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
        psql(&self.psql, &self.url(database), sql)
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
        self.instance.kill()
    }

    /// Starts it again on the same data and port.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        let (url, until) = (self.url("postgres"), Instant::now() + crate::READY_WITHIN);
        loop {
            match self.instance.start(|| psql(&self.psql, &url, "SELECT 1").is_ok()) {
                // Processes of its last life may still hold its memory for a moment.
                Err(error) if Instant::now() < until && error.to_string().contains("still in use") => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                done => return done,
            }
        }
    }

    /// SIGSTOP for the server and all its processes.
    pub fn pause(&self) {
        self.instance.pause();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.instance.resume();
    }

    /// The process id of the server, until it is killed. A container's is not told.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.instance.pid()
    }
}

/// A server that is a process, with a new database cluster unless there is one.
fn process(place: &Place, folder: &Path, port: &str) -> Result<Instance, Error> {
    let data = folder.join("data");
    let mut words = plain_user::words(&place.program("postgres"));
    let program = words.remove(0);
    words.extend(["-D".into(), data.clone().into(), "-p".into(), port.into()]);
    // Over TCP alone: what the product relies on (tcp_user_timeout) does nothing on a unix socket.
    words.extend(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="].map(Into::into));
    words.extend(SETTINGS.map(Into::into));
    let leaves = Leaves::folder(folder);
    let spec = Spec { program, args: words, env: place.env.clone(), folder: folder.to_owned(), leaves };
    // First of all, for it removes the folder if the rest fails.
    let instance = Instance::process(POSTGRES.what, spec);
    if !data.join("PG_VERSION").exists() {
        fs::create_dir_all(&data).map_err(Error::io(data.display().to_string()))?;
        plain_user::give(folder)?;
        let mut initdb = plain_user::command(&place.program("initdb"));
        initdb.envs(place.env.iter().map(|(name, value)| (name, value))).current_dir(folder);
        let options = ["-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"];
        run(initdb.arg("-D").arg(&data).args(options))?;
    }
    Ok(instance)
}

/// Runs SQL through PostgreSQL's own client.
pub(crate) fn psql(client: &Client, url: &str, sql: &str) -> Result<String, Error> {
    run(client.command().args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]))
}
