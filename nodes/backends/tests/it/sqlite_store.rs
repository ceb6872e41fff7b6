//! The SQLite store: the contract of its port, and what only a file has.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod faults;
mod file;
mod groups;
mod history;

use async_trait::async_trait;
use bytes::Bytes;
use callboard_backends::store::sqlite::{Options, Store};
use callboard_domain::{Attempt, NewTask, Priority, SessionId, Spec, TaskId, Timestamp};
use callboard_ports::Clock;
use callboard_ports::contract::{ManualClock, store::Fixture};
use callboard_ports::sessions::{NewSession, SessionStore};
use callboard_ports::store::{self, Claim, ClaimRequest, TaskStore};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

mod contract {
    callboard_ports::store_contract!(|| async { super::Place::new() });
}

mod provider_records {
    callboard_ports::provider_records_contract!(|| async { super::Place::new() });
}

/// A store in a folder of its own, on a clock that the test moves.
pub(crate) struct Place {
    folder: TempDir,
    clock: ManualClock,
    store: Arc<Store>,
}

impl Place {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let options = Options::new(folder.path().join("store.db"), Arc::new(clock.clone()), || 0.5);
        let store = Store::open(options).unwrap();
        Self { folder, clock, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn options(&self) -> Options {
        Options::new(self.path(), Arc::new(self.clock.clone()), || 0.5)
    }

    /// A connection of our own to the file, to look and meddle behind the store's back.
    fn sql(&self) -> rusqlite::Connection {
        let conn = rusqlite::Connection::open(self.path()).unwrap();
        conn.busy_timeout(Duration::from_secs(10)).unwrap();
        conn
    }

    /// Opens the store anew, with nothing in memory.
    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = Store::open(self.options()).unwrap();
    }

    async fn admit(&self, numbers: std::ops::Range<u128>) -> Vec<TaskId> {
        let answers = self.store.admit(numbers.map(task).collect()).await;
        answers.into_iter().map(|a| a.unwrap().task.spec.id).collect()
    }

    async fn session(&self, number: u128) -> SessionId {
        let id = SessionId::from_bytes(number.to_be_bytes());
        self.store.open_session(new_session(id)).await.unwrap();
        id
    }

    async fn claim(&self, session: SessionId, take: &[TaskId]) -> Vec<Claim> {
        self.store.claim(claim(session, take)).await.unwrap()
    }
}

impl callboard_ports::contract::provider_records::Fixture for Place {
    fn records(&self) -> Arc<dyn callboard_ports::ProviderRecords> {
        self.store.clone()
    }

    fn other(&self) -> Arc<dyn callboard_ports::ProviderRecords> {
        self.store.clone()
    }
}

#[async_trait]
impl Fixture for Place {
    fn store(&self) -> Arc<dyn store::Store> {
        self.store.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn forget_session(&self, session: SessionId) {
        let id = session.as_bytes().as_slice();
        assert_eq!(self.sql().execute("DELETE FROM node_sessions WHERE id = ?1", [id]).unwrap(), 1);
    }
}

fn new_session(id: SessionId) -> NewSession {
    NewSession {
        id,
        node: "a".into(),
        version: "1".into(),
        roles: vec!["worker".into()],
        addresses: BTreeMap::from([("mesh".into(), "127.0.0.1:1".into())]),
        revival: false,
    }
}

fn task(number: u128) -> NewTask {
    let id = TaskId::from_bytes((0x0193_9e2c_7e10_7000_8000_0000_0000_0000 + number).to_be_bytes());
    NewTask {
        spec: Spec {
            id,
            namespace: "default".into(),
            kind: "echo".into(),
            queue: "default".into(),
            priority: Priority::DEFAULT,
            max_attempts: 3,
            timeout: Duration::from_secs(60),
            created_at: Timestamp::default(),
            request_id: None,
            traceparent: None,
            retry_of: None,
        },
        run_at: None,
        input: Bytes::from(number.to_string()),
    }
}

fn claim(session: SessionId, take: &[TaskId]) -> ClaimRequest {
    ClaimRequest {
        session,
        node: "a".into(),
        hosted: Arc::new(HashSet::from(["echo".to_owned()])),
        take: take.to_vec(),
        give_back: Vec::new(),
    }
}

fn first_attempt(task_id: TaskId) -> Attempt {
    Attempt { task_id, number: 1 }
}
