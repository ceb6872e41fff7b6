//! `experiments`: what came of them, and what is done to them.

use crate::cli::args::{ExperimentsArgs, ExperimentsCommand};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{experiments, json, time};
use callboard_client::v1;
use v1::score_answer_request::Answer;

/// What is said where not all is known.
const PARTIAL: &str = "other nodes' counts are not known now: these are those of the node that answered, and what it heard before";

pub(super) async fn run(context: &mut Context, args: ExperimentsArgs) -> Result<(), Failure> {
    let client = &context.client;
    let one = match args.command {
        None => return list(context).await,
        Some(ExperimentsCommand::Report(args)) => {
            let known = client.list_experiments().await?;
            if known.partial {
                context.out.hint(PARTIAL);
            }
            let names: Vec<_> = known.experiments.iter().map(|of| of.name.clone()).collect();
            let found = known.experiments.into_iter().find(|of| of.name == args.name);
            found.ok_or_else(|| {
                let (name, names) = (&args.name, names.join(", "));
                Failure::Usage(match names.is_empty() {
                    true => format!("no experiment is named `{name}`; there are none"),
                    false => format!("no experiment is named `{name}`; there are: {names}"),
                })
            })?
        }
        Some(ExperimentsCommand::Score(args)) => {
            let answer = args.arm.map(Answer::Arm).or(args.subject.map(Answer::Subject));
            let experiment = args.name.clone();
            let request = v1::ScoreAnswerRequest { experiment, answer, score: args.score };
            let arm = client.score_answer(request).await?;
            if context.out.is_json() {
                return context.out.document(&json::Scored { experiment: &args.name, arm: &arm });
            }
            return context.out.line(&format!("counted for {arm}"));
        }
        Some(ExperimentsCommand::Share(args)) => {
            let arm = args.arm.unwrap_or_default();
            let request = v1::SetExperimentShareRequest {
                name: args.name,
                arm,
                share: args.share,
                reason: args.reason,
            };
            client.set_experiment_share(request).await?
        }
        Some(ExperimentsCommand::Rollback(args)) => {
            let request = v1::RollBackExperimentRequest { name: args.name, reason: args.reason };
            client.roll_back_experiment(request).await?
        }
        Some(ExperimentsCommand::Reset(args)) => client.reset_experiment(&args.name).await?,
    };
    if context.out.is_json() {
        return context.out.document(&json::Experiment::from(&one));
    }
    context.out.text(&experiments::experiments(
        &[one],
        time::now(),
        context.out.palette(),
        context.out.width(),
    ))
}

async fn list(context: &mut Context) -> Result<(), Failure> {
    let known = context.client.list_experiments().await?;
    if known.partial {
        context.out.hint(PARTIAL);
    }
    let list = known.experiments;
    if context.out.is_json() {
        return context.out.document(&json::Experiments::from(&*list));
    }
    let (palette, width) = (context.out.palette(), context.out.width());
    context.out.text(&experiments::experiments(&list, time::now(), palette, width))
}
