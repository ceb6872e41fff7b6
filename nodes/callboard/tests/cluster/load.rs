//! What tests submit and wait for, and how they look at it afterwards.

use callboard_client::{Client, is_terminal, v1};
use callboard_domain::Timestamp;
use callboard_domain::convert::time_from_proto;
use futures::{StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long anything that should happen soon may take. Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The most tasks of one batch.
const BATCH: usize = 500;

/// Written past the test harness, which would keep it to itself.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let asking = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(within, asking).await;
    found.unwrap_or_else(|_| panic!("not in {within:?}: {what}"))
}

/// A task that sleeps.
pub(crate) fn sleep(ms: u64) -> v1::SubmitTaskRequest {
    request("echo", &format!(r#"{{"sleep_ms":{ms}}}"#))
}

/// A task of a kind.
pub(crate) fn request(kind: &str, input: &str) -> v1::SubmitTaskRequest {
    v1::SubmitTaskRequest { kind: kind.into(), input: input.to_owned().into(), ..Default::default() }
}

/// Submits tasks, in batches; all must be taken. Returns their ids.
pub(crate) async fn submit(
    client: &Client,
    requests: impl IntoIterator<Item = v1::SubmitTaskRequest>,
) -> Vec<String> {
    let requests: Vec<_> = requests.into_iter().collect();
    let mut ids = Vec::with_capacity(requests.len());
    for batch in requests.chunks(BATCH) {
        let submitted = client.submit_batch(batch.to_vec()).await.unwrap();
        ids.extend(submitted.into_iter().map(|outcome| outcome.unwrap().task.id));
    }
    ids
}

/// Waits until each of the tasks fits, and returns them in the order of the ids.
pub(crate) async fn wait_all(
    client: &Client,
    ids: &[String],
    what: &str,
    within: Duration,
    fits: impl Fn(&v1::Task) -> bool,
) -> Vec<v1::Task> {
    let until = Instant::now() + within;
    let mut tasks = Vec::with_capacity(ids.len());
    for id in ids {
        let what = format!("{id} {what}");
        let task = eventually(&what, until - Instant::now(), async || {
            // The node that is asked may be the one that is down.
            client.get(id, false).await.ok().filter(&fits)
        });
        tasks.push(task.await);
    }
    tasks
}

/// Waits until all of the tasks run, on a node that says so.
pub(crate) async fn all_run(client: &Client, ids: &[String]) -> Vec<v1::Task> {
    let runs = |task: &v1::Task| task.state() == v1::TaskState::Running && task.started_at.is_some();
    wait_all(client, ids, "runs", DEADLINE, runs).await
}

/// Waits until no task of the cluster is left, and returns these, in the order of the ids.
pub(crate) async fn all_end(client: &Client, ids: &[String], within: Duration) -> Vec<v1::Task> {
    let settled = async || {
        let counts = client.cluster().await.ok()?.tasks?;
        (counts.scheduled + counts.queued + counts.running == 0).then_some(())
    };
    eventually("no task is left", within, settled).await;
    let mut tasks = all(client).await;
    let ended = ids.iter().map(|id| tasks.remove(id).unwrap_or_else(|| panic!("{id} is gone")));
    let ended: Vec<_> = ended.collect();
    assert!(ended.iter().all(|task| is_terminal(task.state())), "{ended:?}");
    ended
}

/// All tasks of the cluster, by their ids.
pub(crate) async fn all(client: &Client) -> HashMap<String, v1::Task> {
    let tasks = client.list_all(v1::TaskFilter::default());
    tasks.map_ok(|task| (task.id.clone(), task)).boxed().try_collect().await.unwrap()
}

/// Every task succeeded.
pub(crate) fn all_succeeded(tasks: &[v1::Task]) {
    let not = tasks.iter().find(|task| task.state() != v1::TaskState::Succeeded);
    assert!(not.is_none(), "{not:?}");
}

/// The log of a task, which is dense, ends once, and counts its attempts up.
pub(crate) async fn log(client: &Client, id: &str) -> Vec<v1::TaskEvent> {
    let events: Vec<v1::TaskEvent> = client.events_all(id).boxed().try_collect().await.unwrap();
    assert!((1..).zip(&events).all(|(seq, event)| event.seq == seq), "{events:?}");
    let ends = events.iter().filter(|event| is_terminal(event.state())).count();
    assert!(ends <= 1, "{events:?}");
    assert!(ends == 0 || events.last().is_some_and(|event| is_terminal(event.state())), "{events:?}");
    let claims = events.iter().filter(|event| event.r#type() == v1::TaskEventType::Claimed);
    assert!((1..).zip(claims).all(|(attempt, claim)| claim.attempt == attempt), "{events:?}");
    events
}

/// The logs of many tasks.
pub(crate) async fn logs(client: &Client, ids: &[String]) -> Vec<Vec<v1::TaskEvent>> {
    futures::stream::iter(ids).map(|id| log(client, id)).buffered(16).collect().await
}

/// How long after a moment an event happened; zero if it was before.
pub(crate) fn after(moment: Timestamp, event: &v1::TaskEvent) -> Duration {
    time_from_proto(&event.at.unwrap()).since(moment)
}

/// Now. The store's clock is this machine's.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// The value that a share of the values does not pass.
pub(crate) fn quantile(values: &[Duration], share: f64) -> Duration {
    let mut values = values.to_vec();
    values.sort_unstable();
    let index = (values.len() as f64 * share).ceil() as usize;
    values[index.clamp(1, values.len()) - 1]
}

/// Measures up to three times, until a limit is kept. What else the machine does only ever adds to a time: one
/// that is short once shows what the product can do, and one that is always too long fails.
pub(crate) async fn kept_once(limit: Duration, mut measure: impl AsyncFnMut() -> Duration) {
    let mut measured = Vec::new();
    while measured.len() < 3 {
        let took = measure().await;
        if took < limit {
            return;
        }
        measured.push(took);
    }
    panic!("over {limit:?}, three times: {measured:?}");
}
