//! The command that makes a key for the OpenAI-compatible endpoint, on this machine.

use super::args::{Global, KeysArgs, KeysCommand};
use super::failure::Failure;
use super::output::{Out, keys};
use crate::config::KeyHash;
use callboard_domain::limits;
use std::process::ExitCode;

/// What a key begins with, so that it is known for one where it is found.
const PREFIX: &str = "cb-";

/// Makes a key: 256 random bits, so that its hash needs no salt.
pub(super) fn run(args: &KeysArgs, global: &Global) -> Result<ExitCode, Failure> {
    let KeysCommand::New(args) = &args.command;
    if args.name.is_empty() || args.name.len() > limits::NAME_CHARS {
        return Err(Failure::Usage(format!("the name must be 1 to {} characters", limits::NAME_CHARS)));
    }
    let key = format!("{PREFIX}{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let made = keys::Made { name: &args.name, hash: KeyHash::of(&key).to_string(), key, admin: args.admin };
    let mut out = Out::new(global)?;
    match out.is_json() {
        true => out.document(&made)?,
        false => out.text(&keys::render(&made))?,
    }
    Ok(ExitCode::SUCCESS)
}
