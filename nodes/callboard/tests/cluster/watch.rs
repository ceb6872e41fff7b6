//! Watching a task on another node than the one that runs it.

use crate::load::{
    all_end, all_run, all_succeeded, eventually, kept_once, now, quantile, say, sleep, submit,
};
use crate::replica::{Cluster, Servers, Settings};
use crate::room;
use crate::wire::Wire;
use callboard_client::{Client, Error, Update, is_terminal, v1};
use callboard_domain::convert::{time_from_proto, time_to_proto};
use futures::StreamExt;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long the end of a task may take to be seen, from its commit, when its owner is killed at once.
const END_WITHIN: Duration = Duration::from_secs(2);
/// The delay of an event to another node that a busy machine is allowed. An idle one shows under 100 ms.
const DELAY: Duration = Duration::from_millis(250);

/// What a node has by default; the others of these tests have fewer.
const CONNECTIONS: &str = "CALLBOARD_STORE__CONNECTIONS";

/// What a watcher saw: each event with how long after it happened it came.
#[derive(Default)]
struct Seen {
    task: v1::Task,
    delays: Vec<(v1::TaskEvent, Duration)>,
    /// Why it was cut; it went on by itself.
    cuts: Vec<Error>,
}

/// Watches a task to its end. `open` is called with its first state: from then on events are pushed.
async fn watch(client: Client, id: String, open: impl FnOnce()) -> Seen {
    let (mut seen, mut open) = (Seen::default(), Some(open));
    let mut updates = client.watch(&id, None);
    while let Some(update) = updates.next().await {
        match update.unwrap() {
            Update::Task(task) => seen.task = *task,
            Update::Event(event) => seen.delays.push((*event.clone(), after_now(&event))),
            Update::Interrupted(error) => seen.cuts.push(error),
        }
        if let Some(open) = open.take() {
            open();
        }
    }
    seen
}

/// Watches tasks; returns once all watches are open.
async fn watch_all(client: &Client, ids: &[String]) -> JoinSet<Seen> {
    let (opened, mut open) = tokio::sync::mpsc::channel(ids.len());
    let mut watchers = JoinSet::new();
    for id in ids {
        let opened = opened.clone();
        watchers.spawn(watch(client.clone(), id.clone(), move || opened.try_send(()).unwrap()));
    }
    for _ in ids {
        open.recv().await.unwrap();
    }
    watchers
}

/// What all of them saw.
async fn ends(watchers: &mut JoinSet<Seen>, within: Duration) -> Vec<Seen> {
    let all = std::mem::take(watchers).join_all();
    tokio::time::timeout(within, all).await.unwrap_or_else(|_| panic!("some watches do not end"))
}

/// How long ago an event happened.
fn after_now(event: &v1::TaskEvent) -> Duration {
    now().since(time_from_proto(&event.at.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delay_to_another_node_stays_small_with_1000_watched_tasks() {
    let settings =
        [Settings::new("works").slots(200), Settings::new("shows").without_worker().env(CONNECTIONS, "16")];
    let mut cluster = Cluster::start(room::alone().await, &settings).await;
    let client = cluster.replica("shows").client.clone();
    kept_once(DELAY, async || p99_of_1000_watched(&client).await).await;
}

/// Watches 1,000 tasks that another node runs, and returns the delay that one event of a hundred passes.
async fn p99_of_1000_watched(client: &Client) -> Duration {
    const TASKS: usize = 1_000;
    const EVERY: Duration = Duration::from_millis(5);
    // They begin once all are watched, one after the other: a delay is measured, not a burst.
    let begin = now().after(Duration::from_secs(6));
    let tasks = (0..TASKS).map(|i| {
        let run_at = time_to_proto(begin.after(EVERY * u32::try_from(i).unwrap()));
        v1::SubmitTaskRequest { run_at: Some(run_at), ..sleep(200) }
    });
    let ids = submit(client, tasks).await;
    let mut watchers = watch_all(client, &ids).await;
    assert!(now() < begin, "the watches took longer to open than the tasks to begin");
    let (mut delays, mut cuts) = (Vec::new(), 0);
    for seen in ends(&mut watchers, Duration::from_secs(60)).await {
        cuts += seen.cuts.len();
        assert_eq!((seen.task.state(), seen.task.node.as_str()), (v1::TaskState::Succeeded, "works"));
        // Nothing but its submission, which came before the watch, went unseen.
        assert_eq!(seen.delays.len() as u64, seen.task.last_seq - 1, "{:?}", seen.delays);
        delays.extend(seen.delays.into_iter().map(|(_, delay)| delay));
    }
    let [median, p99, last] = [0.5, 0.99, 1.0].map(|share| quantile(&delays, share));
    let events = delays.len();
    say(&format!(
        "watch: {events} events of {TASKS} tasks reached another node after {median:.0?} (p99 {p99:.0?}, last {last:.0?}); {cuts} watches were cut"
    ));
    p99
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_on_another_node_sees_the_end_within_two_seconds_when_the_owner_is_killed_after_the_commit()
{
    const ROUNDS: usize = 4;
    const TASKS: usize = 5;
    let room = room::shared().await;
    let servers = Servers::shared().await;
    let (before, after_port) = servers.postgres.split_once("@127.0.0.1:").unwrap();
    let (port, database) = after_port.split_once('/').unwrap();
    let wire = Wire::to(port.parse().unwrap()).await;
    // The proxy reads along.
    let through = format!("{before}@127.0.0.1:{}/{database}?sslmode=disable", wire.port());
    let settings = [
        Settings::new("works").slots(TASKS as u32).env("CALLBOARD_STORE__URL", through),
        Settings::new("shows").without_worker(),
    ];
    let mut cluster = Cluster::start_on(room, servers, &settings).await;
    let client = cluster.replica("shows").client.clone();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let ids = submit(&client, (0..TASKS).map(|_| sleep(2_000))).await;
        all_run(&client, &ids).await;
        let mut watchers = watch_all(&client, &ids).await;
        let hit = wire.hold_the_next_commit_of_a_result();
        tokio::time::timeout(Duration::from_secs(10), hit).await.unwrap().unwrap();
        // In the store, and known to nobody: its owner still waits to hear of the commit.
        let committed = eventually("a result is committed", Duration::from_secs(5), async || {
            let mut ended = Vec::new();
            for id in &ids {
                let task = client.get(id, false).await.unwrap();
                ended.extend(is_terminal(task.state()).then_some(task.id));
            }
            (!ended.is_empty()).then_some(ended)
        })
        .await;
        cluster.replica("works").kill9().await;
        cluster.replica("works").start().await;
        all_succeeded(&all_end(&client, &ids, Duration::from_secs(20)).await);
        for seen in ends(&mut watchers, Duration::from_secs(10)).await {
            assert!(seen.cuts.is_empty(), "{:?}", seen.cuts);
            let (end, delay) = seen.delays.last().unwrap();
            assert!(is_terminal(end.state()), "{end:?}");
            assert!(*delay < END_WITHIN, "seen {delay:?} after it: {end:?}");
            if committed.contains(&seen.task.id) {
                assert_eq!(seen.task.attempt, 1, "its result was recorded once: {:?}", seen.task);
                took.push(*delay);
            }
        }
    }
    let last = quantile(&took, 1.0);
    say(&format!(
        "watch: {} ends that their killed owner told nobody were seen after at most {last:.0?}",
        took.len()
    ));
    assert!(took.len() >= ROUNDS);
}
