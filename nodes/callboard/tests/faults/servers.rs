//! The real servers of a run, on the loopback address of its namespace, behind the proxies.

use anyhow::{Context as _, Result};
use callboard_testkit::services::{Postgres, RabbitMq, Redis, shared};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

const DATABASE: &str = "callboard";

/// PostgreSQL, RabbitMQ and Redis.
pub(crate) struct Servers {
    // Each is taken out while a thread of its own stops or starts it.
    postgres: Option<Postgres>,
    rabbitmq: Option<RabbitMq>,
    redis: Option<Redis>,
    ports: [u16; 3],
}

/// Runs what blocks on a thread of its own, so that the wires and the sink go on.
async fn aside<T: Send + 'static, R: Send + 'static>(
    server: &mut Option<T>,
    work: impl FnOnce(&mut T) -> R + Send + 'static,
) -> Result<R> {
    let mut taken = server.take().context("a server is in use")?;
    let (back, done) = tokio::task::spawn_blocking(move || {
        let done = work(&mut taken);
        (taken, done)
    })
    .await?;
    *server = Some(back);
    Ok(done)
}

impl Servers {
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let folder = folder.to_owned();
        let (postgres, rabbitmq, redis) = tokio::task::spawn_blocking(move || -> Result<_> {
            let programs = shared::programs()?;
            let postgres = Postgres::start(programs)?;
            postgres.create_database(DATABASE)?;
            Ok((postgres, RabbitMq::start(programs)?, Redis::start(programs, &folder)?))
        })
        .await??;
        let ports = [postgres.port(), rabbitmq.port(), redis.port()];
        Ok(Self { postgres: Some(postgres), rabbitmq: Some(rabbitmq), redis: Some(redis), ports })
    }

    fn at(&self, server: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[server]).into()
    }

    pub(crate) fn postgres_at(&self) -> SocketAddr {
        self.at(0)
    }

    pub(crate) fn rabbitmq_at(&self) -> SocketAddr {
        self.at(1)
    }

    pub(crate) fn redis_at(&self) -> SocketAddr {
        self.at(2)
    }

    /// The database as the nodes see it. Without TLS: the proxy reads along.
    pub(crate) fn postgres_url(&self, host: Ipv4Addr, port: u16) -> String {
        format!("postgres://callboard@{host}:{port}/{DATABASE}?sslmode=disable")
    }

    pub(crate) fn rabbitmq_url(&self, host: Ipv4Addr, port: u16) -> String {
        format!("amqp://guest:guest@{host}:{port}/%2f")
    }

    /// Asks the database past the proxies.
    pub(crate) async fn sql(&mut self, sql: String) -> Result<String> {
        Ok(aside(&mut self.postgres, move |server| server.sql(DATABASE, &sql)).await??)
    }

    pub(crate) async fn kill_postgres(&mut self) -> Result<()> {
        Ok(aside(&mut self.postgres, Postgres::kill).await??)
    }

    pub(crate) async fn restart_postgres(&mut self) -> Result<()> {
        Ok(aside(&mut self.postgres, Postgres::restart).await??)
    }

    pub(crate) async fn kill_rabbitmq(&mut self) -> Result<()> {
        Ok(aside(&mut self.rabbitmq, RabbitMq::kill).await??)
    }

    pub(crate) async fn restart_rabbitmq(&mut self) -> Result<()> {
        Ok(aside(&mut self.rabbitmq, RabbitMq::restart).await??)
    }

    pub(crate) async fn kill_redis(&mut self) -> Result<()> {
        Ok(aside(&mut self.redis, Redis::kill).await??)
    }

    pub(crate) async fn restart_redis(&mut self) -> Result<()> {
        Ok(aside(&mut self.redis, Redis::restart).await??)
    }

    pub(crate) async fn flush_redis(&mut self) -> Result<()> {
        aside(&mut self.redis, |server| server.command(&["flushall"])).await??;
        Ok(())
    }
}
