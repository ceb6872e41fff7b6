//! What comes of an experiment is counted once over all nodes, also if one is killed, and its shares are those of all.

use crate::load::{DEADLINE, eventually};
use crate::replica::{Cluster, Replica, Settings};
use crate::room;
use callboard_client::v1;

fn ask(user: usize) -> v1::GenerateRequest {
    let message =
        v1::ChatMessage { role: v1::ChatRole::User.into(), content: "tea".into(), ..Default::default() };
    v1::GenerateRequest {
        messages: vec![message],
        model: "trial".into(),
        subject: format!("user-{user}"),
        ..Default::default()
    }
}

async fn arm_of(replica: &Replica, user: usize) -> String {
    replica.client.generate(ask(user)).await.unwrap().summary.unwrap().arm
}

/// The experiment as a node sees it, if it knows what all counted.
async fn seen(replica: &Replica) -> Option<v1::Experiment> {
    let known = replica.client.list_experiments().await.unwrap();
    known.experiments.into_iter().next().filter(|_| !known.partial)
}

async fn counted(replica: &Replica) -> Option<u64> {
    Some(seen(replica).await?.arms.iter().map(|arm| arm.successes).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_experiment_is_counted_and_rolled_back_over_all_nodes() {
    let experiments = r#"[{name="trial", arms=[{name="now", share=1, provider="offline"}, {name="new", share=1, provider="offline"}]}]"#;
    let settings =
        ["a", "b"].map(|name| Settings::new(name).env("CALLBOARD_BROKER__EXPERIMENTS", experiments));
    let mut cluster = Cluster::start(room::shared().await, &settings).await;
    let [a, b] = &cluster.replicas[..] else { panic!("there are two") };
    for user in 0..20 {
        assert_eq!(arm_of(a, user).await, arm_of(b, user).await, "the same arm on every node");
    }
    eventually("both know what both counted", DEADLINE, async || {
        (counted(a).await == Some(40) && counted(b).await == Some(40)).then_some(())
    })
    .await;

    // What was told outlives the node that counted it, and is not counted anew when it is back.
    cluster.replicas[1].kill9().await;
    assert_eq!(counted(&cluster.replicas[0]).await, Some(40));
    cluster.replicas[1].start().await;
    let [a, b] = &cluster.replicas[..] else { panic!("there are two") };
    assert_eq!(counted(b).await, Some(40));
    arm_of(b, 0).await;
    assert_eq!(counted(b).await, Some(41));

    let back = v1::RollBackExperimentRequest { name: "trial".into(), reason: "wrong answers".into() };
    b.client.roll_back_experiment(back).await.unwrap();
    eventually("the other node has heard of it", DEADLINE, async || {
        (seen(a).await?.arms[0].fraction == 1.0).then_some(())
    })
    .await;
    for user in 0..10 {
        assert_eq!(arm_of(a, user).await, "now");
    }
    cluster.replicas[0].kill9().await;
    cluster.replicas[0].start().await;
    let shown = seen(&cluster.replicas[0]).await.unwrap();
    assert_eq!((shown.arms[0].fraction, shown.shares.unwrap().reason.as_str()), (1.0, "wrong answers"));
}
