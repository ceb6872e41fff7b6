//! The shares of arms, as an admin has set them above the configuration.
//!
//! They are weights of a race (see `route::policy`), so what counts is how they compare. To give an arm another share its weight
//! alone is changed: then subjects move from the others to it, or from it to them, and between no two others. That all go to one
//! arm is said beside the weights, which stay, so that there is a way back.

use crate::config::Experiment;
use std::fmt::Write as _;

/// What was set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shares {
    /// Each arm with its weight.
    arms: Vec<(String, f64)>,
    /// The arm that has all subjects, if one has.
    only: Option<String>,
}

/// Why a share cannot be set: the field, and what is wrong with it.
pub(super) type Wrong = (&'static str, String);

impl Shares {
    /// Those of the configuration.
    pub(super) fn of(experiment: &Experiment) -> Self {
        let arms = experiment.arms.iter().map(|arm| (arm.name.clone(), f64::from(arm.share)));
        Self { arms: arms.collect(), only: None }
    }

    /// Reads what [`text`](Self::text) wrote; `None` if it did not.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut shares = Self { arms: Vec::new(), only: None };
        for part in text.split(' ') {
            match (part.strip_prefix('!'), part.split_once('=')) {
                (Some(arm), _) => shares.only = Some(arm.to_owned()),
                (None, Some((arm, weight))) => {
                    let weight =
                        weight.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight >= 0.0);
                    shares.arms.push((arm.to_owned(), weight?));
                }
                (None, None) => return None,
            }
        }
        Some(shares)
    }

    /// As it is kept: `now=90 new=10`, and with `!now` all subjects are of that arm.
    pub(super) fn text(&self) -> String {
        let mut text: Vec<_> = self.arms.iter().map(|(arm, weight)| format!("{arm}={weight}")).collect();
        text.extend(self.only.iter().map(|arm| format!("!{arm}")));
        text.join(" ")
    }

    /// The weights of the arms of an experiment, in their order; `None` if it has other arms by now.
    pub(super) fn weights(&self, experiment: &Experiment) -> Option<Vec<f64>> {
        let same = self.arms.iter().map(|(arm, _)| arm).eq(experiment.arms.iter().map(|arm| &arm.name));
        let known = self.only.as_ref().is_none_or(|only| self.arms.iter().any(|(arm, _)| arm == only));
        let weight = |(arm, weight): &(String, f64)| match &self.only {
            Some(only) => f64::from(u8::from(arm == only)),
            None => *weight,
        };
        (same && known).then(|| self.arms.iter().map(weight).collect())
    }

    /// All subjects are of one arm.
    pub(super) fn only(mut self, arm: &str) -> Self {
        self.only = Some(arm.to_owned());
        self
    }

    /// The same with a share of all subjects for an arm, from 0 to 1; without a name, for the second of two.
    pub(super) fn with(mut self, arm: Option<&str>, share: f64) -> Result<Self, Wrong> {
        if !(0.0..=1.0).contains(&share) {
            return Err(("share", "must be from 0 to 1".into()));
        }
        let place = match arm {
            Some(name) => self.arms.iter().position(|(arm, _)| arm == name),
            None if self.arms.len() == 2 => Some(1),
            None => None,
        };
        let Some(place) = place else {
            let what = if arm.is_some() { "no arm is called that" } else { "must name one of the arms" };
            return Err(("arm", format!("{what}; there are: {}", self.names())));
        };
        if share == 1.0 {
            let arm = self.arms[place].0.clone();
            return Ok(self.only(&arm));
        }
        let others: f64 =
            self.arms.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, (_, w))| w).sum();
        if others <= 0.0 {
            let text = "no other arm has a share: give another one its share first, or this one 1";
            return Err(("share", text.into()));
        }
        self.arms[place].1 = others * share / (1.0 - share);
        self.only = None;
        Ok(self)
    }

    fn names(&self) -> String {
        let mut names = String::new();
        for (i, (arm, _)) in self.arms.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(names, "{}{arm}", if i > 0 { ", " } else { "" });
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::super::arm_of;
    use super::super::tests::experiment;
    use super::*;
    use proptest::prelude::*;

    fn share_of(shares: &Shares, arm: usize, of: &Experiment) -> f64 {
        let weights = shares.weights(of).unwrap();
        weights[arm] / weights.iter().sum::<f64>()
    }

    proptest! {
        /// The promise of a gradual rollout.
        #[test]
        fn another_share_moves_only_who_is_between_the_two(
            shares in prop::collection::vec(1_u32..100, 2..8),
            arm in any::<prop::sample::Index>(),
            (from, to) in (0.0..=1.0_f64, 0.0..=1.0_f64),
            subjects in prop::collection::vec("[a-z]{1,12}", 1..60),
        ) {
            let of = experiment(&shares);
            let arm = arm.index(shares.len());
            let name = of.arms[arm].name.clone();
            let before = Shares::of(&of).with(Some(&name), from).unwrap();
            let after = before.clone().with(Some(&name), to).unwrap();
            prop_assert!((share_of(&after, arm, &of) - to).abs() < 1e-9);
            let (was, is) = (before.weights(&of).unwrap(), after.weights(&of).unwrap());
            let (grows, shrinks) = (to >= from, to <= from);
            for subject in &subjects {
                let (was, is) = (arm_of(&of, &was, subject), arm_of(&of, &is, subject));
                prop_assert!(was == is || grows && is == arm || shrinks && was == arm, "{was} {is}");
            }
        }

        #[test]
        fn what_is_kept_is_read_as_it_was(
            shares in prop::collection::vec(0_u32..100, 2..8),
            share in 0.0..=1.0_f64,
        ) {
            let of = experiment(&shares);
            if let Ok(shares) = Shares::of(&of).with(Some("arm-1"), share) {
                prop_assert_eq!(Shares::parse(&shares.text()), Some(shares));
            }
        }
    }

    #[test]
    fn there_is_a_way_back_from_all() {
        let of = experiment(&[60, 30, 10]);
        let back = Shares::of(&of).only("arm-0");
        assert_eq!(back.text(), "arm-0=60 arm-1=30 arm-2=10 !arm-0");
        assert_eq!(back.weights(&of), Some(vec![1.0, 0.0, 0.0]));
        let half = back.with(Some("arm-2"), 0.5).unwrap();
        assert_eq!(half.weights(&of), Some(vec![60.0, 30.0, 90.0]));
        assert_eq!(half.with(Some("arm-1"), 1.0).unwrap().weights(&of), Some(vec![0.0, 1.0, 0.0]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong =
            |shares: &[u32], arm, share| Shares::of(&experiment(shares)).with(arm, share).unwrap_err();
        assert_eq!(wrong(&[1, 1], None, 1.5).0, "share");
        assert_eq!(wrong(&[1, 1], None, f64::NAN).0, "share");
        assert_eq!(wrong(&[0, 1], None, 0.5).0, "share");
        assert_eq!(
            wrong(&[1, 1, 1], None, 0.5).1,
            "must name one of the arms; there are: arm-0, arm-1, arm-2"
        );
        assert_eq!(wrong(&[1, 1], Some("b"), 0.5).0, "arm");
        for text in ["", "a", "a=x", "a=-1", "a=inf"] {
            assert_eq!(Shares::parse(text), None, "{text}");
        }
        let of = Shares::of(&experiment(&[1, 1]));
        assert_eq!(of.weights(&experiment(&[1, 1, 1])), None, "it has another arm by now");
        assert_eq!(of.only("gone").weights(&experiment(&[1, 1])), None);
    }
}
