use callboard_testkit::process::{Error, Process, Spec};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

fn sh(script: &str) -> Spec {
    Spec::new("sh").args(["-c", script])
}

#[tokio::test]
async fn a_process_is_ready_when_it_says_so_and_is_killed() {
    let spec = sh("echo noise; echo \"port $PORT\"; echo more >&2; exec sleep 1000").env("PORT", "4711");
    let ready = |line: &str| line.strip_prefix("port ").and_then(|p| p.parse::<u16>().ok());
    let (mut process, port) = Process::spawn(&spec, ready, DEADLINE).await.unwrap();
    assert_eq!(port, 4711);
    assert!(process.is_running().unwrap());
    assert!(process.output().contains("noise"));
    assert_eq!(process.kill9().await.unwrap().signal(), Some(9));
    assert!(!process.is_running().unwrap());
}

#[tokio::test]
async fn a_process_is_asked_to_stop() {
    let spec = sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let (mut process, ()) =
        Process::spawn(&spec, |line| (line == "ready").then_some(()), DEADLINE).await.unwrap();
    assert_eq!(process.terminate(DEADLINE).await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn a_failed_start_shows_what_the_process_said() {
    let error = Process::spawn(&sh("echo the port is in use >&2; exit 3"), |_| None::<()>, DEADLINE)
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Ended { status, .. } if status.code() == Some(3)));
    assert!(error.to_string().contains("the port is in use"), "{error}");
    let missing = Process::spawn(&Spec::new("/nowhere/nothing"), |_| None::<()>, DEADLINE).await.unwrap_err();
    assert!(matches!(missing, Error::Start { .. }));
}
