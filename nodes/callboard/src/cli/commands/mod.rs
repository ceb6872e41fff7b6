//! The commands that talk to a node: ask, and hand the answer to `output`.

mod artifact;
mod batch;
mod cache;
mod cluster;
mod doctor;
mod embed;
mod experiments;
mod follow;
mod generate;
mod image;
mod input;
mod providers;
mod submit;
mod task;
mod top;

use super::args::{ArtifactCommand, Remote};
use super::context::Context;
use super::failure::Failure;
use std::process::ExitCode;

pub(super) async fn run(context: &mut Context, command: Remote) -> Result<ExitCode, Failure> {
    match command {
        Remote::Submit(args) => submit::run(context, args).await,
        Remote::List(args) => task::list(context, args).await,
        Remote::Get(args) => task::get(context, args).await,
        Remote::Watch(args) => follow::watch(context, &args.id, args.from_start.then_some(0)).await,
        Remote::Wait(args) => follow::wait_within(context, &args.id, args.timeout).await,
        Remote::Cancel(args) => task::cancel(context, args).await,
        Remote::Retry(args) => task::retry(context, args).await,
        Remote::Result(args) => task::result(context, args).await,
        Remote::Artifact(args) => match args.command {
            ArtifactCommand::Get(args) => artifact::get(context, args).await,
        },
        Remote::Events(args) => task::events(context, args).await,
        Remote::Generate(args) => generate::run(context, args).await,
        Remote::Embed(args) => embed::run(context, args).await,
        Remote::Image(args) => image::run(context, args).await,
        Remote::Top(args) => top::run(context, args).await,
        Remote::Nodes(_) => cluster::nodes(context).await,
        Remote::Drain(args) => cluster::drain(context, args).await,
        Remote::LogLevel(args) => cluster::log_level(context, args).await,
        Remote::Health(_) => cluster::health(context).await,
        Remote::Providers(args) => providers::run(context, args).await,
        Remote::Cache(args) => cache::run(context, args).await,
        Remote::Experiments(args) => experiments::run(context, args).await,
        Remote::Kinds(args) => cluster::kinds(context, args).await,
        Remote::Alerts(args) => cluster::alerts(context, args).await,
        Remote::Doctor(args) => doctor::run(context, args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
