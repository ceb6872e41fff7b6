//! A panic in each actor, in its handler and in a future of it, while tasks run: the actor is restarted,
//! its mail is answered, no task is stranded, failed or run twice.

use crate::node::{InProcess, eventually};
use callboard_client::v1;
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::alert_service_server::AlertService;
use callboard_contracts::mesh::v1::supervisor_service_server::SupervisorService;
use callboard_contracts::mesh::v1::worker_service_server::WorkerService;
use callboard_runtime::actor::{Address, Behaviour, Crash};
use std::time::Duration;
use tonic::Request;

const SOON: Duration = Duration::from_secs(10);
/// Tasks that run while an actor panics.
const RUNNING: usize = 20;

async fn running_tasks(node: &InProcess) -> Vec<v1::Task> {
    let mut tasks = Vec::new();
    for _ in 0..RUNNING {
        tasks.push(node.submit("echo", r#"{"sleep_ms":400}"#).await);
    }
    for task in &tasks {
        node.reaches(&task.id, v1::TaskState::Running).await;
    }
    tasks
}

/// Crashes an actor while tasks run. `mail` is a call that waits in its mailbox while it restarts.
async fn crash_and_check<B: Behaviour>(
    node: &InProcess,
    actor: &Address<B>,
    crash: Crash,
    mail: impl AsyncFn(),
) {
    let tasks = running_tasks(node).await;
    let before = restarts(node, B::NAME).await;
    let (crashed, ()) = futures::join!(actor.crash(crash, SOON), mail());
    assert!(crashed.is_err());
    eventually("the restart is counted", async || {
        (restarts(node, B::NAME).await == before + 1).then_some(())
    })
    .await;
    mail().await;
    // One that is submitted after the restart runs too.
    assert_eq!(node.run("echo", r#"{"after":1}"#).await.state(), v1::TaskState::Succeeded);
    for task in tasks {
        let task = node.wait(&task.id).await;
        assert_eq!((task.state(), task.attempt), (v1::TaskState::Succeeded, 1), "{task:?}");
    }
    let nodes = node.client.nodes().await.unwrap();
    assert_eq!(nodes[0].slots_used, 0, "a slot leaked");
    eventually("an alert tells of the restart", async || {
        let request = v1::ListAlertsRequest { active_only: true, ..Default::default() };
        let alerts = node.client.alerts(request).await.unwrap().alerts;
        alerts.into_iter().find(|a| a.rule == "actor_restarted" && a.subject == B::NAME)
    })
    .await;
}

async fn restarts(node: &InProcess, actor: &str) -> u64 {
    eventually("the supervisor answers", async || {
        let nodes = node.client.nodes().await.unwrap();
        // While the supervisor itself restarts, its counts are missing.
        nodes.into_iter().next().map(|n| n.actor_restarts.get(actor).copied().unwrap_or(0))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_worker_strands_nothing_that_it_holds() {
    let node = InProcess::start().await;
    let worker = node.running.actors().worker.clone().unwrap();
    let service = callboard_worker::Service::new(worker.clone());
    for crash in [Crash::Now, Crash::AfterAwait] {
        crash_and_check(&node, &worker, crash, async || {
            let load = service.get_load(Request::new(mesh::GetLoadRequest::default())).await.unwrap();
            assert_eq!(load.into_inner().slots, 64);
        })
        .await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_provider_broker_is_survived_by_its_calls() {
    let node = InProcess::start().await;
    let broker = node.running.actors().broker.clone().unwrap();
    for crash in [Crash::Now, Crash::AfterAwait] {
        crash_and_check(&node, &broker, crash, async || {
            let providers = node.client.providers().await.unwrap();
            assert_eq!(providers[0].name, "offline");
            let task = node.run("text.generate", r#"{"prompt":"tea"}"#).await;
            assert_eq!(task.state(), v1::TaskState::Succeeded, "{task:?}");
        })
        .await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_alert_actor_loses_no_alert() {
    let node = InProcess::start().await;
    let alert = node.running.actors().alert.clone().unwrap();
    let service = callboard_alert::Service::new(alert.clone());
    for crash in [Crash::Now, Crash::AfterAwait] {
        crash_and_check(&node, &alert, crash, async || {
            let seen = mesh::Observation {
                rule: "all_providers_down".into(),
                subject: format!("{crash:?}"),
                message: "seen in a test".into(),
                firing: true,
                at: None,
                count: 1,
            };
            let report = mesh::ReportRequest { context: None, observations: vec![seen] };
            service.report(Request::new(report)).await.unwrap();
        })
        .await;
        let alerts = node.client.alerts(v1::ListAlertsRequest::default()).await.unwrap().alerts;
        let found = alerts.iter().find(|a| a.subject == format!("{crash:?}")).unwrap();
        assert_eq!(
            (found.state(), found.count),
            (v1::AlertState::Firing, 2),
            "seen before and after the restart"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_supervisor_keeps_the_session_and_the_due_tasks() {
    let node = InProcess::start().await;
    let supervisor = node.running.actors().supervisor.clone();
    let service = callboard_supervisor::Service::new(supervisor.clone());
    let session = async || {
        let status = service.get_status(Request::new(mesh::GetStatusRequest::default())).await.unwrap();
        status.into_inner().session_id
    };
    let before = session().await;
    assert!(!before.is_empty());
    for crash in [Crash::Now, Crash::AfterAwait] {
        // It becomes due about when the actor that looks for due tasks is gone.
        let request = v1::SubmitTaskRequest {
            kind: "echo".into(),
            delay: Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 }),
            ..Default::default()
        };
        let delayed = node.client.submit(request).await.unwrap().task;
        crash_and_check(&node, &supervisor, crash, async || {
            assert_eq!(session().await, before, "the session survives: what it holds is not lost");
        })
        .await;
        assert_eq!(node.wait(&delayed.id).await.state(), v1::TaskState::Succeeded);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_panics_gives_the_node_up() {
    let node = InProcess::start().await;
    let alert = node.running.actors().alert.clone().unwrap();
    let crashes = async {
        loop {
            // Its mailbox may be full of crashes while it waits to restart.
            let _ = alert.crash(Crash::Now, SOON).await;
        }
    };
    let why = tokio::select! {
        why = node.running.gave_up() => why,
        () = crashes => unreachable!(),
        () = tokio::time::sleep(6 * SOON) => panic!("the node does not give up"),
    };
    assert!(why.contains("the actor alert was restarted"), "{why}");
    node.stop().await;
}
