//! Experiments by the command line: what came of them, scores, shares and the way back, also over a restart.

use crate::node::{Builder, InProcess, callboard};
use callboard::config::{Key, KeyHash, KeyRole};
use callboard_client::v1;
use callboard_provider_broker::config::{ArmConfig, Experiment, Subject};
use serde_json::Value;

/// Two arms of the offline generator, half of the subjects each.
fn experiment() -> Experiment {
    let arm = |name: &str| ArmConfig {
        name: name.into(),
        share: 1,
        provider: Some("offline".into()),
        ..ArmConfig::default()
    };
    Experiment { name: "summary".into(), subject: Subject::User, arms: vec![arm("now"), arm("new")] }
}

fn ask(user: usize) -> v1::GenerateRequest {
    let message =
        v1::ChatMessage { role: v1::ChatRole::User.into(), content: "tea".into(), ..Default::default() };
    v1::GenerateRequest {
        messages: vec![message],
        model: "summary".into(),
        subject: format!("user-{user}"),
        ..Default::default()
    }
}

/// With the experiment, and a key of an admin.
fn configured(builder: Builder) -> Builder {
    let key =
        Key { name: "ops".into(), hash: KeyHash::of("ops"), namespace: String::new(), role: KeyRole::Admin };
    builder.config(|config| {
        config.broker.experiments.push(experiment());
        config.openai.keys = vec![key];
    })
}

/// The arm of an answer.
async fn arm_of(node: &InProcess, user: usize) -> String {
    node.client.generate(ask(user)).await.unwrap().summary.unwrap().arm
}

async fn report(node: &InProcess) -> Value {
    let address = node.running.public.to_string();
    let shown =
        callboard(&["experiments", "report", "summary", "--output", "json"], &[("CALLBOARD_ADDR", &address)])
            .await;
    serde_json::from_str(&shown.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_experiment_is_scored_rolled_out_and_rolled_back_by_the_command_line() {
    let node = configured(InProcess::builder()).start().await;
    let address = node.running.public.to_string();
    let run = async |args: &[&str], key: &str| {
        callboard(args, &[("CALLBOARD_ADDR", address.as_str()), ("CALLBOARD_KEY", key)]).await
    };
    let mut before = Vec::new();
    for user in 0..40 {
        before.push(arm_of(&node, user).await);
    }
    let listed = run(&["experiments"], "").await;
    assert!(listed.stdout.contains("50.0 %") && listed.stdout.contains("too early"), "{}", listed.stdout);
    let scored = run(&["experiments", "score", "summary", "--arm", "new", "--score", "0.5"], "").await;
    assert_eq!(scored.stdout, "counted for new\n");
    let scored = run(&["experiments", "score", "summary", "--subject", "user-3", "--score", "-1"], "").await;
    assert_eq!(scored.stdout, format!("counted for {}\n", before[3]), "{}", scored.stderr);
    let wrong = run(&["experiments", "score", "summary", "--arm", "old", "--score", "1"], "").await;
    assert!(wrong.stderr.contains("there are: now, new"), "{}", wrong.stderr);

    let refused = run(&["experiments", "share", "summary", "0.2"], "").await;
    assert!(refused.stderr.contains("CALLBOARD_KEY"), "{}", refused.stderr);
    let set = run(&["experiments", "share", "summary", "0.2", "--reason", "slowly"], "ops").await;
    assert!(set.stdout.contains("20.0 %") && set.stdout.contains("(ops): slowly"), "{}", set.stdout);
    for (user, before) in before.iter().enumerate() {
        let after = arm_of(&node, user).await;
        assert!(after == *before || after == "now", "{user} went from {before} to {after}");
    }
    run(&["experiments", "rollback", "summary"], "ops").await;
    assert_eq!(arm_of(&node, 3).await, "now");

    // Both outlive the node.
    let node = configured(node.stop().await).start().await;
    let shown = report(&node).await;
    assert_eq!(shown["shares"]["author"], "ops");
    assert_eq!((&shown["arms"][0]["fraction"], &shown["arms"][1]["fraction"]), (&1.0.into(), &0.0.into()));
    let answered = |arm: usize| shown["arms"][arm]["successes"].as_u64().unwrap();
    assert_eq!(answered(0) + answered(1), 81);
    let address = node.running.public.to_string();
    let reset = callboard(
        &["experiments", "reset", "summary"],
        &[("CALLBOARD_ADDR", &address), ("CALLBOARD_KEY", "ops")],
    )
    .await;
    assert!(reset.stdout.contains("50.0 %"), "{}", reset.stdout);
    assert_eq!(arm_of(&node, 0).await, before[0]);
}
