//! Servers of a test's own, that it may kill.

use crate::replica::Servers;
use callboard_testkit::services::{Error, Postgres, Programs, RabbitMq, Redis, shared};

/// A server that is killed and started again while the test goes on.
pub(crate) struct Own<T>(Option<T>);

impl<T: Send + 'static> Own<T> {
    async fn start(start: impl FnOnce(&Programs) -> Result<T, Error> + Send + 'static) -> Self {
        let started = tokio::task::spawn_blocking(|| shared::programs().and_then(start));
        Self(Some(started.await.unwrap().unwrap()))
    }

    /// Starting and stopping block: they happen on a thread of their own.
    pub(crate) async fn with<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut T) -> Result<R, Error> + Send + 'static,
    ) -> R {
        let mut server = self.0.take().unwrap();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut server);
            (server, done)
        });
        let (server, done) = done.await.unwrap();
        self.0 = Some(server);
        done.unwrap()
    }
}

/// A PostgreSQL of one's own, and the servers of a cluster on it.
pub(crate) async fn own_postgres() -> (Own<Postgres>, Servers) {
    let mut own = Own::start(Postgres::start).await;
    let postgres = own.with(|server| server.create_database("callboard")).await;
    (own, Servers { postgres, ..Servers::shared().await })
}

/// A RabbitMQ of one's own, and the servers of a cluster on it.
pub(crate) async fn own_rabbitmq() -> (Own<RabbitMq>, Servers) {
    let mut own = Own::start(RabbitMq::start).await;
    let url = own.with(|server| Ok(server.url())).await;
    (own, Servers { rabbitmq: (url, "callboard".into()), ..Servers::shared().await })
}

/// A Redis of one's own, and the servers of a cluster on it.
pub(crate) async fn own_redis() -> (Own<Redis>, Servers) {
    let mut own = Own::start(|programs| Redis::start(programs, &std::env::temp_dir())).await;
    let url = own.with(|server| Ok(server.url(0))).await;
    (own, Servers { redis: (url, "callboard".into()), ..Servers::shared().await })
}
