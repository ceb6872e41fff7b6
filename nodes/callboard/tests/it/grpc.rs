//! What gRPC's own tools find: health and reflection.

use crate::node::{DEADLINE, InProcess, eventually};
use callboard_client::v1::TaskState;
use futures::future;
use std::collections::BTreeSet;
use std::process::Stdio;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb;

const SERVICES: [&str; 6] = [
    "callboard.v1.ArtifactService",
    "callboard.v1.ClusterService",
    "callboard.v1.ExperimentService",
    "callboard.v1.ProviderService",
    "callboard.v1.TaskService",
    "grpc.health.v1.Health",
];

async fn channel(node: &InProcess) -> Channel {
    Channel::from_shared(format!("http://{}", node.running.public)).unwrap().connect().await.unwrap()
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_while_it_serves_and_while_it_stops() {
    let node = InProcess::start().await;
    let mut health = HealthClient::new(channel(&node).await);
    for service in ["", "callboard.v1.TaskService", "callboard.v1.ProviderService"] {
        let answer = health.check(about(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(about("no.such.Service")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    // It drains for as long as this runs, and says meanwhile that it does not serve.
    let task = node.submit("echo", r#"{"sleep_ms":800}"#).await;
    node.reaches(&task.id, TaskState::Running).await;
    let mut watches = Vec::new();
    for service in ["", "callboard.v1.TaskService"] {
        let mut watch = health.watch(about(service)).await.unwrap().into_inner();
        let first: HealthCheckResponse = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        watches.push(watch);
    }
    let told = async {
        for watch in &mut watches {
            assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        }
        health.check(about("")).await.unwrap().into_inner().status()
    };
    let (next, told) = tokio::time::timeout(DEADLINE, future::join(node.stop(), told)).await.unwrap();
    assert_eq!(told, ServingStatus::NotServing);
    let node = next.start().await;
    let done = node.client.get(&task.id, false).await.unwrap();
    assert_eq!((done.state(), done.attempt), (TaskState::Succeeded, 1), "{done:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_the_services_and_their_messages() {
    use pb::v1::server_reflection_client::ServerReflectionClient;
    use pb::v1::server_reflection_request::MessageRequest;
    use pb::v1::server_reflection_response::MessageResponse;
    let node = InProcess::start().await;
    let mut reflection = ServerReflectionClient::new(channel(&node).await);
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("callboard.v1.SubmitTaskRequest".into()),
        MessageRequest::FileContainingSymbol("callboard.v1.TaskService".into()),
        MessageRequest::FileContainingSymbol("no.such.Message".into()),
    ]
    .map(|question| pb::v1::ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    let answers = reflection.server_reflection_info(futures::stream::iter(questions)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { unreachable!("no list") };
    let names: BTreeSet<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    assert!(SERVICES.iter().all(|service| names.contains(service)), "{names:?}");
    for _ in 0..2 {
        let MessageResponse::FileDescriptorResponse(files) = next().await else { unreachable!("no file") };
        let text = String::from_utf8_lossy(&files.file_descriptor_proto[0]).into_owned();
        assert!(text.contains("callboard/v1/") && text.contains("SubmitTaskRequest"));
    }
    assert!(answers.message().await.is_err());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_answers_older_tools_too() {
    use pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use pb::v1alpha::server_reflection_request::MessageRequest;
    use pb::v1alpha::server_reflection_response::MessageResponse;
    let node = InProcess::start().await;
    let mut reflection = ServerReflectionClient::new(channel(&node).await);
    let list = MessageRequest::ListServices(String::new());
    let list = pb::v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let answers = reflection.server_reflection_info(futures::stream::iter([list])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { unreachable!("{answer:?}") };
    assert!(list.service.iter().any(|s| s.name == "callboard.v1.TaskService"), "{list:?}");
    node.stop().await;
}

/// With the tool itself, where there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcurl_works_where_it_is_installed() {
    let node = InProcess::start().await;
    let address = node.running.public.to_string();
    let grpcurl = async |args: &[&str]| {
        let mut command = tokio::process::Command::new("grpcurl");
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(DEADLINE, command.output()).await.unwrap() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            output => {
                let output = output.unwrap();
                assert!(output.status.success(), "{output:?}");
                Some(String::from_utf8(output.stdout).unwrap())
            }
        }
    };
    let Some(list) = grpcurl(&["-plaintext", &address, "list"]).await else { return };
    let names: BTreeSet<_> = list.lines().collect();
    assert!(SERVICES.iter().all(|service| names.contains(service)), "{names:?}");
    let request = r#"{"kind":"echo","input":"e30=","priority":9}"#;
    let submit = "callboard.v1.TaskService/SubmitTask";
    let said = grpcurl(&["-plaintext", "-d", request, &address, submit]).await.unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["task"]["priority"], 9, "{said}");
    let id = said["task"]["id"].as_str().unwrap();
    eventually("it has run", async || {
        let task = node.client.get(id, false).await.unwrap();
        (task.state() == TaskState::Succeeded).then_some(())
    })
    .await;
    node.stop().await;
}
