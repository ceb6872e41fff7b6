//! Peers: whom calls are routed to, who is suspected, and what a probe finds.

use crate::mesh_support::*;
use callboard_contracts::mesh::v1;
use callboard_domain::{Code, SessionId};
use callboard_ports::SystemClock;
use callboard_runtime::membership::Probe;
use callboard_runtime::mesh::tls::Identity;
use callboard_runtime::mesh::{Error, Timing};
use callboard_runtime::peers::{self, Peer, Peers};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

type Told = Arc<Mutex<Vec<SessionId>>>;

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn peers_with(identity: Option<Arc<Identity>>, timing: Timing) -> (Peers, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let peers = Peers::new(peers::Options {
        name: "a".into(),
        identity,
        clock: Arc::new(SystemClock),
        timing,
        on_suspect: Arc::new(move |session| tell.lock().unwrap().push(session)),
        tracker: TaskTracker::new(),
    });
    (peers, told)
}

fn peers() -> (Peers, Told) {
    peers_with(None, Timing::default())
}

fn peer(n: u8, name: &str, address: &str) -> Peer {
    let roles = ["supervisor", "worker", "provider-broker"].map(String::from).into();
    Peer { session: session(n), name: name.into(), mesh_address: address.into(), roles }
}

async fn generate(peers: &Peers) -> Result<String, Error> {
    let answer = peers.brokers().generate(v1::GenerateRequest::default(), SOON).await?;
    Ok(answer.response.unwrap().text)
}

/// A listener that is there and says nothing, as that of a stopped process.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    (listener, at)
}

#[tokio::test]
async fn each_peer_is_called_by_its_session_and_the_node_itself_is_none() {
    let (b, c) = (served(Node::new("b"), None).await, served(Node::new("c"), None).await);
    let (peers, _) = peers();
    peers.set([peer(1, "a", "127.0.0.1:1"), peer(2, "b", &b.address()), peer(3, "c", &c.address())]);
    let names: Vec<_> = peers.list().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["b", "c"]);
    let supervisor = peers.supervisor(session(3)).unwrap();
    let status = supervisor.get_status(v1::GetStatusRequest::default(), SOON);
    assert_eq!(status.await.unwrap().node, "c");
    let worker = peers.worker(session(2)).unwrap();
    let load = worker.get_load(v1::GetLoadRequest::default(), SOON);
    assert_eq!(load.await.unwrap().slots, 7);
    let calls = b.node.calls.lock().unwrap().clone();
    assert!(calls.iter().all(|(context, _)| context.caller == "a"), "{calls:?}");
    assert_eq!(peers.by_name("c").unwrap().session, session(3));
    assert_eq!(peers.by_address(&b.address()).unwrap().name, "b");
    peers.set([peer(3, "c", &c.address())]);
    assert!(peers.worker(session(2)).is_none());
    assert!(peers.by_name("b").is_none());
}

#[tokio::test]
async fn brokers_take_turns_and_one_that_is_gone_is_passed_by() {
    let (b, c) = (served(Node::new("b"), None).await, served(Node::new("c"), None).await);
    let (peers, _) = peers();
    peers.set([peer(2, "b", &b.address()), peer(3, "c", &c.address())]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(generate(&peers).await.unwrap());
    }
    assert!(seen == ["b", "c", "b", "c"] || seen == ["c", "b", "c", "b"], "{seen:?}");
    b.kill().await;
    until("b is suspected", || peers.suspects().iter().any(|s| s.name == "b")).await;
    for _ in 0..4 {
        assert_eq!(generate(&peers).await.unwrap(), "c");
    }
    c.kill().await;
    until("both are suspected", || peers.suspects().len() == 2).await;
    let error = generate(&peers).await;
    assert!(matches!(error, Err(Error::DidNotRun(_))), "{error:?}");
}

#[tokio::test]
async fn a_call_goes_on_where_it_did_not_run_and_only_there() {
    let (b, c) = (served(Node::new("b"), None).await, served(Node::new("c"), None).await);
    let (peers, _) = peers();
    peers.set([peer(2, "b", &b.address()), peer(3, "c", &c.address())]);
    let refuse =
        |code| *b.node.refusal.lock().unwrap() = Some(callboard_domain::Error::new(code, "no").into());
    refuse(Code::Draining);
    for _ in 0..4 {
        assert_eq!(generate(&peers).await.unwrap(), "c");
    }
    for (code, ran) in [(Code::MayHaveRun, "may have run"), (Code::ProvidersFailed, "answered")] {
        refuse(code);
        let answers = [generate(&peers).await, generate(&peers).await];
        let failed: Vec<_> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
        assert_eq!(failed.len(), 1, "one of two calls went to b and stayed there: {answers:?}");
        match failed[0] {
            Error::MayHaveRun(_) => assert_eq!(ran, "may have run"),
            Error::Answered(_) => assert_eq!(ran, "answered"),
            Error::DidNotRun(_) => panic!("{failed:?}"),
        }
    }
}

#[tokio::test]
async fn without_a_node_of_the_role_nothing_runs() {
    let (peers, _) = peers();
    let error = generate(&peers).await.unwrap_err();
    assert!(
        matches!(&error, Error::DidNotRun(s) if s.message().contains("role provider-broker")),
        "{error:?}"
    );
    let b = served(Node::new("b"), None).await;
    peers.set([peer(2, "b", &b.address())]);
    let error = peers.alerts().report(v1::ReportRequest::default(), SOON).await.unwrap_err();
    assert!(matches!(&error, Error::DidNotRun(s) if s.message().contains("role alert")), "{error:?}");
}

