use super::Options;
use callboard_ports::locks::Error;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Keeps a lock, asked for then, until it is lost or nobody has confirmed it for two thirds of its time to live:
/// then says so and ends.
///
/// A renewal counts from when it was asked for, since nobody knows when within its call the service wrote it.
pub(super) async fn keep(options: Options, asked: Instant, loss: CancellationToken) {
    let Options { name, owner, ttl, locks, .. } = &options;
    let (mut confirmed, mut next) = (asked, asked + *ttl / 3);
    loop {
        let limit = confirmed + *ttl * 2 / 3;
        if next >= limit {
            sleep_until(limit).await;
            break;
        }
        sleep_until(next).await;
        let asked = Instant::now();
        match timeout_at(limit, locks.renew(name, owner, *ttl)).await {
            Ok(Ok(())) => (confirmed, next) = (asked, asked + *ttl / 3),
            Ok(Err(Error::Unavailable(error))) => {
                tracing::debug!(singleton = &**name, error, "the lock was not renewed");
                next = Instant::now() + *ttl / 12;
            }
            Ok(Err(Error::Lost | Error::Held { .. })) | Err(_) => break,
        }
    }
    tracing::warn!(singleton = &**name, "the lock was lost");
    loss.cancel();
}
