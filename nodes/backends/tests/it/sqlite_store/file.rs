//! The file: what it keeps, and which ones are refused.

use super::{Place, claim, first_attempt, task};
use bytes::Bytes;
use callboard_backends::store::sqlite::{OpenError, Options, Store};
use callboard_domain::{Outcome, SessionId, State};
use callboard_ports::SystemClock;
use callboard_ports::store::{Claim, Error, Fenced, Finish, TaskReader, TaskStore};
use std::path::Path;
use std::sync::Arc;

fn open(path: impl AsRef<Path>) -> Result<Arc<Store>, OpenError> {
    Store::open(Options::new(path.as_ref(), Arc::new(SystemClock), || 0.5))
}

async fn with_some_history() -> Place {
    let place = Place::new();
    let ids = place.admit(0..10).await;
    let session = place.session(1).await;
    place.claim(session, &ids[..5]).await;
    let end = Finish {
        attempt: first_attempt(ids[0]),
        started_at: None,
        outcome: Outcome::Succeeded,
        result: Some(Bytes::from_static(b"1")),
    };
    assert_eq!(place.store.finish(session, vec![end]).await.unwrap(), [Fenced::Recorded(State::Succeeded)]);
    place
}

async fn assert_history(store: &Store) {
    assert_eq!(store.counts().await.unwrap(), [0, 5, 4, 1, 0, 0]);
    let id = task(0).spec.id;
    let full = store.get_full(id).await.unwrap();
    assert_eq!((full.input, full.result), (Bytes::from_static(b"0"), Some(Bytes::from_static(b"1"))));
    assert_eq!(store.events(id, 0, 10).await.unwrap().len(), 3);
    let session = SessionId::from_bytes(1u128.to_be_bytes());
    assert_eq!(store.held_by(session).await.unwrap().len(), 4);
    let claims = store.claim(claim(session, &[task(9).spec.id])).await.unwrap();
    assert!(matches!(claims[..], [Claim::Claimed(_)]), "the session that was open is still open");
}

#[tokio::test]
async fn a_store_that_was_closed_is_all_there_again_in_one_file() {
    let place = with_some_history().await;
    place.store.close().await;
    place.store.close().await;
    assert!(matches!(place.store.cancel(task(0).spec.id).await, Err(Error::Unavailable(_))));
    assert!(matches!(place.store.counts().await, Err(Error::Unavailable(_))));
    let log = place.path().with_extension("db-wal");
    assert!(!log.exists(), "the log was folded into the file");
    let store = Store::open(place.options()).unwrap();
    assert_history(&store).await;
}

#[tokio::test]
async fn a_store_that_was_never_closed_is_all_there_again() {
    let place = with_some_history().await;
    // What a killed process leaves: the file and its log, as they are.
    let copy = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        std::fs::copy(place.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let store = open(copy.path().join("store.db")).unwrap();
    assert_history(&store).await;
}

#[tokio::test]
async fn a_file_from_a_newer_version_is_refused_and_left_alone() {
    let place = with_some_history().await;
    place.store.close().await;
    place.sql().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(place.path()).unwrap();
    match open(place.path()) {
        Err(OpenError::NewerVersion { found: 99, supported: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, [b'x'; 8192]).unwrap();
    assert!(matches!(open(&garbage), Err(OpenError::Corrupt { .. })));
    assert_eq!(std::fs::read(&garbage).unwrap(), [b'x'; 8192]);

    let foreign = folder.path().join("foreign.db");
    let conn = rusqlite::Connection::open(&foreign).unwrap();
    conn.execute_batch("CREATE TABLE tasks (id TEXT)").unwrap();
    drop(conn);
    let refused = open(&foreign).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
}

#[test]
fn a_folder_that_is_absent_or_not_writable_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent").join("store.db");
    let error = open(&absent).unwrap_err();
    assert!(matches!(&error, OpenError::CannotOpen { path, .. } if *path == absent), "{error:?}");
    assert!(error.to_string().contains(absent.to_str().unwrap()));
    // Nobody can create a file here, not even root.
    let error = open("/proc/store.db").unwrap_err();
    assert!(matches!(error, OpenError::CannotOpen { .. } | OpenError::NotWritable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_not_opened() {
    let place = with_some_history().await;
    place.store.close().await;
    // Root may write whatever the permissions say, so the file itself is opened for reading.
    let uri = format!("file:{}?mode=ro", place.path().display());
    let error = open(uri).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
}
