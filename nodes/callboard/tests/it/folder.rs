//! The data folder, the ports and the configuration of a node process: what is refused, and how it is said.

use crate::node::{DEADLINE, UpProcess, request, up_refused, wait};
use callboard_client::v1;
use std::time::Instant;

#[tokio::test]
async fn a_second_node_on_a_folder_is_refused_and_told_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = UpProcess::start(&data, &["--name", "first"], &[]).await;
    let said = up_refused(&data, &[], &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains(first.data_dir.to_str().unwrap()), "{said:?}");
    assert!(said.stderr.contains("in use by the node `first`"), "{said:?}");
    assert!(said.stderr.contains("--data-dir"), "{said:?}");
    assert!(first.terminate().await.success());
    let again = UpProcess::start(&data, &[], &[]).await;
    assert!(again.terminate().await.success());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let said = up_refused("/proc/callboard".as_ref(), &[], &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("cannot write to the data folder /proc/callboard"), "{said:?}");
}

#[tokio::test]
async fn a_folder_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(UpProcess::start(&data, &[], &[]).await.terminate().await.success());
    // The user version of a database is a big-endian number at offset 60 of its header.
    let path = data.join("callboard.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&999_u32.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let said = up_refused(&data, &[], &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("999"), "the version found is named: {said:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was written");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_option_that_changes_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    for option in ["--listen", "--admin-listen"] {
        let said = up_refused(folder.path(), &[option, &address], &[]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains(&address) && said.stderr.contains(option), "{said:?}");
    }
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_named_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("callboard.toml");
    std::fs::write(&config, "[worker]\nslotz = 3\n").unwrap();
    let data = folder.path().join("data");
    let said = up_refused(&data, &["--config", config.to_str().unwrap()], &[]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("slotz"), "{said:?}");
    let said = up_refused(&data, &[], &[("CALLBOARD_WORKER__SLOTZ", "3")]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.to_lowercase().contains("slotz"), "{said:?}");
    assert!(!data.exists(), "nothing was made");
}

#[tokio::test]
async fn an_address_that_others_reach_must_be_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let said = up_refused(&data, &["--listen", "0.0.0.0:0"], &[]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("--insecure"), "{said:?}");
    let node = UpProcess::start(&data, &["--listen", "0.0.0.0:0", "--insecure"], &[]).await;
    assert!(node.api.ip().is_unspecified() && node.admin.is_some());
    assert!(node.terminate().await.success());
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_lets_tasks_end_and_the_next_takes_up_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = UpProcess::start(&data, &["--slots", "1"], &[]).await;
    let runs = node.client.submit(request("echo", r#"{"sleep_ms":700}"#)).await.unwrap().task;
    let began = Instant::now();
    while node.client.get(&runs.id, false).await.unwrap().state() != v1::TaskState::Running {
        assert!(began.elapsed() < DEADLINE);
        tokio::task::yield_now().await;
    }
    let waits = node.client.submit(request("echo", r#"{"waits":true}"#)).await.unwrap().task;
    assert!(node.terminate().await.success());

    let node = UpProcess::start(&data, &[], &[]).await;
    let ran = node.client.get(&runs.id, false).await.unwrap();
    assert_eq!((ran.state(), ran.attempt), (v1::TaskState::Succeeded, 1), "it ended before the node did");
    let waited = wait(&node.client, &waits.id).await;
    assert_eq!(waited.state(), v1::TaskState::Succeeded);
    assert_eq!((waited.failures, waited.lost), (0, 0));
    assert!(node.terminate().await.success());
}
