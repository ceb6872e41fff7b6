//! Carries records between a node, the others and the store.

use super::wire::to_wire;
use super::{Records, Sharing};
use crate::broker::Jitter;
use callboard_contracts::mesh::v1::TellRecordsRequest;
use callboard_domain::ProviderRecord;
use callboard_ports::store::Error;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often the store is read for what this node was not told.
const READ_EVERY: Duration = Duration::from_secs(5);
/// How often what is old is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// The wait after a failed save.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest that the store is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most tellings at once. Beyond, the next waits for one to end: what changes meanwhile goes with it.
const TELLINGS: usize = 16;

/// What the store holds.
pub(crate) async fn recall(sharing: &Sharing) -> Result<Vec<ProviderRecord>, Error> {
    let read = timeout(PATIENCE, sharing.store.provider_records()).await;
    read.unwrap_or_else(|_| Err(Error::Unavailable(format!("it did not answer in {PATIENCE:?}"))))
}

/// Tells and saves what is learned, and reads what others saved, for ever. `heard` is given what was read.
pub(crate) async fn keep(
    records: &Records,
    sharing: &Sharing,
    jitter: &Jitter,
    heard: impl Fn(Vec<ProviderRecord>),
) {
    let waits =
        records.waits().keep(|waits| (sharing.tell)(TellRecordsRequest { waits, ..Default::default() }));
    futures::join!(
        tell(records, sharing),
        waits,
        save(records, sharing),
        read(records, sharing, jitter, heard)
    );
}

async fn tell(records: &Records, sharing: &Sharing) {
    let mut tellings = FuturesUnordered::new();
    loop {
        tokio::select! {
            untold = records.untold(), if tellings.len() < TELLINGS => {
                if !untold.is_empty() {
                    let records = untold.into_iter().map(to_wire).collect();
                    tellings.push((sharing.tell)(TellRecordsRequest { records, ..Default::default() }));
                }
            }
            Some(()) = tellings.next() => {}
        }
    }
}

async fn save(records: &Records, sharing: &Sharing) {
    let mut failing = false;
    loop {
        let unsaved = records.unsaved().await;
        if unsaved.is_empty() {
            continue;
        }
        let saved = timeout(PATIENCE, sharing.store.save_provider_records(unsaved.clone())).await;
        let error = match saved {
            Ok(Ok(())) => {
                failing = false;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        if !std::mem::replace(&mut failing, true) {
            tracing::warn!(
                error,
                "what was learned of providers is not saved yet: a restart would forget it"
            );
        }
        records.not_saved(unsaved);
        sleep(AGAIN).await;
    }
}

async fn read(records: &Records, sharing: &Sharing, jitter: &Jitter, heard: impl Fn(Vec<ProviderRecord>)) {
    let mut forgot = Instant::now();
    loop {
        sleep(READ_EVERY.mul_f64(0.9 + 0.2 * jitter().clamp(0.0, 1.0))).await;
        match recall(sharing).await {
            Ok(all) => heard(all),
            Err(error) => tracing::debug!(%error, "cannot read what others learned of providers"),
        }
        if forgot.elapsed() >= FORGET_EVERY {
            forgot = Instant::now();
            let before = records.forget();
            if let Ok(Err(error)) = timeout(PATIENCE, sharing.store.forget_breakers(before)).await {
                tracing::debug!(%error, "cannot forget what is old of providers");
            }
        }
    }
}
