//! Reads.

use super::Fixture;
use super::kit::{Kit, failure, success};
use crate::contract::task_id;
use crate::handoff::Ready;
use crate::store::{Error, Filter};
use callboard_domain::{Band, NewTask, Priority, State, TaskId};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Priorities that fall into the three bands, lowest first.
const PRIORITIES: [u32; 3] = [0, 5, 9];

fn in_queue<F: Fixture>(kit: &Kit<F>, queue: &str, priority: u32) -> NewTask {
    let mut task = kit.task();
    task.spec.queue = queue.into();
    task.spec.priority = Priority::new(priority).expect("a priority");
    task
}

/// Reading names only what exists.
pub async fn reads_what_exists(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let ids = kit.admit_many(3).await;
    let unknown = kit.task().spec.id;
    let got = kit.other.get(vec![ids[2], unknown, ids[0]]).await.expect("tasks are read");
    let got: HashSet<TaskId> = got.iter().map(|t| t.spec.id).collect();
    assert_eq!(got, HashSet::from([ids[0], ids[2]]));
    assert_eq!(kit.store.get(Vec::new()).await, Ok(vec![]));
    assert_eq!(kit.store.get_full(unknown).await.err(), Some(Error::NotFound));
    kit.audit().await;
}

/// A thousand ids are read in one call.
pub async fn reads_a_thousand_at_once(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.extend(kit.admit_many(100).await);
    }
    assert_eq!(kit.store.get(ids).await.expect("tasks are read").len(), 1_000);
    assert_eq!(kit.store.counts().await, Ok([0, 1_000, 0, 0, 0, 0]));
}

/// A read sees every write that was answered before it, through either node.
pub async fn reads_see_what_was_answered(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    for _ in 0..50 {
        let id = kit.admit_one().await;
        assert_eq!(kit.other.get(vec![id]).await.expect("tasks are read").len(), 1);
        let attempt = kit.claim_one(session, id).await;
        assert_eq!(kit.other.held_by(session).await, Ok(vec![attempt]));
        kit.finish_one(session, success(attempt, "1")).await;
        assert!(kit.other.get_full(id).await.expect("a task is read").result.is_some());
    }
    kit.audit().await;
}

/// A log is read from any place, in order and as far as asked for.
pub async fn reads_a_log_in_parts(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    kit.finish_one(session, success(attempt, "1")).await;
    let all = kit.store.events(id, 0, 100).await.expect("events are read");
    assert!(all.len() >= 4, "{all:?}");
    assert!(all.iter().all(|e| e.task_id == id));
    assert_eq!(all[1].node.as_deref(), Some("node-a"), "the claim names its node");
    let mut parts = Vec::new();
    while let Some(event) = kit.other.events(id, parts.len() as u64, 1).await.expect("events are read").pop()
    {
        parts.push(event);
    }
    assert_eq!(parts, all);
    assert_eq!(kit.store.events(id, 1_000, 10).await, Ok(vec![]));
    kit.audit().await;
}

/// A list is newest first, and pages of it neither overlap nor leave anything out.
pub async fn lists_newest_first_in_pages(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(kit.admit_many(5).await);
        kit.fixture.advance(Duration::from_secs(1)).await;
    }
    ids.reverse();
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let page = kit.other.list(Filter::default(), before, 7).await.expect("tasks are listed");
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        before = Some(last.spec.id);
        listed.extend(page.iter().map(|t| t.spec.id));
    }
    assert_eq!(listed, ids);
    kit.audit().await;
}

