//! Experiments: each subject goes one way, always the same, and what comes of it is counted for each.
//!
//! The arm of a subject is that with the best score of a hash over experiment, arm and subject, weighted by share. So it is the
//! same on every node and after every restart, and an arm whose share grows takes subjects from the others and gives none
//! away. Shares are those of the configuration until an admin sets others: see [`shares`].
//!
//! What comes of an arm is counted by each process for itself, and summed up over all of them: see [`book`].

mod admin;
mod book;
mod shares;
mod stats;
mod sums;
mod verdict;
mod wire;

pub use admin::Scored;
pub(crate) use book::Book;
pub use stats::Moments;
pub(crate) use wire::{experiment_to_proto, scored_from_proto};

use crate::config::{ArmConfig, Config, Experiment, Subject};
use crate::route::{Piece, PieceStream, arm_score};
use crate::shared::Records;
use callboard_domain::llm::{Error, ErrorKind, Summary, TextRequest, TextResponse, Trial};
use callboard_domain::provider_record::{Subject as About, Topic};
use callboard_domain::{Money, Timestamp};
use callboard_runtime::mesh;
use futures::StreamExt as _;
use shares::Shares;
use std::sync::Arc;
use sums::{MOST_SCORE, Sums};
use tokio::time::Instant;

/// An arm of an experiment, what came of its calls, and how it compares with the first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmStatus {
    /// Its name.
    pub name: String,
    /// Its share of the subjects in the configuration, relative to the others'.
    pub share: u32,
    /// Its share of the subjects now, from 0 to 1.
    pub fraction: f64,
    /// What came of its calls on all nodes, as far as this one has heard.
    pub tally: Tally,
    /// What came of its calls on this node since it started.
    pub own: Tally,
    /// How likely a difference in success as large as that to the first arm is by chance, 0 to 1; `None`: nothing can be said.
    pub success_chance: Option<f64>,
    /// The same of the difference in time.
    pub seconds_chance: Option<f64>,
    /// The same of the difference in what a call costs.
    pub cost_chance: Option<f64>,
    /// The same of the difference in score.
    pub score_chance: Option<f64>,
    /// What can be said of it beside the first, in a sentence; empty of the first.
    pub verdict: String,
}

/// That an admin has set the shares of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharesSet {
    /// Why, as the admin said.
    pub reason: String,
    /// The name of the admin's key; empty where none is needed.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// Whether they are not in force, as the experiment has other arms by now.
    pub outdated: bool,
}

/// An experiment and its arms.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentStatus {
    /// Its name.
    pub name: String,
    /// Its shares are those of the configuration, unless an admin has set others.
    pub set: Option<SharesSet>,
    /// Its arms, in their order.
    pub arms: Vec<ArmStatus>,
}

/// What came of the calls of an arm. Answers that no provider gave for a call are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// How many were answered.
    pub successes: u64,
    /// How many failed; not those that were wrong themselves.
    pub failures: u64,
    /// How long those that were answered took, in seconds; streams, until their end.
    pub seconds: Moments,
    /// The tokens that they took, of prompts and answers.
    pub tokens: u64,
    /// What they cost, as far as their models have prices.
    pub cost: Money,
    /// What each of those cost that have a price, in US dollars.
    pub dollars: Moments,
    /// How good answers were, as was reported later.
    pub score: Moments,
}

/// The experiments.
pub(crate) struct Experiments {
    list: Vec<Running>,
}

#[derive(Clone)]
struct Running {
    config: Experiment,
    /// The weight of each arm, from its share.
    weights: Vec<f64>,
    set: Option<SharesSet>,
    /// Where the calls of each arm are counted.
    arms: Vec<book::Arm>,
}

/// A call that is part of an experiment: what is asked instead, and where it is counted.
pub(crate) struct Part {
    pub(crate) request: TextRequest,
    pub(crate) counted: Counted,
}

/// Where a call is counted.
pub(crate) struct Counted {
    experiments: Arc<Experiments>,
    experiment: usize,
    arm: usize,
    began: Instant,
    trial: Trial,
}

