//! What is asked of experiments while they run: how they stand, how good an answer was, and other shares.
//!
//! Shares that an admin sets are a record above the configuration, as what is switched of providers is: see `admin`.

use super::{ExperimentStatus, Experiments, MOST_SCORE, Running, Shares, about, arm_of};
use crate::admin::{Said, check_reason};
use crate::broker::Broker;
use callboard_domain::{Code, Error};
use std::sync::{Arc, PoisonError};

/// Which answer was scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scored<'a> {
    /// One of an arm, which every answer names.
    Arm(&'a str),
    /// One for a subject, whatever its experiment goes by: the arm that it has now.
    Subject(&'a str),
}

fn wrong(field: &str, text: impl Into<String>) -> Error {
    Error::field(Code::InvalidArgument, field, text.into())
}

impl Broker {
    /// The experiments, and what came of their arms as far as this node has heard.
    #[must_use]
    pub fn experiments(&self) -> Vec<ExperimentStatus> {
        self.experiments_of_now().status()
    }

    /// The same, and what came of them on all nodes. Answers also whether that is known: if the ledger is away, the rest is that
    /// of this node, and what it heard before.
    pub async fn experiments_of_all(&self) -> (Vec<ExperimentStatus>, bool) {
        let heard = self.book.exchange(true).await;
        if let Err(error) = &heard {
            tracing::debug!(%error, "what came of experiments on other nodes is not known now");
        }
        (self.experiments(), heard.is_ok())
    }

    /// Says how good an answer was, in whatever unit; higher is better. Returns the arm that it counts for. It is counted each
    /// time it is said.
    ///
    /// # Errors
    /// There is no such experiment or arm, or the score is not from -1000 to 1000.
    pub fn score(&self, experiment: &str, scored: Scored<'_>, score: f64) -> Result<String, Error> {
        let experiments = self.experiments_of_now();
        let (place, running) = experiments.find(experiment)?;
        let arm = match scored {
            Scored::Arm(name) => running.config.arms.iter().position(|arm| arm.name == name),
            Scored::Subject("") => return Err(wrong("subject", "must not be empty")),
            Scored::Subject(subject) => Some(arm_of(&running.config, &running.weights, subject)),
        };
        let Some(name) = arm.and_then(|arm| running.config.arms.get(arm)).map(|arm| &arm.name) else {
            let names: Vec<_> = running.config.arms.iter().map(|arm| arm.name.as_str()).collect();
            return Err(wrong("arm", format!("no arm is called that; there are: {}", names.join(", "))));
        };
        if !(-MOST_SCORE..=MOST_SCORE).contains(&score) {
            return Err(wrong("score", format!("must be from -{MOST_SCORE} to {MOST_SCORE}")));
        }
        experiments.count(place, arm.unwrap_or(0), |sums| sums.scored(score));
        Ok(name.clone())
    }

    /// Gives an arm a share of all subjects, from 0 to 1, on every node; without a name, the second of two. Subjects move
    /// between that arm and the others, and between no two others.
    ///
    /// # Errors
    /// There is no such experiment or arm, the share cannot be, the reason is too long, or the store does not take it: then
    /// nothing changes.
    pub async fn set_share(
        &self,
        experiment: &str,
        arm: Option<&str>,
        share: f64,
        said: Said<'_>,
    ) -> Result<ExperimentStatus, Error> {
        let set = |shares: Shares| shares.with(arm, share).map_err(|(field, text)| wrong(field, text));
        self.set_shares(experiment, set, said).await
    }

    /// Gives all subjects to the first arm, on every node.
    ///
    /// # Errors
    /// As for [`set_share`](Self::set_share).
    pub async fn roll_back(&self, experiment: &str, said: Said<'_>) -> Result<ExperimentStatus, Error> {
        let first = self.experiments_of_now().find(experiment)?.1.config.arms.first().cloned();
        let first = first.map(|arm| arm.name).unwrap_or_default();
        self.set_shares(experiment, |shares| Ok(shares.only(&first)), said).await
    }

    async fn set_shares(
        &self,
        experiment: &str,
        set: impl FnOnce(Shares) -> Result<Shares, Error>,
        said: Said<'_>,
    ) -> Result<ExperimentStatus, Error> {
        self.experiments_of_now().find(experiment)?;
        check_reason(said.reason)?;
        // What another node has written is what they are set from.
        let values = || {
            let of_now = self.experiments_of_now();
            let config = &of_now.find(experiment)?.1.config;
            let known = self.records.get(&about(experiment)).and_then(|record| Shares::parse(&record.value));
            let known = known.filter(|shares| shares.weights(config).is_some());
            let shares = set(known.unwrap_or_else(|| Shares::of(config)))?.text();
            let (author, reason) = (said.author, said.reason);
            tracing::warn!(experiment, shares, author, reason, "an admin sets the shares of an experiment");
            Ok(vec![(about(experiment), shares)])
        };
        self.change_to(said, values).await?;
        self.experiment(experiment).await
    }

    /// Has an experiment follow the shares of the configuration again, on every node.
    ///
    /// # Errors
    /// As for [`set_share`](Self::set_share).
    pub async fn reset_shares(&self, experiment: &str, said: Said<'_>) -> Result<ExperimentStatus, Error> {
        self.experiments_of_now().find(experiment)?;
        self.change(said, &[(about(experiment), "")]).await?;
        tracing::warn!(
            experiment,
            author = said.author,
            "an admin had an experiment follow the configuration"
        );
        self.experiment(experiment).await
    }

    /// One, with what came of it on all nodes, if that can be known now.
    async fn experiment(&self, name: &str) -> Result<ExperimentStatus, Error> {
        // The shares are set: that the sums are not known is no failure of it.
        let _ = self.book.exchange(true).await;
        Ok(self.experiments_of_now().find(name)?.1.status())
    }

    /// Goes on with the shares that are known now.
    pub(crate) fn adopt_shares(&self) {
        self.set_experiments(|now| now.with_shares(&self.records));
    }

    /// Goes on with other experiments, made of those of now: by one at a time, so that none is made of what is over.
    pub(crate) fn set_experiments(&self, make: impl FnOnce(&Experiments) -> Arc<Experiments>) {
        let mut now = self.experiments.write().unwrap_or_else(PoisonError::into_inner);
        *now = make(&now);
    }

    /// Says in the log which shares are not those of the configuration.
    pub(crate) fn say_shares(&self) {
        for ExperimentStatus { name, set, .. } in self.experiments() {
            let Some(set) = set else { continue };
            let (author, reason) = (set.author, set.reason);
            match set.outdated {
                true => tracing::warn!(
                    experiment = name,
                    author,
                    "an admin has set shares of an experiment that has other arms by now: they are not in force"
                ),
                false => tracing::warn!(
                    experiment = name,
                    author,
                    reason,
                    "the shares of an experiment are not those of the configuration, as an admin said"
                ),
            }
        }
    }
}

impl Experiments {
    fn find(&self, name: &str) -> Result<(usize, &Running), Error> {
        let names = || {
            let names: Vec<_> = self.list.iter().map(|running| running.config.name.as_str()).collect();
            if names.is_empty() {
                "there are none".to_owned()
            } else {
                format!("there are: {}", names.join(", "))
            }
        };
        self.named(name)
            .ok_or_else(|| wrong("name", format!("no experiment is called `{name}`; {}", names())))
    }
}
