//! Jaeger: where it comes from, and one that runs.

use crate::replicas::guard::{Guard, Guarded};
use crate::replicas::{self, http, last_words};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is built. The container of `docker-compose.yml` is of the same version; a test compares them.
const VERSION: &str = "1.76.0";
const MODULE: &str = "github.com/jaegertracing/jaeger";
/// How long it may take to answer; a container's image may have to be fetched first.
const READY_WITHIN: Duration = Duration::from_secs(180);
const PAGE_WITHIN: Duration = Duration::from_secs(5);
/// Its ports in the container.
const OTLP: u16 = 4317;
const QUERY: u16 = 16686;

/// How it can be had here.
#[derive(Debug)]
pub(super) enum Program {
    /// A binary of our own, under `target`.
    Built(PathBuf),
    /// The service `jaeger` of `docker-compose.yml`.
    Compose,
}

/// One that runs. It ends when this is dropped.
pub(super) struct Jaeger {
    /// Where it takes spans.
    pub(super) otlp: SocketAddr,
    /// Where it answers, and has its pages.
    pub(super) query: SocketAddr,
    /// The container, if it is one: what is killed with the process is only the client of its engine.
    _container: Option<Container>,
    _process: Guarded,
}

struct Container(String);

impl Program {
    /// Takes the one in `target`, or builds it there, or takes the container.
    ///
    /// # Errors
    /// There is neither Go nor Docker Compose, or the build fails.
    pub(super) fn find(target: &Path) -> Result<Self> {
        let binary = target.join(format!("jaeger-{VERSION}"));
        if binary.is_file() {
            return Ok(Self::Built(binary));
        }
        if answers("go", &["version"]) {
            build(target, &binary)?;
            return Ok(Self::Built(binary));
        }
        if answers("docker", &["compose", "version"]) {
            return Ok(Self::Compose);
        }
        bail!(missing());
    }

    /// For a person.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Built(path) => format!("Jaeger {VERSION}, {}", path.display()),
            Self::Compose => format!("Jaeger {VERSION}, in a container"),
        }
    }

    /// Starts one on free ports of the loopback address, with its spans in memory, and waits until it answers.
    ///
    /// # Errors
    /// It does not: what it said is in the error.
    pub(super) fn start(&self, guard: &Guard, root: &Path, log: &Path) -> Result<Jaeger> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let ports = replicas::ports(7)?;
        let at = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[index]));
        let (otlp, query) = (at(0), at(1));
        let (mut command, container) = match self {
            Self::Built(path) => {
                let mut command = Command::new(path);
                command.env("SPAN_STORAGE_TYPE", "memory");
                // All that it listens on, also what nobody uses here: its own ports may be another's, and reach
                // further than this machine.
                for (index, name) in [
                    "collector.otlp.grpc.host-port",
                    "query.http-server.host-port",
                    "query.grpc-server.host-port",
                    "collector.otlp.http.host-port",
                    "collector.grpc-server.host-port",
                    "collector.http-server.host-port",
                    "admin.http.host-port",
                ]
                .iter()
                .enumerate()
                {
                    command.arg(format!("--{name}={}", at(index)));
                }
                (command, None)
            }
            Self::Compose => {
                let name = format!("callboard-jaeger-{}", std::process::id());
                let mut command = Command::new("docker");
                command.current_dir(root).args(["compose", "run", "--rm", "--no-deps", "--name", &name]);
                for (host, inside) in [(otlp, OTLP), (query, QUERY)] {
                    command.args(["--publish", &format!("{host}:{inside}")]);
                }
                command.arg("jaeger");
                guard.remove_container(&name);
                (command, Some(Container(name)))
            }
        };
        command.stdout(file.try_clone()?).stderr(file);
        let mut process = guard.spawn(&mut command)?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            let runs = process.runs()?;
            let ready = http::get(query, "/api/services", PAGE_WITHIN)
                .and_then(|_| TcpStream::connect_timeout(&otlp, PAGE_WITHIN).context("no port for spans"));
            match ready {
                Ok(_) => break,
                Err(error) if !runs || Instant::now() > until => {
                    bail!("Jaeger does not answer: {error:#}\n{}", last_words(log));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        Ok(Jaeger { otlp, query, _container: container, _process: process })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The guard does it too, should this process end in another way.
        let _ = Command::new("docker").args(["rm", "--force", &self.0]).output();
    }
}

impl Jaeger {
    /// What it answers to a query; none if it has nothing of that kind.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn ask(&self, page: &str) -> Result<Option<String>> {
        match http::get(self.query, page, PAGE_WITHIN) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.to_string().contains(" 404 ") => Ok(None),
            Err(error) => Err(error.context("Jaeger does not answer")),
        }
    }

    /// Where a person looks at it.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.query)
    }
}

fn missing() -> String {
    format!(
        "there is no Jaeger, and nothing to have it with. One of these is needed:\n  Go 1.25 or newer (https://go.dev/dl, \
         Debian: apt-get install golang), to build {MODULE} {VERSION}\n  Docker with Compose, to take the service \
         `jaeger` of docker-compose.yml"
    )
}

fn answers(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Builds it as a package that a module of our own requires: `go install` refuses a module with a `replace`, which
/// Jaeger has. The module proxy's checksums hold all the same.
fn build(target: &Path, binary: &Path) -> Result<()> {
    shell::complain(&format!("building Jaeger {VERSION} with Go, once: this takes some minutes"));
    let folder = target.join("build");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot write {}", folder.display()))?;
    let package = format!("{MODULE}/cmd/all-in-one");
    let part = folder.join("jaeger");
    let go = |args: &[&str]| {
        let mut command = Command::new("go");
        // A workspace that this checkout may lie in is none of its business.
        command.current_dir(&folder).args(args).env("GOWORK", "off");
        shell::read(command)
    };
    go(&["mod", "init", "callboard-jaeger"])?;
    go(&["get", &format!("{package}@v{VERSION}")])?;
    // Without symbols it is half as large.
    go(&["build", "-trimpath", "-ldflags", "-s -w", "-o", &part.display().to_string(), &package])?;
    fs::rename(&part, binary).with_context(|| format!("cannot write {}", binary.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_of_the_version_that_is_built() {
        let compose = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker-compose.yml");
        let compose = fs::read_to_string(compose).unwrap();
        assert!(compose.contains(&format!("image: jaegertracing/all-in-one:{VERSION}\n")), "{compose}");
    }

    #[test]
    fn a_program_answers_or_is_not_there() {
        assert!(answers("rustc", &["--version"]));
        assert!(!answers("rustc", &["no-such-file-of-callboard"]));
        assert!(!answers("no-such-program-of-callboard", &[]));
    }
}
