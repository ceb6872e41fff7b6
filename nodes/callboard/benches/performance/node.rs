//! The processes that are measured, and the servers they use.

use crate::Result;
use callboard_client::v1;
use callboard_client::v1::cluster_service_client::ClusterServiceClient;
use callboard_testkit::Collector;
use callboard_testkit::process::{Process, Spec};
use callboard_testkit::services::{Postgres, RabbitMq, Redis, shared};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// PostgreSQL, RabbitMQ and Redis of the bench's own, with fsync on.
pub(crate) struct Servers {
    postgres: Postgres,
    rabbitmq: RabbitMq,
    redis: Redis,
    _folder: tempfile::TempDir,
    databases: usize,
}

/// Where the servers have something that is used once: an empty database, queues of one's own.
pub(crate) struct Place {
    pub(crate) postgres: String,
    pub(crate) rabbitmq: String,
    pub(crate) redis: String,
    pub(crate) prefix: String,
}

impl Servers {
    pub(crate) fn start() -> Result<Self> {
        let programs = shared::programs()?;
        let folder = tempfile::tempdir()?;
        Ok(Self {
            postgres: Postgres::start(programs)?,
            rabbitmq: RabbitMq::start(programs)?,
            redis: Redis::start(programs, folder.path())?,
            _folder: folder,
            databases: 0,
        })
    }

    pub(crate) fn place(&mut self) -> Result<Place> {
        self.databases += 1;
        let prefix = format!("bench{}", self.databases);
        Ok(Place {
            postgres: self.postgres.create_database(&prefix)?,
            rabbitmq: self.rabbitmq.url(),
            redis: self.redis.url(0),
            prefix,
        })
    }
}

/// One process of the product.
pub(crate) struct Node {
    process: Process,
    pub(crate) address: String,
    folder: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn embedded() -> Result<Self> {
        Self::start_on(tempfile::tempdir()?, &[]).await
    }

    /// A replica of a cluster, with as many slots as by default unless told otherwise. It exports a tenth of its
    /// traces to a collector, if there is one.
    pub(crate) async fn replica(
        place: &Place,
        name: &str,
        slots: Option<usize>,
        collector: Option<&Collector>,
    ) -> Result<Self> {
        let mut own = Self::of(place, name);
        if let Some(collector) = collector {
            own.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()));
            own.push(("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".into()));
            own.push(("OTEL_TRACES_SAMPLER_ARG", "0.1".into()));
        }
        own.extend(slots.map(|slots| ("CALLBOARD_WORKER__SLOTS", slots.to_string())));
        Self::start_on(tempfile::tempdir()?, &own).await
    }

    /// A replica that takes tasks from these queues only.
    pub(crate) async fn replica_of(place: &Place, name: &str, queues: &[&str]) -> Result<Self> {
        let mut own = Self::of(place, name);
        own.push(("CALLBOARD_WORKER__QUEUES", format!("[{}]", queues.join(","))));
        Self::start_on(tempfile::tempdir()?, &own).await
    }

    fn of(place: &Place, name: &str) -> Vec<(&'static str, String)> {
        vec![
            ("CALLBOARD_NODE__NAME", name.to_owned()),
            ("CALLBOARD_LISTEN__MESH", "127.0.0.1:0".into()),
            ("CALLBOARD_STORE__BACKEND", "postgres".into()),
            ("CALLBOARD_STORE__URL", place.postgres.clone()),
            ("CALLBOARD_RABBITMQ__URL", place.rabbitmq.clone()),
            ("CALLBOARD_RABBITMQ__PREFIX", place.prefix.clone()),
            ("CALLBOARD_REDIS__URL", place.redis.clone()),
            ("CALLBOARD_REDIS__PREFIX", place.prefix.clone()),
        ]
    }

    /// Stops it and starts another on its data.
    pub(crate) async fn restart(mut self) -> Result<Self> {
        self.process.terminate(Duration::from_secs(20)).await?;
        Self::start_on(self.folder, &[]).await
    }

    async fn start_on(folder: tempfile::TempDir, env: &[(&str, String)]) -> Result<Self> {
        let spec = Spec::new(env!("CARGO_BIN_EXE_callboard"))
            .args(["up", "--output", "json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--data-dir".as_ref(), folder.path().join("data").as_os_str()])
            .env("CALLBOARD_LOG__FILTER", "warn");
        let spec = env.iter().fold(spec, |spec, (name, value)| spec.env(name, value));
        let ready = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["api"].as_str()?.to_owned())
        };
        let (process, address) = Process::spawn(&spec, ready, Duration::from_secs(60)).await?;
        Ok(Self { process, address, folder })
    }

    pub(crate) async fn kill9(&mut self) -> Result<()> {
        self.process.kill9().await?;
        Ok(())
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true))
    }

    /// Resident memory.
    pub(crate) fn memory_mb(&self) -> f64 {
        self.process.memory_mb()
    }

    /// The processor time it has used.
    pub(crate) fn cpu(&self) -> Duration {
        self.process.cpu()
    }
}

/// Waits until so many tasks have succeeded, as a node counts them.
pub(crate) async fn succeeded(channel: Channel, count: usize, look_every: Duration) -> Result<()> {
    let mut cluster = ClusterServiceClient::new(channel);
    loop {
        let tasks =
            cluster.get_cluster(v1::GetClusterRequest {}).await?.into_inner().tasks.unwrap_or_default();
        if tasks.failed > 0 {
            return Err("a task failed".into());
        }
        if tasks.succeeded >= count as u64 {
            return Ok(());
        }
        tokio::time::sleep(look_every).await;
    }
}
