//! Where the servers' programs are.

use crate::{Error, debian};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

const ADVICE: &str = "install it so that it is on PATH (Debian: apt-get install postgresql rabbitmq-server \
    redis-server), or let apt download packages";

/// The programs of the three servers.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder with `postgres`, `initdb` and `psql`.
    pub(crate) postgres: Place,
    /// The folder with RabbitMQ's `rabbitmq-server` and `rabbitmqctl`.
    pub(crate) rabbitmq: Place,
    /// The folder with `redis-server`.
    pub(crate) redis: Place,
}

/// A folder of programs, and what must be in their environment.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) bin: PathBuf,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The folder that packages were unpacked to.
    pub(crate) root: Option<PathBuf>,
}

impl Place {
    fn on_the_machine(bin: PathBuf) -> Self {
        Self { bin, env: Vec::new(), root: None }
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

impl Programs {
    /// Finds them on the machine, or unpacks Debian's packages under `target`.
    ///
    /// # Errors
    /// [`Error::Missing`] names the first that cannot be had, what was tried and what to do.
    pub fn find(target: &Path) -> Result<Self, Error> {
        Ok(Self { postgres: postgres(target)?, rabbitmq: rabbitmq(target)?, redis: redis(target)? })
    }

    /// Where each of them is, for a person.
    #[must_use]
    pub fn places(&self) -> [(&'static str, String); 3] {
        let show = |place: &Place| place.bin.display().to_string();
        [
            ("PostgreSQL", show(&self.postgres)),
            ("RabbitMQ", show(&self.rabbitmq)),
            ("Redis", show(&self.redis)),
        ]
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())?;
    // A link in a common folder leads to the folder where its siblings are.
    Some(found.canonicalize().unwrap_or(found))
}

fn missing(what: &'static str, error: &Error) -> Error {
    Error::Missing {
        what,
        tried: format!("it is not on PATH, and its packages cannot be unpacked: {error}"),
        advice: ADVICE,
    }
}

fn unpacked(
    target: &Path,
    name: &'static str,
    what: &'static str,
    packages: &[&str],
) -> Result<PathBuf, Error> {
    debian::unpack(target, name, packages).map_err(|error| missing(what, &error))
}

/// What unpacked programs need to find their libraries.
fn libraries(root: &Path) -> Vec<(OsString, OsString)> {
    let usr = fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
    let multiarch =
        usr.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    let mut paths: Vec<_> = multiarch.collect();
    paths.push(root.join("usr/lib"));
    let joined = std::env::join_paths(paths).unwrap_or_default();
    vec![("LD_LIBRARY_PATH".into(), joined)]
}

/// The newest version under `lib/postgresql`.
fn newest_postgres(lib: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(lib).ok()?.flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(number)?.join("bin");
    newest.join("initdb").is_file().then_some(newest)
}

fn postgres(target: &Path) -> Result<Place, Error> {
    let beside = |bin: &Path| ["postgres", "initdb", "psql"].iter().all(|name| bin.join(name).is_file());
    let path = on_path("postgres").and_then(|program| Some(program.parent()?.to_owned()));
    let found =
        path.into_iter().chain(newest_postgres(Path::new("/usr/lib/postgresql"))).find(|bin| beside(bin));
    if let Some(bin) = found {
        return Ok(Place::on_the_machine(bin));
    }
    let root = unpacked(target, "postgresql", "PostgreSQL", &["postgresql"])?;
    let bin = newest_postgres(&root.join("usr/lib/postgresql"));
    let bin = bin.ok_or_else(|| Error::Missing {
        what: "PostgreSQL",
        tried: "its packages hold no initdb".into(),
        advice: ADVICE,
    })?;
    Ok(Place { bin, env: libraries(&root), root: Some(root) })
}

fn redis(target: &Path) -> Result<Place, Error> {
    if let Some(program) = on_path("redis-server")
        && let Some(bin) = program.parent()
    {
        return Ok(Place::on_the_machine(bin.to_owned()));
    }
    let root = unpacked(target, "redis", "Redis", &["redis-server"])?;
    Ok(Place { bin: root.join("usr/bin"), env: libraries(&root), root: Some(root) })
}

/// The folder of RabbitMQ's own scripts: Debian's on PATH are wrappers that only root may use.
fn rabbitmq_home(lib: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(lib.join("rabbitmq/lib")).ok()?.flatten().map(|entry| entry.path());
    versions.max().map(|home| home.join("sbin")).filter(|bin| bin.join("rabbitmq-server").is_file())
}

fn rabbitmq(target: &Path) -> Result<Place, Error> {
    if on_path("erl").is_some() {
        let own = on_path("rabbitmq-server").and_then(|program| {
            let bin = program.parent()?.to_owned();
            bin.join("rabbitmq-env").is_file().then_some(bin)
        });
        if let Some(bin) = rabbitmq_home(Path::new("/usr/lib")).or(own) {
            return Ok(Place::on_the_machine(bin));
        }
    }
    let root = unpacked(target, "rabbitmq", "RabbitMQ", &["rabbitmq-server"])?;
    let erlang = root.join("usr/lib/erlang");
    let mut env = libraries(&root);
    if erlang.is_dir() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(erlang.join("bin")).chain(std::env::split_paths(&path)));
        env.push(("PATH".into(), path.unwrap_or_default()));
        env.push(("ERL_ROOTDIR".into(), erlang.into()));
    }
    let bin = rabbitmq_home(&root.join("usr/lib")).ok_or_else(|| Error::Missing {
        what: "RabbitMQ",
        tried: "its packages hold no rabbitmq-server".into(),
        advice: ADVICE,
    })?;
    Ok(Place { bin, env, root: Some(root) })
}