/// A list holds what fits every part of its filter, also page by page.
pub async fn lists_what_fits(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let start = kit.fixture.now();
    let ids = kit.admit_many(4).await;
    let attempt = kit.run_one(session, ids[0]).await;
    kit.finish_one(session, success(attempt, "1")).await;
    let attempt = kit.run_one(session, ids[1]).await;
    kit.finish_one(session, failure(attempt, false)).await;
    kit.store.cancel(ids[2]).await.expect("a waiting task is cancelled");
    kit.fixture.advance(Duration::from_secs(60)).await;
    let middle = kit.fixture.now();
    let (mut other_kind, mut other_queue) = (kit.task(), kit.task());
    other_kind.spec.kind = "text.generate".into();
    other_queue.spec.queue = "slow".into();
    let late: Vec<_> = kit.admit(vec![other_kind, other_queue]).await.iter().map(|t| t.spec.id).collect();
    let none = Filter::default();
    let states = |states: &[State]| Filter { states: states.to_vec(), ..Filter::default() };
    let cases = [
        (none.clone(), vec![late[1], late[0], ids[3], ids[2], ids[1], ids[0]]),
        (states(&[State::Failed]), vec![ids[1]]),
        (states(&[State::Succeeded, State::Cancelled]), vec![ids[2], ids[0]]),
        (states(&[State::Queued]), vec![late[1], late[0], ids[3]]),
        (states(&[State::Running, State::Scheduled]), vec![]),
        (Filter { kind: Some("text.generate".into()), ..none.clone() }, vec![late[0]]),
        (Filter { queue: Some("slow".into()), ..none.clone() }, vec![late[1]]),
        (Filter { queue: Some("slow".into()), ..states(&[State::Failed]) }, vec![]),
        (Filter { created_after: Some(middle), ..none.clone() }, vec![late[1], late[0]]),
        (Filter { created_before: Some(middle), ..none.clone() }, vec![ids[3], ids[2], ids[1], ids[0]]),
        (
            Filter { created_after: Some(start), created_before: Some(middle), ..states(&[State::Queued]) },
            vec![ids[3]],
        ),
        (Filter { kind: Some("nobody's".into()), ..none }, vec![]),
    ];
    for (filter, wanted) in cases {
        let got = kit.store.list(filter.clone(), None, 100).await.expect("tasks are listed");
        let got: Vec<_> = got.iter().map(|t| t.spec.id).collect();
        assert_eq!(got, wanted, "{filter:?}");
        let (mut paged, mut before) = (Vec::new(), None);
        while let Some(task) =
            kit.store.list(filter.clone(), before, 1).await.expect("tasks are listed").pop()
        {
            before = Some(task.spec.id);
            paged.push(task.spec.id);
        }
        assert_eq!(paged, wanted, "{filter:?}, page by page");
    }
    kit.audit().await;
}

/// The end of an id finds its task, unless it fits none or several.
pub async fn finds_by_the_end_of_an_id(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let now = kit.fixture.now();
    let tails = [0x00ab_cdef_0001_2345, 0x00ab_cdef_0002_2345, 0x00ab_cdef_0003_2346];
    let mut batch = Vec::new();
    for tail in tails {
        let mut task = kit.task();
        task.spec.id = task_id(now, tail);
        batch.push(task);
    }
    let ids: Vec<_> = kit.admit(batch).await.iter().map(|t| t.spec.id).collect();
    let hex = |id: TaskId| id.to_string().replace('-', "");
    for (suffix, wanted) in [
        ("2346", Ok(ids[2])),
        ("12345", Ok(ids[0])),
        ("00022345", Ok(ids[1])),
        (&hex(ids[1])[1..], Ok(ids[1])),
        (&hex(ids[2]), Ok(ids[2])),
        ("2345", Err(Error::Ambiguous)),
        ("ffff", Err(Error::NotFound)),
        ("cdef", Err(Error::NotFound)),
    ] {
        assert_eq!(kit.other.find(suffix).await, wanted, "{suffix}");
    }
    kit.audit().await;
}

/// Counts are by state, and follow every change.
pub async fn counts_by_state(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    assert_eq!(kit.store.counts().await, Ok([0; 6]));
    let mut ids = kit.admit_many(6).await;
    ids.push(kit.admit(vec![kit.later(Duration::from_secs(60))]).await[0].spec.id);
    assert_eq!(kit.other.counts().await, Ok([1, 6, 0, 0, 0, 0]));
    let mut attempts = Vec::new();
    for id in &ids[..4] {
        attempts.push(kit.run_one(session, *id).await);
    }
    kit.finish_one(session, success(attempts[0], "1")).await;
    kit.finish_one(session, failure(attempts[1], false)).await;
    kit.finish_one(session, failure(attempts[2], true)).await;
    kit.store.cancel(ids[4]).await.expect("a waiting task is cancelled");
    assert_eq!(kit.other.counts().await, Ok([2, 1, 1, 1, 1, 1]));
    kit.store.end_session(session, "killed").await.expect("a session ends");
    kit.let_time_pass().await;
    assert_eq!(kit.other.counts().await, Ok([0, 4, 0, 1, 1, 1]));
    kit.audit().await;
}

