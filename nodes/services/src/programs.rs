//! Where the servers' programs are.

use crate::container::{self, Image};
use crate::instance::Client;
use crate::{Error, debian, plain_user};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

const ADVICE: &str = "do one of these: install it so that it is on PATH (Debian: apt-get install postgresql \
    rabbitmq-server redis-server); let apt-get reach its mirror; install and start docker or podman";

/// A way to have a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its programs are on PATH, or where Debian puts them.
    Installed,
    /// apt downloads Debian's packages, and they are unpacked into a folder.
    Unpacked,
    /// Docker or Podman has its image, or gets it.
    Container,
}

impl Way {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Installed, Self::Unpacked, Self::Container];
}

/// The programs of the three servers.
#[derive(Clone, Debug)]
pub struct Programs {
    /// With `postgres`, `initdb` and `psql`.
    pub(crate) postgres: Source,
    /// With RabbitMQ's own `rabbitmq-server` and `rabbitmqctl`.
    pub(crate) rabbitmq: Source,
    /// With `redis-server` and `redis-cli`.
    pub(crate) redis: Source,
}

/// Where a server comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Folder(Place),
    Image(Image),
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

    pub(crate) fn client(&self, name: &str) -> Client {
        Client { words: vec![self.program(name).into()], env: self.env.clone() }
    }
}

impl Source {
    /// How a program of it is run on this machine, whoever runs the server.
    pub(crate) fn client(&self, program: &str) -> Client {
        match self {
            Self::Folder(place) => place.client(program),
            Self::Image(image) => image.client(program),
        }
    }
}

impl Programs {
    /// Finds them on the machine, or unpacks Debian's packages under `target`, or finds a container engine.
    ///
    /// # Errors
    /// [`Error::Missing`] names the first that cannot be had, what was tried and what to do.
    pub fn find(target: &Path) -> Result<Self, Error> {
        Self::find_by(target, &Way::ALL)
    }

    /// Finds them in some ways only, the first of them first.
    ///
    /// # Errors
    /// [`Error::Missing`], as [`Self::find`].
    pub fn find_by(target: &Path, ways: &[Way]) -> Result<Self, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let search = Search { target, path: &path, ways };
        Ok(Self {
            postgres: search.find(&POSTGRES)?,
            rabbitmq: search.find(&RABBITMQ)?,
            redis: search.find(&REDIS)?,
        })
    }

    fn each(&self) -> [(&'static str, &Source); 3] {
        [(POSTGRES.what, &self.postgres), (RABBITMQ.what, &self.rabbitmq), (REDIS.what, &self.redis)]
    }

    /// Where each of them is, for a person.
    #[must_use]
    pub fn places(&self) -> [(&'static str, String); 3] {
        self.each().map(|(what, source)| match source {
            Source::Folder(place) => (what, place.bin.display().to_string()),
            Source::Image(image) => (what, format!("{} in {}", image.name, image.engine.display())),
        })
    }

    /// Which of them run in containers. These are in a network of their engine's, whoever starts them.
    #[must_use]
    pub fn in_containers(&self) -> Vec<&'static str> {
        let image = |source: &Source| matches!(source, Source::Image(_));
        self.each().into_iter().filter(|(_, source)| image(source)).map(|(what, _)| what).collect()
    }
}

/// What there is to know about a server to find it.
pub(crate) struct Product {
    pub(crate) what: &'static str,
    /// Its packages, and the folder they are unpacked to.
    package: &'static str,
    pub(crate) folder: &'static str,
    /// Named in full: Podman has no registry of its own.
    pub(crate) image: &'static str,
    installed: fn(path: &OsStr) -> Option<Place>,
    within: fn(root: &Path) -> Option<Place>,
    /// A program of it that must be one that a plain user can run.
    plain: Option<&'static str>,
}

pub(crate) const POSTGRES: Product = Product {
    what: "PostgreSQL",
    package: "postgresql",
    folder: "postgresql",
    image: "docker.io/library/postgres:17",
    installed: postgres_installed,
    within: postgres_within,
    plain: Some("postgres"),
};

pub(crate) const RABBITMQ: Product = Product {
    what: "RabbitMQ",
    package: "rabbitmq-server",
    folder: "rabbitmq",
    image: "docker.io/library/rabbitmq:4-management",
    installed: rabbitmq_installed,
    within: rabbitmq_within,
    plain: None,
};

pub(crate) const REDIS: Product = Product {
    what: "Redis",
    package: "redis-server",
    folder: "redis",
    image: "docker.io/library/redis:8",
    installed: redis_installed,
    within: redis_within,
    plain: None,
};

/// Where to look.
pub(crate) struct Search<'a> {
    pub(crate) target: &'a Path,
    pub(crate) path: &'a OsStr,
    pub(crate) ways: &'a [Way],
}

