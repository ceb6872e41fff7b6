//! Servers in containers, for machines that have neither the programs nor apt, but Docker or Podman.
//!
//! A container belongs to its engine, not to whoever starts it, so the guardian removes it. The engine's client
//! runs in the foreground under the guardian, not with `--detach`: so the container's log comes to a file, and
//! it is seen at once when it ends. It is not run with `--rm`: a killed server must keep its data.
//!
//! Tested against a program that plays Docker's part and writes down how it is called; that the images
//! themselves behave as the packages do is not covered by tests.

use crate::Error;
use crate::guard::{Leaves, Spec, run};
use crate::instance::{Client, Instance};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The engines that are looked for, in this order.
const ENGINES: [&str; 2] = ["docker", "podman"];

/// Finds them all: `docker ps --all --filter label=callboard.test-server`.
const LABEL: &str = "callboard.test-server";

/// An image of a server, on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) engine: PathBuf,
    pub(crate) name: &'static str,
}

/// What a container is run with, beside its image.
pub(crate) struct Options<'a> {
    /// The kind of server, in the container's name.
    pub(crate) kind: &'a str,
    /// On the loopback address. Fixed: a port that the engine chooses is another after each start.
    pub(crate) port: u16,
    /// The port of the server in the container.
    pub(crate) inside: u16,
    /// For the engine.
    pub(crate) options: &'a [&'a str],
    /// For the image.
    pub(crate) args: &'a [&'a str],
}

/// A container that is there, or will be.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    engine: PathBuf,
    name: String,
    run: Vec<OsString>,
}

/// The first engine on `path` that answers and has the image, or gets it.
///
/// # Errors
/// What was tried, and why it does not work.
pub(crate) fn image(path: &OsStr, name: &'static str) -> Result<Image, String> {
    let mut tried = Vec::new();
    for engine in ENGINES {
        let Some(program) =
            std::env::split_paths(path).map(|dir| dir.join(engine)).find(|file| file.is_file())
        else {
            tried.push(format!("there is no {engine}"));
            continue;
        };
        let image = Image { engine: program, name };
        match image.get() {
            Ok(()) => return Ok(image),
            Err(error) => tried.push(error),
        }
    }
    Err(tried.join(", "))
}

impl Image {
    fn get(&self) -> Result<(), String> {
        let ask = |args: &[&str]| run(Command::new(&self.engine).args(args));
        let short = |error: Error| match error {
            Error::Failed { output, .. } => output.lines().last().unwrap_or_default().trim().to_owned(),
            other => other.to_string(),
        };
        let engine = self.engine.file_name().unwrap_or_default().to_string_lossy();
        ask(&["info"]).map_err(|error| format!("`{engine} info` fails ({})", short(error)))?;
        if ask(&["image", "inspect", self.name]).is_ok() {
            return Ok(());
        }
        let pulled = ask(&["pull", self.name]);
        pulled.map(drop).map_err(|error| format!("`{engine} pull {}` fails ({})", self.name, short(error)))
    }

    /// A server of this image. It does not run yet.
    pub(crate) fn instance(
        &self,
        what: &'static str,
        folder: &Path,
        options: &Options<'_>,
    ) -> (Instance, Container) {
        // Nobody else has a name with this process and a port that it was given.
        let name = format!("callboard-{}-{}-{}", options.kind, std::process::id(), options.port);
        let publish = format!("127.0.0.1:{}:{}", options.port, options.inside);
        let words = ["run", "--name", &name, "--label", LABEL, "--publish", &publish];
        let words = words.iter().chain(options.options).chain([&self.name]).chain(options.args);
        let run = words.map(Into::into).collect();
        let container = Container { engine: self.engine.clone(), name, run };
        (Instance::container(what, container.clone(), folder), container)
    }

    /// Runs one of the image's programs in a container of its own that sees this machine's network.
    pub(crate) fn client(&self, program: &str) -> Client {
        let words = ["run", "--rm", "--label", LABEL, "--network", "host", self.name, program];
        let words = std::iter::once(self.engine.clone().into()).chain(words.map(Into::into));
        Client { words: words.collect(), env: Vec::new() }
    }
}

impl Container {
    /// Makes it and stays with it.
    pub(crate) fn run(&self, folder: &Path) -> Spec {
        Spec {
            program: self.engine.clone().into(),
            args: self.run.clone(),
            env: Vec::new(),
            folder: folder.to_owned(),
            leaves: Leaves {
                container: Some((self.engine.clone(), self.name.clone())),
                ..Leaves::folder(folder)
            },
        }
    }

    /// Starts it again and stays with it.
    pub(crate) fn start(&self, spec: &Spec) -> Spec {
        let args = ["start", "--attach", &self.name].map(Into::into).to_vec();
        Spec { args, ..spec.clone() }
    }

    /// Tells the engine what to do with it: `kill`, `pause`, `unpause`.
    pub(crate) fn command(&self, command: &str) -> Result<(), Error> {
        run(Command::new(&self.engine).args([command, &self.name])).map(drop)
    }

    /// Runs a program in it.
    pub(crate) fn client(&self, program: &str) -> Client {
        let words = ["exec", &self.name, program].map(Into::into);
        Client { words: std::iter::once(self.engine.clone().into()).chain(words).collect(), env: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
