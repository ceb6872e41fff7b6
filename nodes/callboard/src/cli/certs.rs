//! The command that makes certificates, on this machine.

use super::args::{CertsArgs, CertsCommand, CertsInitArgs, Global};
use super::failure::Failure;
use super::output::{Out, certs};
use crate::certs::{Error, Node, Request, init};
use std::process::ExitCode;

/// Makes certificates.
pub(super) fn run(args: CertsArgs, global: &Global) -> Result<ExitCode, Failure> {
    let CertsCommand::Init(args) = args.command;
    let mut out = Out::new(global)?;
    let made = init(&request(args)?).map_err(|error| match error {
        Error::Name(_) | Error::Exists(_) => Failure::Usage(error.to_string()),
        other => Failure::Local(other.into()),
    })?;
    if out.is_json() {
        out.document(&certs::Json::from(&made))?;
    } else {
        out.text(&certs::render(&made))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: CertsInitArgs) -> Result<Request, Failure> {
    let mut nodes: Vec<_> = args.nodes.into_iter().map(|name| Node { name, addresses: Vec::new() }).collect();
    match nodes.as_mut_slice() {
        [node] => node.addresses = args.addresses,
        _ if args.addresses.is_empty() => {}
        _ => return Err(Failure::Usage("--address belongs to one node: give --node once with it".into())),
    }
    let today = chrono::Utc::now().date_naive();
    // The paths are for configurations, which other programs read from other folders.
    let folder = std::path::absolute(&args.out).unwrap_or(args.out);
    Ok(Request { folder, nodes, days: args.days, force: args.force, today })
}
