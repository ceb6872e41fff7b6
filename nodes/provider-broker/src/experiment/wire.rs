//! Experiments as they go over the wire.

use super::{ArmStatus, ExperimentStatus, Scored, SharesSet};
use callboard_contracts::v1;
use callboard_domain::{Code, Error, convert};
use v1::score_answer_request::Answer;

fn arm_to_proto(arm: ArmStatus) -> v1::ExperimentArm {
    v1::ExperimentArm {
        name: arm.name,
        share: arm.share,
        fraction: arm.fraction,
        successes: arm.tally.successes,
        failures: arm.tally.failures,
        mean_seconds: arm.tally.seconds.mean,
        tokens: arm.tally.tokens,
        cost_picodollars: arm.tally.cost.picodollars(),
        mean_dollars: arm.tally.dollars.mean,
        scores: arm.tally.score.count,
        mean_score: arm.tally.score.mean,
        success_chance: arm.success_chance,
        seconds_chance: arm.seconds_chance,
        cost_chance: arm.cost_chance,
        score_chance: arm.score_chance,
        verdict: arm.verdict,
    }
}

pub(crate) fn experiment_to_proto(status: ExperimentStatus) -> v1::Experiment {
    let shares = |SharesSet { reason, author, at, outdated }| v1::ExperimentShares {
        reason,
        author,
        at: Some(convert::time_to_proto(at)),
        outdated,
    };
    v1::Experiment {
        name: status.name,
        arms: status.arms.into_iter().map(arm_to_proto).collect(),
        shares: status.set.map(shares),
    }
}

pub(crate) fn scored_from_proto(answer: Option<&Answer>) -> Result<Scored<'_>, Error> {
    match answer {
        Some(Answer::Arm(name)) => Ok(Scored::Arm(name)),
        Some(Answer::Subject(subject)) => Ok(Scored::Subject(subject)),
        None => Err(Error::field(Code::InvalidArgument, "arm", "must be set, or subject")),
    }
}
