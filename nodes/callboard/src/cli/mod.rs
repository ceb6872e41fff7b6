//! The command line: parses arguments, talks to a node through the client library, prints.
//!
//! Invariants:
//! - Only `output` writes to the terminal, and what it renders is a pure function of the answer and of now.
//! - Standard output holds what was asked for; hints, progress and errors go to standard error.
//! - A reader that goes away (`callboard list | head -1`) is no error.
//! - Text that comes from a server reaches a terminal without its control characters.
//!
//! It runs no node: that is `crate::up`, `crate::demo` and `crate::node`.

pub mod args;
mod certs;
mod commands;
mod context;
mod failure;
mod invocation;
mod keys;
mod local;
pub mod output;
pub mod values;

pub use failure::Failure;
pub use invocation::program;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use context::Context;
use output::Out;
use std::process::ExitCode;

/// Runs the command line of this process, to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone needs no help text.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let program = program();
    output::set_color(cli.global.color);
    run(cli, &program).unwrap_or_else(|failure| {
        output::report(&failure, &program);
        failure.exit_code()
    })
}

fn run(cli: Cli, program: &str) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Up(args) => Ok(local::up(&args, &global, program)?),
        Command::Demo(args) => Ok(crate::demo::run(&args).map_err(Failure::Local)?),
        Command::Config(args) => local::config(args, &global),
        Command::Certs(args) => certs::run(args, &global),
        Command::Keys(args) => keys::run(&args, &global),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "callboard", &mut script);
            Out::new(&global)?.bytes(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Remote(command) => remote(command, &global, program),
    }
}

/// Runs a command that talks to a node.
fn remote(command: args::Remote, global: &args::Global, program: &str) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Local(anyhow::anyhow!("cannot start: {e}")))?;
    let result = runtime.block_on(async {
        let mut context = Context::new(&command, global, program)?;
        let note = context.interruption();
        tokio::select! {
            result = commands::run(&mut context, command) => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(note.take())),
        }
    });
    // A read of standard input that is still open must not keep the process.
    runtime.shutdown_background();
    result
}
