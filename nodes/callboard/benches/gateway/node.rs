//! The processes that are measured, on a core of their own.

use crate::Result;
use crate::load::Target;
use crate::sink::Sink;
use callboard::config::KeyHash;
use callboard_testkit::process::{Process, Spec};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::net::SocketAddr;
use std::time::Duration;

const STARTS_WITHIN: Duration = Duration::from_secs(30);
const KEY: &str = "cb-bench";

/// The two cores: the one of what is measured, and the one of everything else.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    measured: CpuSet,
    others: CpuSet,
}

impl Cores {
    /// Two of those that this process may use. From here on it uses one.
    ///
    /// # Errors
    /// If there is only one.
    pub(crate) fn take() -> Result<Self> {
        let may = sched_getaffinity(None)?;
        let mut free = (0..CpuSet::MAX_CPU).filter(|core| may.is_set(*core)).map(|core| {
            let mut one = CpuSet::new();
            one.set(core);
            one
        });
        let (Some(measured), Some(others)) = (free.next(), free.next()) else {
            return Err("two cores are needed: one for what is measured, one for the load".into());
        };
        let cores = Self { measured, others };
        sched_setaffinity(None, &others)?;
        Ok(cores)
    }

    /// Starts a process on the core of what is measured: it has the affinity of the thread that starts it.
    async fn start<T>(self, spec: &Spec, ready: impl FnMut(&str) -> Option<T>) -> Result<(Process, T)> {
        sched_setaffinity(None, &self.measured)?;
        let mut spawn = std::pin::pin!(Process::spawn(spec, ready, STARTS_WITHIN));
        let first = futures::poll!(spawn.as_mut());
        sched_setaffinity(None, &self.others)?;
        Ok(match first {
            std::task::Poll::Ready(done) => done?,
            std::task::Poll::Pending => spawn.await?,
        })
    }
}

/// A process that is measured.
pub(crate) struct Node {
    process: Process,
    pub(crate) target: Target,
    _folder: tempfile::TempDir,
}

impl Node {
    /// The product, with everything on that its defaults have on, the exact cache, small enough to be full soon, a key,
    /// limits that are never reached, and a tenth of the traces exported.
    pub(crate) async fn gateway(cores: Cores, provider: SocketAddr, sink: &Sink) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = format!(
            r#"
[[broker.providers]]
name = "bench"
adapter = "openai"
base_url = "http://{provider}/v1"
api_key_env = "BENCH_KEY"
text_model = "bench-model"

[broker.cache]
enabled = true
max_mb = 8

[[broker.limits]]
provider = "bench"
requests_per_minute = {most}
tokens_per_minute = {most}

[[openai.keys]]
name = "bench"
hash = "{hash}"
namespace = "bench"
"#,
            most = u32::MAX,
            hash = KeyHash::of(KEY),
        );
        let path = folder.path().join("callboard.toml");
        std::fs::write(&path, config)?;
        let spec = Spec::new(env!("CARGO_BIN_EXE_callboard"))
            .args(["up", "--output", "json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--config".as_ref(), path.as_os_str()])
            .args(["--data-dir".as_ref(), folder.path().join("data").as_os_str()])
            .env("BENCH_KEY", "sk-bench")
            .env("CALLBOARD_LOG__FILTER", "warn")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.endpoint)
            .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", "0.1");
        let ready = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["api"].as_str()?.parse::<SocketAddr>().ok()
        };
        let (process, address) = cores.start(&spec, ready).await?;
        Ok(Self { process, target: Target { address, key: KEY.into() }, _folder: folder })
    }

    /// The floor.
    pub(crate) async fn floor(cores: Cores, provider: SocketAddr) -> Result<Self> {
        let spec = Spec::new(std::env::current_exe()?).args([crate::FLOOR.to_owned(), provider.to_string()]);
        let (process, address) = cores.start(&spec, |line| line.parse::<SocketAddr>().ok()).await?;
        Ok(Self { process, target: Target { address, key: KEY.into() }, _folder: tempfile::tempdir()? })
    }

    /// Resident memory, and the processor time it has used.
    pub(crate) fn used(&self) -> (f64, Duration) {
        (self.process.memory_mb(), self.process.cpu())
    }
}
