//! Tasks that may be what ends their nodes: one at a time, and each of them in the end.

use super::{NEVER, Stage, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_behind_another_runs_without_any_other_traffic() {
    let stage = Stage::new().await;
    let ids = stage.admit((0..2).map(|n| task(format!(r#"{{"n":{n},"sleep_ms":300}}"#)))).await;
    stage.lose_twice(&ids).await;
    let _running = stage.start(NEVER, |_| (), |_| ());
    let tasks = stage.all_succeed(&ids).await;
    assert!(tasks.iter().all(|t| t.life.lost == 2 && t.life.failures == 0), "{tasks:?}");
    stage.store.close().await;
}