#[tokio::test]
async fn a_killed_peer_is_told_at_once_and_cleared_by_itself_when_it_is_back() {
    let ca = Ca::new("ca");
    let b = served(Node::new("b"), Some(ca.node())).await;
    let (peers, told) = peers_with(Some(ca.node()), Timing::default());
    peers.set([peer(2, "b", &b.address())]);
    until("the peer is connected", || b.node.count() > 0).await;
    assert_eq!(peers.suspects(), []);
    // Nobody calls: the connection alone tells.
    b.kill().await;
    until("it is told", || told.lock().unwrap().contains(&session(2))).await;
    let suspects = peers.suspects();
    assert!(suspects[0].reason.starts_with("its connection ended: "), "{suspects:?}");
    let message = v1::Suspect::from(suspects[0].clone());
    assert_eq!((message.node.as_str(), message.session_id), ("b", session(2).to_string()));
    let _again = serve_on(TcpListener::bind(b.at).await.unwrap(), Node::new("b"), Some(ca.node()));
    until("it is trusted again", || peers.suspects().is_empty()).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_suspected() {
    let (_listener, at) = silent().await;
    let timing = Timing {
        connect: Duration::from_millis(200),
        ping_every: Duration::from_millis(50),
        ping_within: Duration::from_millis(100),
    };
    let (open, told) = peers_with(None, timing);
    open.set([peer(2, "b", &at)]);
    until("pings stay without an answer", || !open.suspects().is_empty()).await;
    assert_eq!(told.lock().unwrap()[0], session(2));
    let (closed, _) = peers_with(Some(Ca::new("ca").node()), timing);
    closed.set([peer(2, "b", &at)]);
    until("no connection is made", || !closed.suspects().is_empty()).await;
    assert!(closed.suspects()[0].reason.contains("no connection within"), "{:?}", closed.suspects());
}

#[tokio::test]
async fn a_peer_that_lets_calls_time_out_in_a_row_is_suspected_until_it_answers() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let b = served(Node { gate: Some(gate), ..Node::new("b") }, None).await;
    let (peers, told) = peers();
    peers.set([peer(2, "b", &b.address())]);
    until("the peer is connected", || b.node.count() > 0).await;
    let worker = peers.worker(session(2)).unwrap();
    for calls in 1..=3 {
        assert_eq!(peers.suspects(), []);
        let late = worker.get_load(v1::GetLoadRequest::default(), Duration::from_millis(50)).await;
        assert!(matches!(late, Err(Error::MayHaveRun(_))), "{late:?}");
        until("the call has reached the node", || b.node.count() > calls).await;
    }
    assert_eq!(peers.suspects()[0].reason, "it does not answer calls in time");
    assert_eq!(told.lock().unwrap().len(), 1);
    assert_eq!(generate(&peers).await.unwrap(), "b", "a suspected node is better than none");
    assert_eq!(peers.suspects(), []);
}

#[tokio::test]
async fn another_node_at_the_address_is_suspect() {
    let c = served(Node::new("c"), None).await;
    let (peers, _) = peers();
    peers.set([peer(2, "b", &c.address())]);
    until("it is found out", || !peers.suspects().is_empty()).await;
    assert!(peers.suspects()[0].reason.contains("the node c answers"), "{:?}", peers.suspects());
}

#[tokio::test]
async fn who_leaves_is_suspected_no_more_and_its_calls_may_end() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let b = served(Node { gate: Some(Arc::clone(&gate)), ..Node::new("b") }, None).await;
    let (peers, told) = peers();
    peers.set([peer(2, "b", &b.address())]);
    let worker = peers.worker(session(2)).unwrap();
    let script = async {
        until("the call runs", || b.node.calls.lock().unwrap().len() > 1).await;
        peers.set([]);
        gate.notify_one();
    };
    let (answer, ()) = futures::join!(worker.get_load(v1::GetLoadRequest::default(), SOON), script);
    assert_eq!(answer.unwrap().slots, 7);
    b.kill().await;
    let error = worker.get_load(v1::GetLoadRequest::default(), SOON).await;
    assert!(error.is_err());
    assert_eq!((peers.suspects(), told.lock().unwrap().len()), (vec![], 0));
}

#[tokio::test]
async fn a_probe_tells_what_proves_something_from_what_does_not() {
    let within = Duration::from_millis(500);
    let (peers, _) = peers();
    assert_eq!(peers.probe(&nobody().await, within).await, Probe::Refused);
    assert_eq!(peers.probe("no-such-host.invalid:1", SOON).await, Probe::Unreachable);
    let (_listener, at) = silent().await;
    assert_eq!(peers.probe(&at, within).await, Probe::TimedOut);

    let b = served(Node::new("b"), None).await;
    let answered = |session| Probe::Answered { node: "b".into(), session, incarnation: 5 };
    assert_eq!(peers.probe(&b.address(), SOON).await, answered(None));
    *b.node.session.lock().unwrap() = session(9).to_string();
    assert_eq!(peers.probe(&b.address(), SOON).await, answered(Some(session(9))));
}

#[tokio::test]
async fn a_probe_finds_strangers() {
    let (web, at) = silent().await;
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            // Closed at once, what it said might be thrown away with what it has not read.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let (peers, _) = peers();
    let found = peers.probe(&at, SOON).await;
    assert!(matches!(found, Probe::Foreign(_)), "{found:?}");

    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let b = served(Node::new("b"), Some(other.node())).await;
    let (peers, _) = peers_with(Some(ca.node()), Timing::default());
    let found = peers.probe(&b.address(), SOON).await;
    assert!(matches!(&found, Probe::Foreign(why) if why.contains("another CA")), "{found:?}");
    let c = served(Node::new("c"), Some(ca.node())).await;
    assert!(matches!(peers.probe(&c.address(), SOON).await, Probe::Answered { node, .. } if node == "c"));
}
