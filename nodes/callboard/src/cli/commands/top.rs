//! `top`: samples, and what changed between them.

use crate::cli::args::TopArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::top::{self, Rates, Sample};
use crate::cli::output::{style, time};
use callboard_client::{Client, Error};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The shortest span between two samples: `top` must not become the load.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &mut Context, args: TopArgs) -> Result<(), Failure> {
    if args.interval < SHORTEST {
        return Err(Failure::Usage("--interval must be at least 100ms".to_owned()));
    }
    // To interrupt it is how it is meant to end.
    context.interruption().set(String::new());
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut last = sample(&context.client).await?;
    if !args.once {
        show(context, &args, &last, None)?;
    }
    loop {
        ticks.tick().await;
        let now = match sample(&context.client).await {
            Ok(now) => now,
            Err(error) if args.once => return Err(error.into()),
            Err(error) => {
                // The node may be about to come back.
                context.out.note(&style::clean(&error.to_string()));
                continue;
            }
        };
        show(context, &args, &now, Rates::between(&last, &now))?;
        if args.once {
            return Ok(());
        }
        last = now;
    }
}

async fn sample(client: &Client) -> Result<Sample, Error> {
    let (cluster, nodes) = tokio::try_join!(client.cluster(), client.nodes())?;
    let slots = nodes.iter().fold((0, 0), |(all, used), n| (all + n.slots, used + n.slots_used));
    Ok(Sample { at: time::now(), cluster, slots })
}

fn show(context: &mut Context, args: &TopArgs, sample: &Sample, rates: Option<Rates>) -> Result<(), Failure> {
    let out = &mut context.out;
    match (out.is_json(), args.once) {
        (true, true) => out.document(&top::Json::new(sample, rates)),
        (true, false) => out.record(&top::Json::new(sample, rates)),
        (false, true) => out.text(&top::screen(sample, rates, out.palette(), None)),
        (false, false) if out.is_terminal() => {
            out.frame(&top::screen(sample, rates, out.palette(), out.width()))
        }
        (false, false) => out.line(&top::line(sample, rates)),
    }
}