impl Search<'_> {
    /// Goes the ways until one leads to the server.
    pub(crate) fn find(&self, product: &Product) -> Result<Source, Error> {
        let mut tried = Vec::new();
        for way in self.ways {
            let found = match way {
                Way::Installed => self.installed(product).map(Source::Folder),
                Way::Unpacked => self.unpacked(product).map(Source::Folder),
                Way::Container => container::image(self.path, product.image)
                    .map(Source::Image)
                    .map_err(|why| format!("a container: {why}")),
            };
            match found {
                Ok(source) => return Ok(source),
                Err(why) => tried.push(why),
            }
        }
        Err(Error::Missing { what: product.what, tried: tried.join("\n  "), advice: ADVICE })
    }

    fn installed(&self, product: &Product) -> Result<Place, String> {
        let place = (product.installed)(self.path).ok_or("installed programs: they are not on PATH")?;
        match product.plain {
            Some(program) if !plain_user::can_run(&place, program) => Err(format!(
                "installed programs: a plain user cannot run {}",
                place.program(program).display()
            )),
            _ => Ok(place),
        }
    }

    fn unpacked(&self, product: &Product) -> Result<Place, String> {
        let failed = |error: Error| format!("Debian's packages: {error}");
        for program in ["apt-get", "dpkg-deb"] {
            if on(self.path, program).is_none() {
                return Err(format!("Debian's packages: there is no {program}"));
            }
        }
        let root = debian::unpack(self.target, product.folder, &[product.package]).map_err(failed)?;
        let place = |root: &Path| {
            let none = || format!("Debian's packages: {} holds no program of the server", root.display());
            (product.within)(root).ok_or_else(none)
        };
        let found = place(&root)?;
        match product.plain {
            Some(program) if !plain_user::can_run(&found, program) => {
                let copy = plain_user::copy_within_reach(self.target, &root).map_err(failed)?;
                let found = place(&copy)?;
                let error =
                    || format!("Debian's packages: a plain user cannot run {program} in {}", copy.display());
                plain_user::can_run(&found, program).then_some(found).ok_or_else(error)
            }
            _ => Ok(found),
        }
    }
}

fn on(path: &OsStr, program: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())?;
    // A link in a common folder leads to the folder where its siblings are.
    Some(found.canonicalize().unwrap_or(found))
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

fn postgres_installed(path: &OsStr) -> Option<Place> {
    let beside = |bin: &Path| ["postgres", "initdb", "psql"].iter().all(|name| bin.join(name).is_file());
    let path = on(path, "postgres").and_then(|program| Some(program.parent()?.to_owned()));
    let mut found = path.into_iter().chain(newest_postgres(Path::new("/usr/lib/postgresql")));
    found.find(|bin| beside(bin)).map(Place::on_the_machine)
}

fn postgres_within(root: &Path) -> Option<Place> {
    let bin = newest_postgres(&root.join("usr/lib/postgresql"))?;
    Some(Place { bin, env: libraries(root), root: Some(root.to_owned()) })
}

fn redis_installed(path: &OsStr) -> Option<Place> {
    let bin = on(path, "redis-server")?.parent()?.to_owned();
    Some(Place::on_the_machine(bin))
}

fn redis_within(root: &Path) -> Option<Place> {
    let bin = root.join("usr/bin");
    let place = Place { bin, env: libraries(root), root: Some(root.to_owned()) };
    place.program("redis-server").is_file().then_some(place)
}

/// The folder of RabbitMQ's own scripts: Debian's on PATH are wrappers that only root may use.
fn rabbitmq_home(lib: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(lib.join("rabbitmq/lib")).ok()?.flatten().map(|entry| entry.path());
    versions.max().map(|home| home.join("sbin")).filter(|bin| bin.join("rabbitmq-server").is_file())
}

fn rabbitmq_installed(path: &OsStr) -> Option<Place> {
    on(path, "erl")?;
    let own = || {
        let bin = on(path, "rabbitmq-server")?.parent()?.to_owned();
        bin.join("rabbitmq-env").is_file().then_some(bin)
    };
    rabbitmq_home(Path::new("/usr/lib")).or_else(own).map(Place::on_the_machine)
}

fn rabbitmq_within(root: &Path) -> Option<Place> {
    let erlang = root.join("usr/lib/erlang");
    let mut env = libraries(root);
    // The machine may have an Erlang without a RabbitMQ: then none was downloaded.
    if erlang.is_dir() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(erlang.join("bin")).chain(std::env::split_paths(&path)));
        env.push(("PATH".into(), path.unwrap_or_default()));
        env.push(("ERL_ROOTDIR".into(), erlang.into()));
    }
    let bin = rabbitmq_home(&root.join("usr/lib"))?;
    Some(Place { bin, env, root: Some(root.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_named_with_all_that_was_tried() {
        let (target, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let search = Search { target: target.path(), path: path.path().as_os_str(), ways: &Way::ALL };
        let error = search.find(&REDIS).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "Redis cannot be had:\n  installed programs: they are not on PATH\n  \
                 Debian's packages: there is no apt-get\n  a container: there is no docker, there is no podman\n  {ADVICE}"
            )
        );
    }

    #[test]
    fn the_images_are_those_of_the_compose_file() {
        let compose = include_str!("../../../docker-compose.yml");
        for product in [POSTGRES, RABBITMQ, REDIS] {
            let image = product.image.strip_prefix("docker.io/library/").unwrap();
            assert!(compose.contains(&format!("image: {image}\n")), "{image}");
        }
    }
}
