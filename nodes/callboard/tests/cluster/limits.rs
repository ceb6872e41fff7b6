//! A limit of calls to a provider: one for the whole cluster, not one for each node.

use crate::load::say;
use crate::replica::{Cluster, Replica, Settings};
use crate::room;
use crate::servers::own_redis;
use callboard_client::v1;
use callboard_client::v1::provider_service_client::ProviderServiceClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const PER_MINUTE: u32 = 600;
/// What may pass at once: as many as in a second.
const BURST: f64 = 10.0;
const CALLERS: usize = 64;
/// How long is measured at a time.
const SPAN: Duration = Duration::from_secs(12);
/// The wait of a caller that was refused. The limit names a longer one: these do not care.
const AGAIN: Duration = Duration::from_millis(100);

/// Callers that never stop asking, and how many of their calls passed.
struct Load {
    passed: Arc<AtomicU64>,
    _callers: JoinSet<()>,
}

impl Load {
    async fn on(replicas: &[Replica]) -> Self {
        let (passed, mut callers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        for caller in 0..CALLERS {
            let address = format!("http://{}", replicas[caller % replicas.len()].api);
            let mut client = ProviderServiceClient::connect(address).await.unwrap();
            let passed = Arc::clone(&passed);
            callers.spawn(async move {
                loop {
                    let message = v1::ChatMessage {
                        role: v1::ChatRole::User.into(),
                        content: "tea".into(),
                        ..Default::default()
                    };
                    // Each for itself: calls for the same are one otherwise, and pass the limit as one.
                    let cache = v1::CacheMode::Off.into();
                    let request =
                        v1::GenerateRequest { messages: vec![message], cache, ..Default::default() };
                    match client.generate(request).await {
                        Ok(_) => _ = passed.fetch_add(1, Ordering::SeqCst),
                        Err(status) => {
                            assert!(status.message().contains("the configured limit"), "{status:?}");
                            tokio::time::sleep(AGAIN).await;
                        }
                    }
                }
            });
        }
        Self { passed, _callers: callers }
    }

    /// How many pass within [`SPAN`], as a share of the rate alone, and of what may pass at most.
    async fn measure(&self) -> (f64, f64) {
        let (began, before) = (Instant::now(), self.passed.load(Ordering::SeqCst));
        tokio::time::sleep(SPAN).await;
        let passed = (self.passed.load(Ordering::SeqCst) - before) as f64;
        let rate = f64::from(PER_MINUTE) / 60.0 * began.elapsed().as_secs_f64();
        (passed / rate, passed / (rate + BURST))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_the_clusters_and_holds_without_redis() {
    let (mut redis, servers) = own_redis().await;
    let limit = format!(r#"[{{provider="offline", requests_per_minute={PER_MINUTE}, burst="1s"}}]"#);
    let settings = ["a", "b", "c"].map(|name| Settings::new(name).env("CALLBOARD_BROKER__LIMITS", &*limit));
    let cluster = Cluster::start_on(room::shared().await, servers, &settings).await;
    let load = Load::on(&cluster.replicas).await;
    // The burst is used up, and every node has counted the others.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (used, of_bound) = load.measure().await;
    say(&format!("limits: {:.1} % of the rate, {:.1} % of the bound", used * 100.0, of_bound * 100.0));
    assert!(used >= 0.95 && of_bound <= 1.01, "{used} of the rate, {of_bound} of the bound");

    redis.with(|server| server.kill()).await;
    let (used, of_bound) = load.measure().await;
    say(&format!("limits: without Redis {:.1} % of the rate", used * 100.0));
    assert!(used >= 0.6 && of_bound <= 1.01, "{used} of the rate, {of_bound} of the bound");
}