impl Experiments {
    /// Those of a configuration. What came of an arm so far stays, if there was one of its name.
    pub(crate) fn new(config: &Config, book: &Book, records: &Records) -> Arc<Self> {
        let running = |experiment: &Experiment| {
            let arms = experiment.arms.iter().map(|arm| book.arm(&experiment.name, &arm.name));
            Running::new(experiment.clone(), arms.collect(), records)
        };
        Arc::new(Self { list: config.experiments.iter().map(running).collect() })
    }

    /// The same with the shares that are known now.
    pub(crate) fn with_shares(&self, records: &Records) -> Arc<Self> {
        let running = |Running { config, arms, .. }| Running::new(config, arms, records);
        Arc::new(Self { list: self.list.iter().cloned().map(running).collect() })
    }

    /// Puts a call into an arm, if it names an experiment as its model.
    ///
    /// # Errors
    /// It names a provider, and the arm leads to another one.
    pub(crate) fn part(self: &Arc<Self>, request: &TextRequest) -> Result<Option<Part>, Error> {
        let Some(name) = request.model.as_deref() else { return Ok(None) };
        let Some((experiment, running)) = self.named(name) else { return Ok(None) };
        let config = &running.config;
        let arm = arm_of(config, &running.weights, &subject(config.subject, request));
        let Some(chosen) = config.arms.get(arm) else { return Ok(None) };
        if let (Some(asked), Some(leads)) = (&request.provider, &chosen.provider)
            && asked != leads
        {
            let arm = &chosen.name;
            let message = format!(
                "the arm `{arm}` of the experiment `{name}` leads to {leads}, not to {asked}: name no provider with an experiment"
            );
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        let trial = Trial { experiment: name.to_owned(), arm: chosen.name.clone() };
        let counted = Counted {
            experiments: Arc::clone(self),
            experiment,
            arm,
            began: Instant::now(),
            trial: trial.clone(),
        };
        Ok(Some(Part { request: instead(request, chosen, trial), counted }))
    }

    fn count(&self, experiment: usize, arm: usize, what: impl FnOnce(&mut Sums)) {
        if let Some(arm) = self.list.get(experiment).and_then(|running| running.arms.get(arm)) {
            arm.count(what);
        }
    }

    fn named(&self, name: &str) -> Option<(usize, &Running)> {
        self.list.iter().enumerate().find(|(_, running)| running.config.name == name)
    }

    pub(crate) fn status(&self) -> Vec<ExperimentStatus> {
        self.list.iter().map(Running::status).collect()
    }
}

/// What the shares of an experiment are kept as.
fn about(experiment: &str) -> About {
    About { model: experiment.to_owned(), ..About::of(Topic::Experiment, "") }
}

impl Running {
    fn new(config: Experiment, arms: Vec<book::Arm>, records: &Records) -> Self {
        let record = records.get(&about(&config.name)).filter(|record| !record.value.is_empty());
        let weights = record.as_ref().and_then(|record| Shares::parse(&record.value)?.weights(&config));
        let set = record.map(|record| SharesSet {
            reason: record.note,
            author: record.author,
            at: record.at,
            outdated: weights.is_none(),
        });
        let weights = weights.unwrap_or_else(|| config.arms.iter().map(|arm| f64::from(arm.share)).collect());
        Self { config, weights, set, arms }
    }

