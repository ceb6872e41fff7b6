//! `callboard certs init` as a process, and nodes that meet with what it made.

use callboard_contracts::mesh::v1::GetStatusRequest;
use callboard_runtime::mesh::tls::{Files, Identity};
use callboard_runtime::mesh::{
    Error, Link, LinkOptions, ServeOptions, Services, SupervisorClient, Timing, Unobserved, serve,
};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SOON: Duration = Duration::from_secs(20);

fn certs(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    command.current_dir(folder).args(["certs", "init"]).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn identity(made: &serde_json::Value, node: usize) -> Arc<Identity> {
    let path = |value: &serde_json::Value| value.as_str().unwrap().into();
    let node = &made["nodes"][node];
    let files =
        Files { ca: path(&made["ca_file"]), cert: path(&node["cert_file"]), key: path(&node["key_file"]) };
    Arc::new(Identity::load(&files).unwrap())
}

/// Asks a node without roles who it is: that it says so means that it was reached.
async fn reaches(client: Arc<Identity>, server: Arc<Identity>) -> bool {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let options =
        ServeOptions { identity: Some(server), close_within: Duration::ZERO, ..ServeOptions::default() };
    let serving = TaskTracker::new();
    let served = serving.spawn(serve(listener, Services::default(), options, stop.clone()));
    let link = Link::new(LinkOptions {
        peer: "b".into(),
        address,
        identity: Some(client),
        timing: Timing::default(),
        observer: Arc::new(Unobserved),
        tracker: TaskTracker::new(),
    });
    let answer = SupervisorClient::remote(link).get_status(GetStatusRequest::default(), SOON).await;
    stop.cancel();
    served.await.unwrap().unwrap();
    match answer {
        Err(Error::DidNotRun(status)) => status.code() == tonic::Code::Unimplemented,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nodes_meet_with_what_it_made_and_not_with_another_ca() {
    let folder = tempfile::tempdir().unwrap();
    let made = |out: &str| {
        let made = certs(folder.path(), &["--out", out, "--node", "a", "--node", "b", "-o", "json"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        serde_json::from_slice::<serde_json::Value>(&made.stdout).unwrap()
    };
    let (one, other) = (made("one"), made("other"));
    assert_eq!(one["ca_is_new"], true);
    assert!(reaches(identity(&one, 0), identity(&one, 1)).await);
    assert!(reaches(identity(&one, 1), identity(&one, 0)).await);
    assert!(!reaches(identity(&one, 0), identity(&other, 1)).await);
    assert!(!reaches(identity(&other, 0), identity(&one, 1)).await);
}

#[test]
fn it_says_what_goes_where_and_refuses_to_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    let first = certs(folder.path(), &["--node", "a", "--address", "10.0.0.1"]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let said = text(&first.stdout);
    for expected in ["new CA: ", "[mesh]\nca_file = \"/", "/certs/a.pem\"", "/certs/a-key.pem\""] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let again = certs(folder.path(), &["--node", "a"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));
    assert!(certs(folder.path(), &["--node", "a", "--force"]).status.success());
    let mixed = certs(folder.path(), &["--node", "b", "--node", "c", "--address", "10.0.0.1"]);
    assert_eq!(mixed.status.code(), Some(2));
    assert!(!folder.path().join("certs/b.pem").exists());
}
