//! Experiments: who goes where, and what is said of it.

use crate::support::{Act, Scripted, hello, plain, scripted_with};
use callboard_domain::llm::{ErrorKind, TextRequest, Trial};
use callboard_provider_broker::config::{ArmConfig, Experiment, Policy, RouteConfig, Subject, Target};
use callboard_provider_broker::{Broker, Config, Piece, Scored};
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;

fn arm(name: &str, share: u32) -> ArmConfig {
    ArmConfig { name: name.into(), share, ..ArmConfig::default() }
}

/// Provider `a` with half of the subjects, a route to `b` with the others.
pub(crate) fn half() -> Config {
    let target =
        Target { provider: "b".into(), model: Some("small".into()), weight: 1, context_tokens: None };
    let one = ArmConfig { provider: Some("a".into()), model: Some("large".into()), ..arm("one", 50) };
    let other = ArmConfig { route: Some("cheap".into()), ..arm("other", 50) };
    Config {
        routes: vec![RouteConfig {
            name: "cheap".into(),
            policy: Some(Policy::Priority),
            providers: vec![target],
        }],
        experiments: vec![Experiment {
            name: "prices".into(),
            subject: Subject::User,
            arms: vec![one, other],
        }],
        ..plain()
    }
}

pub(crate) fn of(user: usize) -> TextRequest {
    TextRequest { model: Some("prices".into()), subject: Some(format!("user-{user}")), ..hello() }
}

fn two() -> ([Arc<Scripted>; 2], Arc<Broker>) {
    let [a, b] = ["a", "b"].map(|name| Scripted::new(name, Act::Answer));
    let (broker, _) = scripted_with(&half(), &[&a, &b], false);
    ([a, b], broker)
}

