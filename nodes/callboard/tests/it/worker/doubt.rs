//! A claim whose answer says less than what was done.

use super::store::Tampering;
use super::{NEVER, Stage, task};
use callboard_ports::store::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A batch that is split when one row is refused has committed its other part, and is answered with the error
/// all the same. Only the look that the doubt asks for finds the attempts: the next one would come too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_committed_in_part_is_given_back_at_once() {
    for error in [
        Error::Refused("planted".into()),
        Error::Corrupt("planted".into()),
        Error::Unavailable("planted".into()),
        Error::Unknown("planted".into()),
    ] {
        let stage = Stage::new().await;
        let store = Arc::new(Tampering::first_claim(stage.store.clone(), error.clone()));
        let ids = stage.admit((0..4).map(|n| task(format!(r#"{{"n":{n}}}"#)))).await;
        let running = stage.start(NEVER, |_| (), |deps| deps.store = store.clone());
        let tasks = stage.all_succeed(&ids).await;
        assert_eq!(store.tampered.load(Ordering::SeqCst), 1, "{error}");
        assert!(tasks.iter().any(|t| t.life.attempt == 2), "the claim had committed: {error}");
        assert!(tasks.iter().all(|t| t.life.failures == 0 && t.life.lost == 0), "it counts against nobody");
        drop(running);
        stage.store.close().await;
    }
}
