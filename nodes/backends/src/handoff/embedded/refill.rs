//! Reading lanes from the store.

use super::Shared;
use super::lanes::Scope;
use callboard_ports::store::Error;
use std::sync::Arc;
use std::time::Duration;

/// The first and the longest pause after a refill that brought nothing.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Refills lanes that have overflowed and run low, until the hand-off is closed.
pub(super) async fn keep_full(shared: Arc<Shared>) {
    let closing = shared.closing.clone();
    let work = async {
        loop {
            shared.runs_low.notified().await;
            let mut pause = PAUSES.0;
            while shared.lanes().runs_low() {
                let added = match refill(&shared, Scope::Low).await {
                    Ok(added) => added,
                    Err(error) => {
                        tracing::warn!(%error, "cannot refill the hand-off from the store");
                        0
                    }
                };
                // Nothing new though there is more: all that was read is known already (it waits for its
                // time, or is in deliveries), or the store does not answer. Asking again at once would spin.
                if added == 0 && shared.lanes().runs_low() {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(PAUSES.1);
                } else {
                    pause = PAUSES.0;
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = closing.cancelled() => {}
    }
}

/// Takes in all that is queued in the store, as far as it fits.
pub(super) async fn all(shared: &Shared) -> Result<usize, Error> {
    refill(shared, Scope::All).await
}

async fn refill(shared: &Shared, scope: Scope) -> Result<usize, Error> {
    let _alone = shared.one_refill.lock().await;
    let plan = shared.lanes().plan(scope);
    if scope == Scope::Low && plan.queues.is_empty() {
        return Ok(0);
    }
    // If this future is dropped here, the lanes stay marked as being refilled; the next plan starts anew.
    let rows = shared.source.queued(&plan.queues, plan.limit).await;
    let (added, low) = {
        let mut lanes = shared.lanes();
        let added = match &rows {
            Ok(rows) => lanes.merge(&plan, rows, &|| shared.clock.now()),
            Err(_) => lanes.abandon(),
        };
        (added, lanes.runs_low())
    };
    if added > 0 || low {
        shared.wake(low && scope == Scope::All);
    }
    rows.map(|_| added)
}