/// The depth of each queue is told by band, with its oldest task and since when that has waited.
pub async fn tells_the_depth_of_queues(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    assert_eq!(kit.store.queue_depths().await, Ok(vec![]));
    let oldest = kit.admit(vec![in_queue(&kit, "slow", 9)]).await.remove(0);
    kit.fixture.advance(Duration::from_secs(60)).await;
    let batch = [("slow", 0), ("slow", 9), ("slow", 5), ("fast", 5)].map(|(q, p)| in_queue(&kit, q, p));
    let tasks = kit.admit(batch.to_vec()).await;
    let mut depths = kit.other.queue_depths().await.expect("depths are read");
    depths.sort_by(|a, b| a.queue.cmp(&b.queue));
    let got: Vec<_> = depths.iter().map(|d| (&*d.queue, d.bands)).collect();
    assert_eq!(got, [("fast", [0, 1, 0]), ("slow", [1, 1, 2])]);
    assert_eq!(depths[1].oldest, Some((oldest.spec.id, oldest.spec.created_at)));
    assert_eq!(depths[0].oldest.map(|o| o.0), Some(tasks[3].spec.id));
    let mut bounded = kit.other.queue_depths_within(2, 1).await.expect("depths are read");
    bounded.sort_by(|a, b| a.queue.cmp(&b.queue));
    let got: Vec<_> = bounded.iter().map(|d| (&*d.queue, d.bands, d.oldest)).collect();
    let expected = [("fast", [0, 1, 0], depths[0].oldest), ("slow", [1, 1, 1], depths[1].oldest)];
    assert_eq!(got, expected, "no band is counted beyond the bound");
    assert_eq!(kit.other.queue_depths_within(1, 9).await.map(|depths| depths.len()), Ok(1));
    for id in [oldest.spec.id, tasks[0].spec.id, tasks[1].spec.id, tasks[2].spec.id] {
        kit.claim_one(session, id).await;
    }
    let depths = kit.store.queue_depths().await.expect("depths are read");
    assert_eq!(depths.len(), 1, "a queue without a waiting task is not listed: {depths:?}");
    kit.audit().await;
}

/// What a hand-off refills from: the oldest of each queue and band, so many of each, of the queues asked for.
pub async fn lists_what_is_queued(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        for queue in ["fast", "slow"] {
            let batch = PRIORITIES.map(|p| in_queue(&kit, queue, p)).to_vec();
            ids.extend(kit.admit(batch).await.iter().map(|t| t.spec.id));
        }
        kit.fixture.advance(Duration::from_secs(1)).await;
    }
    // The oldest of the lowest band of `fast` no longer waits, nor is one that is not due ever listed.
    kit.claim_one(session, ids[0]).await;
    kit.admit(vec![kit.later(Duration::from_secs(60))]).await;
    let lane = |queued: &[Ready], queue: &str, band: Band| -> Vec<TaskId> {
        queued.iter().filter(|r| &*r.queue == queue && r.band == band).map(|r| r.id).collect()
    };
    let all = kit.store.queued(&[], 100).await.expect("queued tasks are read");
    assert_eq!(all.len(), 23);
    let some = kit.other.queued(&[], 2).await.expect("queued tasks are read");
    assert_eq!(some.len(), 12);
    for (i, band) in Band::ALL.into_iter().enumerate() {
        let oldest =
            |first: usize| -> Vec<TaskId> { ids.iter().skip(first + i).step_by(6).copied().collect() };
        let (fast, slow) = (oldest(0), oldest(3));
        let fast = if i == 0 { &fast[1..] } else { &fast[..] };
        assert_eq!(lane(&all, "fast", band), fast);
        assert_eq!(lane(&all, "slow", band), slow);
        assert_eq!(lane(&some, "fast", band), fast[..2]);
        assert_eq!(lane(&some, "slow", band), slow[..2]);
    }
    let queues: [Arc<str>; 2] = ["slow".into(), "nobody's".into()];
    let slow = kit.store.queued(&queues, 100).await.expect("queued tasks are read");
    assert_eq!(slow.len(), 12);
    assert!(slow.iter().all(|r| &*r.queue == "slow"));
    kit.audit().await;
}
