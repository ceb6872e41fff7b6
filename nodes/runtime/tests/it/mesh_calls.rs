//! What is known of a call, whatever becomes of it: over real connections to real services.

use crate::mesh_support::*;
use callboard_contracts::mesh::v1;
use callboard_runtime::mesh::{
    AlertClient, BrokerClient, Context, Error, SupervisorClient, Timing, Unobserved, WorkerClient,
};
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn who_is_not_there_has_run_nothing() {
    let refused = load(&link(&nobody().await, None), SOON).await;
    assert!(matches!(&refused, Err(Error::DidNotRun(s)) if s.message().contains("refused")), "{refused:?}");
    for unknown in ["no-such-host.invalid:7071", "nonsense"] {
        let unknown = load(&link(unknown, None), SOON).await;
        assert!(matches!(unknown, Err(Error::DidNotRun(_))), "{unknown:?}");
    }
}

#[tokio::test]
async fn a_call_that_never_got_a_connection_did_not_run_though_its_time_was_up() {
    // With certificates the other side speaks first, and this one never does.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let patient = Timing { connect: SOON * 2, ..Timing::default() };
    let link = link_with(&at, Some(Ca::new("ca").node()), patient, Arc::new(Unobserved));
    let result = load(&link, Duration::from_millis(50)).await;
    assert!(matches!(result, Err(Error::DidNotRun(_))), "{result:?}");
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_did_not_run_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let hasty = Timing { connect: Duration::from_millis(50), ..Timing::default() };
    let link = link_with(&at, Some(Ca::new("ca").node()), hasty, Arc::new(Unobserved));
    let result = load(&link, SOON).await;
    assert!(
        matches!(&result, Err(Error::DidNotRun(s)) if s.message().contains("no connection within")),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_call_that_was_sent_and_not_answered_in_time_may_have_run() {
    let gate = Arc::new(Notify::new());
    let server = served(Node { gate: Some(gate), ..Node::new("b") }, None).await;
    let link = link(&server.address(), None);
    let result = load(&link, Duration::from_millis(200)).await;
    assert!(
        matches!(&result, Err(Error::MayHaveRun(s)) if s.code() == tonic::Code::DeadlineExceeded),
        "{result:?}"
    );
    assert_eq!(server.node.count(), 1);
}

#[tokio::test]
async fn the_node_that_serves_ends_a_call_at_its_deadline_too() {
    let gate = Arc::new(Notify::new());
    let server = served(Node { gate: Some(gate), ..Node::new("b") }, None).await;
    // Nobody but the server watches the time of this call.
    let mut client = v1::worker_service_client::WorkerServiceClient::new(link(&server.address(), None));
    let mut request = tonic::Request::new(v1::GetLoadRequest::default());
    request.set_timeout(Duration::from_millis(50));
    let answer = tokio::time::timeout(SOON, client.get_load(request)).await.unwrap().unwrap_err();
    assert!(matches!(Error::from(answer), Error::MayHaveRun(_)));
    until("the handler is dropped", || *server.node.dropped.lock().unwrap() == 1).await;
}

#[tokio::test]
async fn a_call_whose_node_dies_while_it_runs_may_have_run_and_the_next_finds_the_new_one() {
    let gate = Arc::new(Notify::new());
    let server = served(Node { gate: Some(gate), ..Node::new("b") }, None).await;
    let link = link(&server.address(), None);
    let dies = async {
        until("the call runs", || server.node.count() == 1).await;
        server.kill().await;
    };
    let (result, ()) = futures::join!(load(&link, SOON), dies);
    assert!(matches!(result, Err(Error::MayHaveRun(_))), "{result:?}");
    let refused = load(&link, SOON).await;
    assert!(matches!(refused, Err(Error::DidNotRun(_))), "{refused:?}");
    let again = serve_on(TcpListener::bind(server.at).await.unwrap(), Node::new("b"), None);
    let until = Instant::now() + SOON;
    let mut answer = load(&link, SOON).await;
    while matches!(answer, Err(Error::DidNotRun(_))) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = load(&link, SOON).await;
    }
    assert_eq!((answer.unwrap(), again.node.count()), (7, 1));
}

#[tokio::test]
async fn a_connection_that_ended_between_calls_costs_no_call() {
    let mut server = served(Node::new("b"), None).await;
    let link = link(&server.address(), None);
    for _ in 0..5 {
        assert_eq!(load(&link, SOON).await.unwrap(), 7);
        let at = server.at;
        server.kill().await;
        link.ended().await;
        server = serve_on(TcpListener::bind(at).await.unwrap(), Node::new("b"), None);
    }
    assert_eq!(load(&link, SOON).await.unwrap(), 7);
    assert_eq!(server.node.count(), 1);
}

#[tokio::test]
async fn a_role_that_is_not_hosted_says_so_and_has_not_run() {
    let server = served(Node::new("b"), None).await;
    let client = AlertClient::remote(link(&server.address(), None));
    let error = client.report(v1::ReportRequest::default(), SOON).await.unwrap_err();
    assert!(
        matches!(&error, Error::DidNotRun(s) if s.code() == tonic::Code::Unimplemented
            && s.message() == "this node does not host the role alert"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reason_of_ours_comes_through() {
    let server = served(Node::new("b"), None).await;
    let link = link(&server.address(), None);
    let draining = WorkerClient::remote(link.clone()).drain(v1::DrainRequest::default(), SOON).await;
    assert!(matches!(draining, Err(Error::DidNotRun(_))), "{draining:?}");
    let refusal = callboard_domain::Error::new(callboard_domain::Code::ProviderRefused, "no");
    *server.node.refusal.lock().unwrap() = Some(refusal.into());
    let refused = BrokerClient::remote(link).generate(v1::GenerateRequest::default(), SOON).await;
    assert!(matches!(refused, Err(Error::Answered(_))), "{refused:?}");
}

#[tokio::test]
async fn the_context_of_a_call_reaches_the_node_and_the_node_behind_it() {
    let last = served(Node::new("c"), None).await;
    let next = WorkerClient::remote(link(&last.address(), None)).called_by("b");
    let middle = served(Node { next: Some(next), ..Node::new("b") }, None).await;
    let client = WorkerClient::remote(link(&middle.address(), None)).called_by("a");
    let context = Context {
        request_id: "r1".into(),
        traceparent: Some(PARENT.into()),
        namespace: "lab".into(),
        ..Context::default()
    };
    let call = client.cancel_tasks(v1::CancelTasksRequest::default(), SOON);
    context.scope(call).await.unwrap();
    let seen = |server: &Served| server.node.calls.lock().unwrap().clone();
    let expected = |caller: &str| {
        let (request_id, caller, namespace) = ("r1".into(), caller.into(), "lab".into());
        let context = v1::CallContext { request_id, caller, namespace, ..Default::default() };
        vec![(context, Some(PARENT.to_owned()))]
    };
    assert_eq!(seen(&middle), expected("a"));
    assert_eq!(seen(&last), expected("b"));
}

#[tokio::test]
async fn streams_work_here_and_there() {
    let server = served(Node::new("b"), None).await;
    let link = link(&server.address(), None);
    let broker = BrokerClient::remote(link.clone());
    let pieces = broker.generate_stream(v1::GenerateStreamRequest::default(), SOON).await;
    assert_eq!(pieces.unwrap().count().await, 3);
    let image = broker.generate_image(v1::GenerateImageRequest::default(), SOON).await;
    assert_eq!(image.unwrap().data.len(), 12 << 20, "an image is larger than gRPC's usual limit");

    let here = SupervisorClient::local(Arc::new(Service(Arc::clone(&server.node))));
    for client in [here.called_by("a"), SupervisorClient::remote(link).called_by("a")] {
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let mut events = client.watch_events(stream, SOON).await.unwrap();
        for ids in 1..4_usize {
            let request = v1::WatchEventsRequest {
                add_task_ids: vec!["id".into(); ids],
                ..v1::WatchEventsRequest::default()
            };
            requests.send(request).await.unwrap();
            let answer = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(answer.applied, u64::try_from(ids).unwrap());
        }
        drop(requests);
        assert!(tokio::time::timeout(SOON, events.next()).await.unwrap().is_none());
        let contexts = std::mem::take(&mut *server.node.calls.lock().unwrap());
        assert_eq!(contexts.len(), 1, "the first message alone names the caller");
        assert_eq!(contexts[0].0.caller, "a");
    }
}

#[tokio::test]
async fn a_thousand_calls_share_one_connection() {
    let server = served(Node::new("b"), None).await;
    let link = link(&server.address(), None);
    let calls = (0..1_500).map(|_| load(&link, SOON));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.node.count(), 1_500);
}