#[tokio::test]
async fn a_provider_that_a_call_names_is_the_only_one_in_an_arm_too() {
    let (_, broker) = two();
    for user in 0..100 {
        let arm = broker.text(&of(user)).await.unwrap().summary.trial.unwrap().arm;
        let (own, others) = if arm == "one" { ("a", "b") } else { ("b", "a") };
        let named = |provider: &str| TextRequest { provider: Some(provider.into()), ..of(user) };
        assert_eq!(broker.text(&named(own)).await.unwrap().summary.provider, own);
        let error = broker.text(&named(others)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequest, "{error}");
        assert!(error.message.contains(others), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_user_has_an_arm_and_the_answer_names_it() {
    let ([a, b], broker) = two();
    a.set(Act::Late(Duration::from_millis(100)));
    b.set(Act::Late(Duration::from_millis(300)));
    for user in 0..100 {
        let answer = broker.text(&of(user)).await.unwrap().summary;
        let (arm, model) = if answer.provider == "a" { ("one", "large") } else { ("other", "small") };
        assert_eq!(answer.trial, Some(Trial { experiment: "prices".into(), arm: arm.into() }));
        assert_eq!(answer.model, model);
        let again = broker.text(&of(user)).await.unwrap().summary;
        assert_eq!(again.provider, answer.provider);
    }
    let status = &broker.experiments()[0];
    let [one, other] = &status.arms[..] else { panic!("{status:?}") };
    assert_eq!(one.tally.successes + other.tally.successes, 200);
    assert!((70..130).contains(&one.tally.successes), "{status:?}");
    assert!((one.tally.seconds.mean - 0.1).abs() < 0.002 && (other.tally.seconds.mean - 0.3).abs() < 0.002);
    assert_eq!((one.success_chance, one.seconds_chance, other.success_chance), (None, None, None));
    // Other calls are in none.
    assert_eq!(broker.text(&hello()).await.unwrap().summary.trial, None);
}

#[tokio::test]
async fn failures_count_and_a_difference_that_is_none_of_chance_is_seen() {
    let ([_, b], broker) = two();
    for user in 0..200 {
        b.set(if user % 2 == 0 { Act::Answer } else { Act::Fail(ErrorKind::Overloaded) });
        broker.text(&of(user)).await.ok();
    }
    // What a call is to blame for itself says nothing of an arm.
    b.set(Act::Fail(ErrorKind::InvalidRequest));
    let before = broker.experiments()[0].arms[1].tally;
    for user in 0..20 {
        broker.text(&of(user)).await.ok();
    }
    let status = &broker.experiments()[0];
    assert_eq!(status.arms[1].tally.failures, before.failures);
    assert!(before.failures > 20 && status.arms[0].tally.failures == 0, "{status:?}");
    assert!(status.arms[1].success_chance.unwrap() < 0.001, "{status:?}");
}

#[tokio::test]
async fn a_stream_is_counted_when_it_ends() {
    let ([a, b], broker) = two();
    let stream = broker.text_stream(&of(1)).await.unwrap();
    let pieces: Vec<_> = stream.collect().await;
    let Some(Ok(Piece::Begin(summary))) = pieces.first() else { panic!("no beginning") };
    assert!(summary.trial.is_some());
    // A scripted stream breaks off at its end.
    assert!(pieces.last().unwrap().is_err());
    let failures = || broker.experiments()[0].arms.iter().map(|arm| arm.tally.failures).sum::<u64>();
    assert_eq!(failures(), 1);
    drop(broker.text_stream(&of(1)).await.unwrap());
    assert_eq!(failures(), 1, "one that nobody waited for says nothing");
    [a, b].iter().for_each(|provider| provider.set(Act::Fail(ErrorKind::Overloaded)));
    assert!(broker.text_stream(&of(1)).await.is_err());
    assert_eq!(failures(), 2);
}

#[tokio::test]
async fn scores_are_kept_for_an_arm_that_exists() {
    let (_, broker) = two();
    for n in 0..20 {
        for (arm, score) in [("one", f64::from(n % 3)), ("other", f64::from(n % 3) + 5.0)] {
            assert_eq!(broker.score("prices", Scored::Arm(arm), score).unwrap(), arm);
        }
    }
    let field = |experiment, scored, score| {
        let error = broker.score(experiment, scored, score).unwrap_err();
        error.violations[0].field.clone()
    };
    assert_eq!(field("prices", Scored::Arm("third"), 1.0), "arm");
    assert_eq!(field("other", Scored::Arm("one"), 1.0), "name");
    assert_eq!(field("prices", Scored::Subject(""), 1.0), "subject");
    assert_eq!(field("prices", Scored::Arm("one"), f64::NAN), "score");
    assert_eq!(field("prices", Scored::Arm("one"), -1_000.1), "score");
    let arms = &broker.experiments()[0].arms;
    assert_eq!((arms[0].tally.score.count, arms[1].tally.score.count), (20, 20));
    assert!(arms[1].score_chance.unwrap() < 1e-6, "{arms:?}");
    // Whoever knows only the subject.
    for user in 0..20 {
        let trial = broker.text(&of(user)).await.unwrap().summary.trial.unwrap();
        let arm = broker.score("prices", Scored::Subject(&format!("user-{user}")), 1.0).unwrap();
        assert_eq!(arm, trial.arm);
    }
}

#[tokio::test]
async fn calls_without_a_user_have_the_arm_of_their_task() {
    let (_, broker) = two();
    let request = TextRequest { subject: None, ..of(0) };
    assert_eq!(broker.text(&request).await.unwrap().summary.provider, "a", "without any, the first");
    let mut seen = std::collections::BTreeSet::new();
    for task in 0..20 {
        let fence =
            callboard_contracts::mesh::v1::Fence { task_id: format!("task-{task}"), ..Default::default() };
        let context = callboard_runtime::mesh::Context { fence: Some(fence), ..Default::default() };
        let first = context.clone().scope(broker.text(&request)).await.unwrap().summary.provider;
        assert_eq!(context.scope(broker.text(&request)).await.unwrap().summary.provider, first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn what_is_wrong_with_experiments_is_named() {
    let text = "[[routes]]\nname = \"fast\"\nproviders = [{ provider = \"offline\" }]\n\
        [[experiments]]\nname = \"fast\"\narms = [{ name = \"a\", share = 0 }]\n\
        [[experiments]]\nname = \"good\"\nsubject = \"task\"\narms = [\
        { name = \"a\", share = 90, route = \"gone\" }, { name = \"a\", share = 20000, provider = \"gone\", model = \"\" }, \
        { name = \"c\", share = 1, route = \"fast\", model = \"m\" }]\n";
    let config: Config = toml::from_str(text).unwrap();
    let fields: Vec<_> = config.violations().into_iter().map(|v| v.field).collect();
    assert_eq!(
        fields,
        [
            "experiments[0].name",
            "experiments[0].arms",
            "experiments[0].arms[0].route",
            "experiments[1].arms[0].route",
            "experiments[1].arms[1].name",
            "experiments[1].arms[1].provider",
            "experiments[1].arms[1].model",
            "experiments[1].arms[1].share",
            "experiments[1].arms[2].route",
        ]
    );
}
