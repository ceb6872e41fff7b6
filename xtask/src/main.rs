//! Every habit of this repository as a command: `cargo xtask help` lists them.
//!
//! Each command is one short file. Of the workspace only `callboard-services` is used, which stands on nothing:
//! so the checks still run while the product does not compile.

mod bench;
mod checks;
mod ci;
mod faults;
mod fuzz;
mod jaeger;
mod loadtest;
mod openai_clients;
mod planted;
mod replicas;
mod servers;
mod services;
mod shell;
mod test;
mod workspace;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND [ARGS]

commands:
  test [--all] [ARGS]
                 run every test this machine can run, with servers of its own; ARGS go to `cargo test`.
                 With --all, a test that cannot be run here is a failure
  ci [CHECKS]    run the checks that every change must pass, or only those that are named
  services up|down|status
                 PostgreSQL, RabbitMQ and Redis on private ports, for a cluster by hand
  faults [--seed N] [--short] [--tasks N]
                 three replicas, real servers, and faults that hit their windows; needs root
  fuzz [--seconds N] [TARGETS]
                 any bytes on the parsers of what providers send, each for a minute; needs cargo-fuzz
  planted        deliberate bugs, each of which a test must find
  bench [ARGS]   measure the embedded node in a release build; ARGS go to the bench
  bench --gateway [--runs N] [--calls N]
                 measure the OpenAI-compatible endpoint on a core of its own, beside a bare pass-through
  loadtest [NAME [--duration D] [--rate N] [--keep DIR] [--no-build]]
                 a k6 script against three replicas, with charts; without a name, lists the scripts
  jaeger [--keep] [--no-build]
                 campaigns on three replicas, and whether each is one trace in a real Jaeger
  openai-clients OpenAI's own clients, of Python and Node.js, against the endpoint that speaks its API
  help           print this

examples:
  cargo xtask test
  cargo xtask test lifecycle          only the tests with `lifecycle` in their name
  eval \"$(cargo xtask services up)\"  and then: callboard up --config deploy/cluster.toml
  cargo xtask ci
  cargo xtask ci arrows marks         only these two of the checks";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = args.collect();
    let outcome = match command.as_str() {
        "test" => test::run(&rest),
        "ci" => ci::run(&rest),
        "services" => services::run(&rest),
        "faults" => faults::run(&rest),
        "fuzz" => fuzz::run(&rest),
        "planted" => planted::run(&rest),
        "bench" => bench::run(&rest),
        "loadtest" => loadtest::run(&rest),
        "jaeger" => jaeger::run(&rest),
        "openai-clients" => openai_clients::run(),
        "help" | "-h" | "--help" => {
            shell::say(HELP);
            Ok(())
        }
        other => Err(anyhow::anyhow!("there is no command `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::complain(&format!("xtask {command}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
