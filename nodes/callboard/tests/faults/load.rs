//! The client: submits through the client library to all replicas, and writes down every id that was
//! acknowledged.

use callboard_client::{Client, Options, v1};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What was acknowledged.
#[derive(Clone, Default)]
pub(crate) struct Acked(Arc<Mutex<Vec<String>>>);

impl Acked {
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn note(&self, id: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }
}

/// What is submitted, and how fast.
pub(crate) struct Load {
    pub(crate) seed: u64,
    /// At least so many.
    pub(crate) tasks: usize,
    /// A second.
    pub(crate) rate: usize,
    pub(crate) addresses: Vec<String>,
}

/// How the submitting went.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Calls that ended with an error at the client.
    pub(crate) failed: AtomicUsize,
}

/// One task: most are short, some long, some fail at first.
fn input(random: &mut StdRng) -> String {
    let ms: u64 = match random.random_range(0..100) {
        0..3 => random.random_range(2_000..5_000),
        3..20 => random.random_range(100..800),
        _ => random.random_range(1..30),
    };
    let fail: u32 = if random.random_range(0..20) == 0 { random.random_range(1..3) } else { 0 };
    format!("{{\"ms\":{ms},\"fail\":{fail}}}")
}

/// Submits until there are enough and `enough` says that the faults are over.
pub(crate) async fn run(
    load: Load,
    acked: Acked,
    told: Arc<Told>,
    enough: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    const BATCH: usize = 10;
    let mut random = StdRng::seed_from_u64(load.seed ^ 0x10ad);
    let options = Options {
        addresses: load.addresses,
        timeout: Duration::from_secs(60),
        patience: Duration::from_secs(45),
        connect_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    let client = Client::connect(options)?;
    let mut tick =
        tokio::time::interval(Duration::from_secs(1) * u32::try_from(BATCH)? / u32::try_from(load.rate)?);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let calls = tokio_util::task::TaskTracker::new();
    // A server that is away must not pile up calls without bound.
    let room = Arc::new(tokio::sync::Semaphore::new(64));
    let mut submitted = 0;
    while submitted < load.tasks || !enough.load(Ordering::SeqCst) {
        tick.tick().await;
        let requests: Vec<_> = (0..BATCH)
            .map(|_| v1::SubmitTaskRequest {
                kind: "fault.work".into(),
                input: input(&mut random).into_bytes().into(),
                priority: Some(random.random_range(0..10)),
                ..v1::SubmitTaskRequest::default()
            })
            .collect();
        submitted += BATCH;
        let (client, acked, told) = (client.clone(), acked.clone(), Arc::clone(&told));
        let permit = Arc::clone(&room).acquire_owned().await?;
        calls.spawn(async move {
            let _permit = permit;
            match client.submit_batch(requests).await {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        match outcome {
                            Ok(done) => acked.note(done.task.id),
                            Err(_) => _ = told.failed.fetch_add(1, Ordering::SeqCst),
                        }
                    }
                }
                Err(_) => _ = told.failed.fetch_add(1, Ordering::SeqCst),
            }
        });
    }
    calls.close();
    calls.wait().await;
    Ok(())
}
