//! The PostgreSQL store: the contract of its port, and what only a server has.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod commits;
mod database;
mod faults;
mod held;
mod large;
mod ledger;
mod lost_answers;
mod plans;
mod pooler;
mod proxy;
mod remembered;
mod server;
mod silence;
mod trace;

use async_trait::async_trait;
use bytes::Bytes;
use callboard_backends::store::postgres::{Options, Store};
use callboard_domain::{Attempt, NewTask, Outcome, Priority, SessionId, Spec, TaskId, Timestamp};
use callboard_ports::contract::{ManualClock, store::Fixture, store::Held};
use callboard_ports::sessions::{NewSession, SessionStore};
use callboard_ports::store::{self, Claim, ClaimRequest, Finish, TaskStore};
use callboard_ports::{Clock, Epochs, Outbox, SystemClock};
use sqlx::{Connection, PgConnection};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

mod contract {
    callboard_ports::store_contract!(|| async { super::Place::new().await });
}

mod outbox {
    callboard_ports::outbox_contract!(|| async { super::Place::new().await });
}

mod provider_records {
    callboard_ports::provider_records_contract!(|| async { super::Place::new().await });
}

/// Two stores on a database of their own, on a clock that the test moves.
pub(crate) struct Place {
    url: String,
    clock: ManualClock,
    store: Arc<Store>,
    other: Arc<Store>,
}

impl Place {
    async fn new() -> Self {
        let url = server::fresh_database().await;
        // Today, so that tasks have the partitions that tasks have.
        let clock = ManualClock::at(SystemClock.now());
        let options = Options { clock: Some(Arc::new(clock.clone())), ..options(&url) };
        let (store, other) = (open(&options).await, open(&options).await);
        Self { url, clock, store, other }
    }

    async fn admit(&self, numbers: std::ops::Range<u128>) -> Vec<TaskId> {
        let answers = self.store.admit(numbers.map(task).collect()).await;
        answers.into_iter().map(|a| a.unwrap().task.spec.id).collect()
    }

    async fn session(&self, number: u128) -> SessionId {
        let id = SessionId::from_bytes(number.to_be_bytes());
        self.other.open_session(new_session(id)).await.unwrap();
        id
    }

    async fn claim(&self, session: SessionId, take: &[TaskId]) -> Vec<Claim> {
        self.store.claim(claim(session, take)).await.unwrap()
    }

    /// A connection of our own, to look and meddle behind the store's back.
    async fn sql(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}

impl callboard_ports::contract::provider_records::Fixture for Place {
    fn records(&self) -> Arc<dyn callboard_ports::ProviderRecords> {
        self.store.clone()
    }

    fn other(&self) -> Arc<dyn callboard_ports::ProviderRecords> {
        self.other.clone()
    }
}

#[async_trait]
impl Fixture for Place {
    fn store(&self) -> Arc<dyn store::Store> {
        self.store.clone()
    }

    fn other(&self) -> Arc<dyn store::Store> {
        self.other.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn forget_session(&self, session: SessionId) {
        let id = Uuid::from_bytes(*session.as_bytes());
        let deleted = sqlx::query("DELETE FROM node_sessions WHERE id = $1").bind(id);
        assert_eq!(deleted.execute(&mut self.sql().await).await.unwrap().rows_affected(), 1);
    }

    async fn hold(&self, id: TaskId) -> Option<Box<dyn Held>> {
        Some(Box::new(held::Row::hold(&self.url, id).await))
    }
}

impl callboard_ports::contract::outbox::Fixture for Place {
    fn outbox(&self) -> Arc<dyn Outbox> {
        self.store.clone()
    }

    fn other_outbox(&self) -> Arc<dyn Outbox> {
        self.other.clone()
    }

    fn epochs(&self) -> Arc<dyn Epochs> {
        self.store.clone()
    }

    fn other_epochs(&self) -> Arc<dyn Epochs> {
        self.other.clone()
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

/// A task of today.
fn task(number: u128) -> NewTask {
    let now = u128::try_from(SystemClock.now().micros() / 1_000).unwrap();
    let id = TaskId::from_bytes(((now << 80) + (0x7000_8000 << 48) + number).to_be_bytes());
    task_with(id)
}

fn task_with(id: TaskId) -> NewTask {
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
        input: Bytes::from(id.to_string()),
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

fn success(task_id: TaskId) -> Finish {
    Finish {
        attempt: Attempt { task_id, number: 1 },
        started_at: None,
        outcome: Outcome::Succeeded,
        result: Some(Bytes::from_static(b"1")),
    }
}

fn options(url: &str) -> Options {
    Options { max_connections: 12, ..Options::new(url, || 0.5) }
}

async fn open(options: &Options) -> Arc<Store> {
    Store::open(options.clone()).await.unwrap()
}
