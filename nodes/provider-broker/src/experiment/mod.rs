//! Experiments: each subject goes one way, always the same, and what comes of it is counted for each.
//!
//! The arm of a subject is that with the best score of a hash over experiment, arm and subject, weighted by share. So it is the
//! same on every node and after every restart, and an arm whose share grows takes subjects from the others and gives none
//! away.

mod stats;

pub use stats::Moments;

use crate::config::{ArmConfig, Config, Experiment, Subject};
use crate::route::{Piece, PieceStream, arm_score};
use callboard_domain::Money;
use callboard_domain::llm::{Error, Summary, TextRequest, TextResponse, Trial};
use callboard_runtime::mesh;
use futures::StreamExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// An arm of an experiment, what came of its calls on this node, and how it compares with the first.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmStatus {
    /// Its name.
    pub name: String,
    /// Its share of the subjects, relative to the others'.
    pub share: u32,
    /// What came of its calls.
    pub tally: Tally,
    /// How likely a difference in success as large as that to the first arm is by chance, 0 to 1; `None`: nothing can be said.
    pub success_chance: Option<f64>,
    /// The same of the difference in time.
    pub seconds_chance: Option<f64>,
    /// The same of the difference in score.
    pub score_chance: Option<f64>,
}

/// An experiment and its arms.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentStatus {
    /// Its name.
    pub name: String,
    /// Its arms, in their order.
    pub arms: Vec<ArmStatus>,
}

/// What came of the calls of an arm, since the node started. Answers that no provider gave for a call are not counted.
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
    /// How good answers were, as was reported later.
    pub score: Moments,
}

/// The experiments.
pub(crate) struct Experiments {
    list: Vec<Running>,
}

struct Running {
    config: Experiment,
    /// One for each arm.
    tallies: Vec<Mutex<Tally>>,
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
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let running = |experiment: &Experiment| Running {
            config: experiment.clone(),
            tallies: experiment.arms.iter().map(|_| Mutex::default()).collect(),
        };
        Arc::new(Self { list: config.experiments.iter().map(running).collect() })
    }

    /// Puts a call into an arm, if it names an experiment as its model.
    pub(crate) fn part(self: &Arc<Self>, request: &TextRequest) -> Option<Part> {
        let name = request.model.as_deref()?;
        let experiment = self.list.iter().position(|running| running.config.name == name)?;
        let config = &self.list[experiment].config;
        let arm = arm_of(config, &subject(config.subject, request));
        let chosen = config.arms.get(arm)?;
        let trial = Trial { experiment: name.to_owned(), arm: chosen.name.clone() };
        let counted = Counted {
            experiments: Arc::clone(self),
            experiment,
            arm,
            began: Instant::now(),
            trial: trial.clone(),
        };
        Some(Part { request: instead(request, chosen, trial), counted })
    }

    fn count(&self, experiment: usize, arm: usize, what: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.list.get(experiment).and_then(|running| running.tallies.get(arm)) {
            what(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// How good an answer of an arm was. Returns whether there is such an arm.
    pub(crate) fn score(&self, experiment: &str, arm: &str, score: f64) -> bool {
        let place = self.list.iter().position(|running| running.config.name == experiment);
        let found = place.and_then(|place| {
            Some((place, self.list[place].config.arms.iter().position(|other| other.name == arm)?))
        });
        if let (Some((experiment, arm)), true) = (found, score.is_finite()) {
            self.count(experiment, arm, |tally| tally.score.add(score));
        }
        found.is_some()
    }

    pub(crate) fn status(&self) -> Vec<ExperimentStatus> {
        self.list.iter().map(Running::status).collect()
    }
}

impl Running {
    fn status(&self) -> ExperimentStatus {
        let tallies: Vec<_> =
            self.tallies.iter().map(|tally| *tally.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        let first = tallies.first().copied().unwrap_or_default();
        let shares = |tally: &Tally| (tally.successes, tally.successes + tally.failures);
        let arm = |(i, (arm, tally)): (usize, (&ArmConfig, Tally))| {
            // The first is what the others are compared with.
            let compared = (i > 0).then_some(());
            ArmStatus {
                name: arm.name.clone(),
                share: arm.share,
                success_chance: compared
                    .and_then(|()| stats::proportions_differ(shares(&first), shares(&tally))),
                seconds_chance: compared.and_then(|()| stats::means_differ(&first.seconds, &tally.seconds)),
                score_chance: compared.and_then(|()| stats::means_differ(&first.score, &tally.score)),
                tally,
            }
        };
        let arms = self.config.arms.iter().zip(tallies).enumerate().map(arm);
        ExperimentStatus { name: self.config.name.clone(), arms: arms.collect() }
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
        self.experiments.count(self.experiment, self.arm, |tally| {
            tally.successes += 1;
            tally.seconds.add(took.as_secs_f64());
            tally.cost = cost.map_or(tally.cost, |cost| tally.cost.plus(cost.amount));
            tally.tokens += u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
        });
    }

    /// The call has failed.
    fn failed(&self, error: &Error) {
        if error.kind.allows_fallback() {
            self.experiments.count(self.experiment, self.arm, |tally| tally.failures += 1);
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

/// The arm of a subject; the first without one.
fn arm_of(experiment: &Experiment, subject: &str) -> usize {
    if subject.is_empty() {
        return 0;
    }
    let score = |arm: &ArmConfig| arm_score(&experiment.name, &arm.name, arm.share, subject);
    let scores = experiment.arms.iter().map(score).enumerate();
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
