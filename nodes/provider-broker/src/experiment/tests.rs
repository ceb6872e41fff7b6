use super::*;
use proptest::prelude::*;

pub(super) fn experiment(shares: &[u32]) -> Experiment {
    let arm = |(i, share): (usize, &u32)| ArmConfig {
        name: format!("arm-{i}"),
        share: *share,
        model: Some("m".into()),
        ..ArmConfig::default()
    };
    let arms = shares.iter().enumerate().map(arm).collect();
    Experiment { name: "prices".into(), subject: Subject::User, arms }
}

/// By the shares of the configuration.
fn arm_of(experiment: &Experiment, subject: &str) -> usize {
    super::arm_of(experiment, &Shares::of(experiment).weights(experiment).unwrap(), subject)
}

proptest! {
    #[test]
    fn an_arm_that_grows_gives_nobody_away(
        shares in prop::collection::vec(0_u32..100, 2..8),
        grows in any::<prop::sample::Index>(),
        by in 1_u32..100,
        subjects in prop::collection::vec("[a-z]{1,12}", 1..60),
    ) {
        let grows = grows.index(shares.len());
        let before = experiment(&shares);
        let mut after = before.clone();
        after.arms[grows].share += by;
        for subject in &subjects {
            let (was, is) = (arm_of(&before, subject), arm_of(&after, subject));
            prop_assert_eq!(was, arm_of(&before, subject));
            prop_assert!(is == was || is == grows, "{was} {is}");
        }
    }

    #[test]
    fn from_ten_to_fifty_of_a_hundred_nobody_goes_back(subject in "[a-z0-9]{1,16}") {
        let arms = [[90, 10], [75, 25], [50, 50], [0, 100]].map(|shares| arm_of(&experiment(&shares), &subject));
        prop_assert!(arms.is_sorted(), "{arms:?}");
    }
}

#[test]
fn subjects_are_split_by_share() {
    let experiment = experiment(&[90, 10]);
    let count = (0..10_000).filter(|n| arm_of(&experiment, &format!("user-{n}")) == 1).count();
    assert!((880..1_120).contains(&count), "{count}");
    assert_eq!(arm_of(&experiment, ""), 0);
}