    fn status(&self) -> ExperimentStatus {
        let tallies: Vec<_> = self.arms.iter().map(|arm| arm.read()).collect();
        let first = tallies.first().map(|(_, all)| all.tally()).unwrap_or_default();
        let shares = |tally: &Tally| (tally.successes, tally.successes + tally.failures);
        let weight: f64 = self.weights.iter().sum();
        let arm = |(i, (arm, (own, all))): (usize, (&ArmConfig, (Sums, Sums)))| {
            let tally = all.tally();
            // The first is what the others are compared with.
            let compared = |of: fn(&Tally) -> &Moments| {
                (i > 0).then(|| stats::means_differ(of(&first), of(&tally))).flatten()
            };
            ArmStatus {
                name: arm.name.clone(),
                share: arm.share,
                fraction: self.weights[i] / weight,
                success_chance: (i > 0)
                    .then(|| stats::proportions_differ(shares(&first), shares(&tally)))
                    .flatten(),
                seconds_chance: compared(|tally| &tally.seconds),
                cost_chance: compared(|tally| &tally.dollars),
                score_chance: compared(|tally| &tally.score),
                own: own.tally(),
                tally,
                verdict: String::new(),
            }
        };
        let mut arms: Vec<_> = self.config.arms.iter().zip(tallies).enumerate().map(arm).collect();
        verdict::judge(&mut arms);
        ExperimentStatus { name: self.config.name.clone(), set: self.set.clone(), arms }
    }
}

impl Counted {
    /// The call has an answer.
    fn answered(&self, summary: &mut Summary) {
        summary.trial = Some(self.trial.clone());
        if summary.from_cache.is_some() {
            return;
        }
        let (took, usage, cost) = (self.began.elapsed(), summary.usage, summary.cost.as_ref());
        let tokens = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
        self.experiments.count(self.experiment, self.arm, |sums| {
            sums.answered(took, tokens, cost.map(|cost| cost.amount));
        });
    }

    /// The call has failed.
    fn failed(&self, error: &Error) {
        if error.kind.allows_fallback() {
            self.experiments.count(self.experiment, self.arm, Sums::failed);
        }
    }

    /// Says of an answer that it is of this arm, and counts it.
    pub(crate) fn text(&self, mut answer: Result<TextResponse, Error>) -> Result<TextResponse, Error> {
        match &mut answer {
            Ok(answer) => self.answered(&mut answer.summary),
            Err(error) => self.failed(error),
        }
        answer
    }

    /// The same of a stream, at its end. One that its caller drops before is not counted.
    pub(crate) fn stream(self, stream: Result<PieceStream, Error>) -> Result<PieceStream, Error> {
        let stream = stream.inspect_err(|error| self.failed(error))?;
        let pieces = stream.map(move |mut piece| {
            match &mut piece {
                Ok(Piece::Begin(summary)) => summary.trial = Some(self.trial.clone()),
                Ok(Piece::End(summary)) => self.answered(summary),
                Ok(_) => {}
                Err(error) => self.failed(error),
            }
            piece
        });
        Ok(pieces.boxed())
    }
}

/// The arm of a subject, with the weight of each arm; the first without a subject.
fn arm_of(experiment: &Experiment, weights: &[f64], subject: &str) -> usize {
    if subject.is_empty() {
        return 0;
    }
    let score = |(arm, weight): (&ArmConfig, &f64)| arm_score(&experiment.name, &arm.name, *weight, subject);
    let scores = experiment.arms.iter().zip(weights).map(score).enumerate();
    scores.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(arm, _)| arm)
}

/// What decides on the arm of a call; empty if it has nothing of the kind.
fn subject(kind: Subject, request: &TextRequest) -> String {
    let mesh::Context { namespace, fence, .. } = mesh::current();
    let task = || fence.map(|fence| fence.task_id).filter(|id| !id.is_empty());
    match kind {
        Subject::User => request.subject.clone().or_else(task).unwrap_or(namespace),
        Subject::Task => task().or_else(|| request.subject.clone()).unwrap_or(namespace),
        Subject::Key => namespace,
    }
}

/// What is asked in an arm. A provider that the call names itself stays, on the arm's route.
fn instead(request: &TextRequest, arm: &ArmConfig, trial: Trial) -> TextRequest {
    TextRequest {
        model: arm.route.clone().or_else(|| arm.model.clone()),
        provider: arm.provider.clone().or_else(|| request.provider.clone()),
        trial: Some(trial),
        ..request.clone()
    }
}

#[cfg(test)]
mod tests;
