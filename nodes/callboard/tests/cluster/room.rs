//! Room on the machine.

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many clusters may run at once.
const CLUSTERS: u32 = 2;

static ROOM: Semaphore = Semaphore::const_new(CLUSTERS as usize);

/// A part of the machine; it is given back when dropped.
pub(crate) type Room = SemaphorePermit<'static>;

/// Room for one cluster beside another.
pub(crate) async fn shared() -> Room {
    ROOM.acquire().await.unwrap()
}

/// The whole machine, for a test that measures time.
pub(crate) async fn alone() -> Room {
    ROOM.acquire_many(CLUSTERS).await.unwrap()
}
