//! The contract of [`Outbox`] and of [`Epochs`]: of a store behind a broker.

use super::store::kit::{Kit, failure, request};
use super::{soon, store};
use crate::handoff::Ready;
use crate::outbox::{Lane, Lease, Outbox, Suspect};
use crate::store::{ClaimRequest, Error, Fenced};
use crate::{Epochs, epochs::Epoch};
use callboard_domain::{Band, Priority, State, TaskId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A store that has an outbox.
pub trait Fixture: store::Fixture {
    /// The outbox, as one node opens it.
    fn outbox(&self) -> Arc<dyn Outbox>;

    /// The same, as a second node opens it.
    fn other_outbox(&self) -> Arc<dyn Outbox>;

    /// The epochs, as one node opens them.
    fn epochs(&self) -> Arc<dyn Epochs>;

    /// The same, as a second node opens them.
    fn other_epochs(&self) -> Arc<dyn Epochs>;
}

/// Longer than a fresh row is left to the node that committed it.
const FRESH: Duration = Duration::from_secs(5);
/// How long a first lease hides a row here.
const HIDE: Duration = Duration::from_secs(10);

fn any(limit: usize) -> Lease {
    Lease { except: Vec::new(), limit, hide: HIDE }
}

async fn lease(outbox: &Arc<dyn Outbox>) -> Vec<Ready> {
    outbox.lease(any(1_000)).await.expect("rows are leased")
}

async fn backlog(outbox: &Arc<dyn Outbox>) -> u64 {
    outbox.backlog().await.expect("rows are counted")
}

async fn confirm(outbox: &Arc<dyn Outbox>, rows: &[(TaskId, u64)]) -> usize {
    outbox.confirm(rows.to_vec()).await.expect("rows are deleted")
}

fn ids(ready: &[Ready]) -> Vec<TaskId> {
    ready.iter().map(|r| r.id).collect()
}

fn lane(queue: &str, band: Band) -> Lane {
    (queue.into(), band)
}

/// The lane that tasks wait in unless a property says otherwise.
fn usual() -> Lane {
    lane(store::kit::QUEUE, Priority::DEFAULT.band())
}

/// What is admitted has a row, which is left for a while to the node that committed it. A lease tells what the
/// observers were told, and hides it from every other lease.
pub async fn a_lease_hides_what_it_gives(fixture: impl Fixture) {
    let (outbox, other) = (fixture.outbox(), fixture.other_outbox());
    let kit = Kit::new(fixture);
    let id = kit.admit_one().await;
    kit.admit(vec![kit.later(Duration::from_secs(600))]).await;
    assert_eq!(backlog(&other).await, 1, "what waits for its time has no row");
    assert_eq!(lease(&other).await, [], "who committed it publishes it first");
    kit.fixture.advance(FRESH).await;
    assert_eq!(lease(&other).await, [kit.nth_ready(id, 1).await]);
    assert_eq!(lease(&other).await, []);
    assert_eq!(lease(&outbox).await, []);
    assert_eq!(backlog(&outbox).await, 1, "a leased row is still there");
    kit.audit().await;
}

/// A row comes back until it is confirmed, each time after twice as long, up to a minute.
pub async fn every_lease_doubles_the_next(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let kit = Kit::new(fixture);
    let id = kit.admit_one().await;
    kit.fixture.advance(FRESH).await;
    assert_eq!(ids(&lease(&outbox).await), [id]);
    let second = Duration::from_secs(1);
    for seconds in [10, 20, 40, 60, 60] {
        kit.fixture.advance(Duration::from_secs(seconds) - second).await;
        assert_eq!(lease(&outbox).await, [], "before {seconds} s");
        kit.fixture.advance(second).await;
        assert_eq!(ids(&lease(&outbox).await), [id], "after {seconds} s");
    }
    kit.audit().await;
}

/// A row that must not be handed off before a time is not leased before it.
pub async fn a_row_waits_for_its_time(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let not_mine = ClaimRequest { hosted: Arc::default(), ..request(session, vec![id]) };
    kit.store.claim(not_mine).await.expect("a live session claims");
    let again = kit.nth_ready(id, 2).await;
    confirm(&outbox, &[(id, 1)]).await;
    let not_before = again.not_before.expect("it waits");
    let wait = not_before.since(kit.fixture.now());
    kit.fixture.advance(wait.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(lease(&outbox).await, []);
    kit.fixture.advance(Duration::from_millis(1)).await;
    assert_eq!(lease(&outbox).await, [again]);
    kit.audit().await;
}

/// A confirm deletes the rows it names and no others.
pub async fn a_confirm_deletes_exactly_its_rows(fixture: impl Fixture) {
    let (outbox, other) = (fixture.outbox(), fixture.other_outbox());
    let kit = Kit::new(fixture);
    let tasks = kit.admit_many(4).await;
    let named = [(tasks[0], 1), (tasks[1], 1), (tasks[2], 2), (kit.task().spec.id, 1)];
    assert_eq!(confirm(&other, &named).await, 2);
    assert_eq!(backlog(&outbox).await, 2);
    assert_eq!(confirm(&outbox, &named).await, 0, "again");
    assert_eq!(confirm(&outbox, &[]).await, 0);
    kit.fixture.advance(FRESH).await;
    assert_eq!(ids(&lease(&outbox).await), tasks[2..]);
    kit.audit().await;
}

/// A confirm that comes after the task was handed off again leaves the newer row alone.
pub async fn a_late_confirm_spares_a_later_handoff(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.claim_one(session, id).await;
    kit.store.give_back(session, vec![attempt]).await.expect("written");
    let again = kit.nth_ready(id, 2).await;
    assert_eq!(confirm(&outbox, &[(id, 1)]).await, 1);
    assert_eq!(backlog(&outbox).await, 1);
    kit.fixture.advance(FRESH).await;
    assert_eq!(lease(&outbox).await, [again]);
    kit.audit().await;
}

/// What a claim gives back is handed off by a number of its own: a confirm of the hand-off before, which may be
/// late or come twice, does not delete its row.
pub async fn a_late_confirm_spares_what_a_claim_gave_back(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    // Published twice, for the first confirm was slow.
    assert_eq!(confirm(&outbox, &[(id, 1)]).await, 1);
    let give_back = ClaimRequest { give_back: vec![id], ..request(session, Vec::new()) };
    kit.store.claim(give_back).await.expect("a live session claims");
    assert_eq!(confirm(&outbox, &[(id, 1)]).await, 0, "the task has no row now, and is in no queue");
    assert_eq!(backlog(&outbox).await, 1);
    kit.fixture.advance(FRESH).await;
    assert_eq!(lease(&outbox).await, [kit.nth_ready(id, 2).await]);
    kit.audit().await;
}

/// Rows that could not be published are hidden for as long as was said.
pub async fn a_row_is_postponed(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let kit = Kit::new(fixture);
    let tasks = kit.admit_many(2).await;
    kit.fixture.advance(FRESH).await;
    let half_a_minute = Duration::from_secs(30);
    outbox.postpone(vec![(tasks[0], 1), (tasks[1], 7)], half_a_minute).await.expect("rows are hidden");
    assert_eq!(ids(&lease(&outbox).await), [tasks[1]], "no row was named for this one");
    confirm(&outbox, &[(tasks[1], 1)]).await;
    kit.fixture.advance(half_a_minute - Duration::from_secs(1)).await;
    assert_eq!(lease(&outbox).await, []);
    kit.fixture.advance(Duration::from_secs(1)).await;
    assert_eq!(ids(&lease(&outbox).await), [tasks[0]]);
    kit.audit().await;
}

/// Each lane gives its oldest rows, so many at the most, and lanes that are left out give none.
pub async fn lanes_are_leased_each_for_itself(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let kit = Kit::new(fixture);
    let mut of_lane = Vec::new();
    for _ in 0..3 {
        let batch = [("fast", 5), ("slow", 0), ("slow", 9)].map(|(queue, priority)| {
            let mut task = kit.task();
            task.spec.queue = queue.into();
            task.spec.priority = Priority::new(priority).expect("a priority");
            task
        });
        of_lane.push(kit.admit(batch.to_vec()).await);
        kit.fixture.advance(Duration::from_secs(1)).await;
    }
    kit.fixture.advance(FRESH).await;
    let column = |lane: usize, rows: std::ops::Range<usize>| -> Vec<TaskId> {
        of_lane[rows].iter().map(|tasks| tasks[lane].spec.id).collect()
    };
    let except = vec![lane("slow", Band::High), lane("nobody's", Band::Low)];
    let leased = outbox.lease(Lease { except, ..any(2) }).await.expect("rows are leased");
    let of = |queue: &str, band: Band| -> Vec<TaskId> {
        leased.iter().filter(|r| (&*r.queue, r.band) == (queue, band)).map(|r| r.id).collect()
    };
    assert_eq!(leased.len(), 4);
    assert_eq!(of("fast", Band::Middle), column(0, 0..2), "the oldest first");
    assert_eq!(of("slow", Band::Low), column(1, 0..2));
    let rest = lease(&outbox).await;
    let rest: BTreeSet<_> = ids(&rest).into_iter().collect();
    let wanted = [column(0, 2..3), column(1, 2..3), column(2, 0..3)].concat();
    assert_eq!(rest, wanted.into_iter().collect());
    kit.audit().await;
}

/// Leases at once, by two nodes, give each row to one of them, and none waits for another.
pub async fn leases_at_once_give_each_row_to_one(fixture: impl Fixture) {
    let nodes = [fixture.outbox(), fixture.other_outbox()];
    let kit = Kit::new(fixture);
    let tasks: BTreeSet<_> = kit.admit_many(60).await.into_iter().collect();
    kit.fixture.advance(FRESH).await;
    let leases = (0..12).map(|i| nodes[i % 2].lease(any(10)));
    let mut leased = Vec::new();
    for rows in soon("leases", futures::future::join_all(leases)).await {
        leased.extend(ids(&rows.expect("rows are leased")));
    }
    // Rows that one was just taking were passed over by another: they are left.
    leased.extend(ids(&lease(&nodes[0]).await));
    assert_eq!(leased.len(), tasks.len(), "a row was given out twice, or not at all");
    assert_eq!(leased.into_iter().collect::<BTreeSet<_>>(), tasks);
    kit.audit().await;
}

/// On every way into QUEUED a row is written, under a number of its own.
pub async fn every_way_into_queued_writes_a_row(fixture: impl Fixture) {
    let (outbox, epochs) = (fixture.outbox(), fixture.epochs());
    let kit = Kit::new(fixture);
    let a = kit.session("a").await;
    let mut handoffs = BTreeSet::new();
    // Takes the one row there is, and confirms it.
    let mut only_row = async |way: &str, id: TaskId| {
        assert_eq!(backlog(&outbox).await, 1, "{way}");
        kit.fixture.advance(FRESH).await;
        let leased = lease(&outbox).await;
        assert_eq!(ids(&leased), [id], "{way}");
        assert!(handoffs.insert(leased[0].handoff), "{way}: {handoffs:?}");
        assert_eq!(confirm(&outbox, &[(id, leased[0].handoff)]).await, 1);
    };
    let id = kit.admit(vec![kit.later(Duration::from_secs(60))]).await[0].spec.id;
    kit.let_time_pass().await;
    only_row("due", id).await;

    let give_back = ClaimRequest { give_back: vec![id], ..request(a, Vec::new()) };
    kit.store.claim(give_back).await.expect("a live session claims");
    only_row("returned by a claim", id).await;

    let not_mine = ClaimRequest { hosted: Arc::default(), ..request(a, vec![id]) };
    kit.store.claim(not_mine).await.expect("a live session claims");
    only_row("not hosted", id).await;

    let attempt = kit.run_one(a, id).await;
    kit.store.give_back(a, vec![attempt]).await.expect("written");
    only_row("given back", id).await;

    let attempt = kit.run_one(a, id).await;
    assert_eq!(kit.finish_one(a, failure(attempt, true)).await, Fenced::Recorded(State::Scheduled));
    assert_eq!(backlog(&outbox).await, 0, "what waits for its time has no row");
    kit.let_time_pass().await;
    only_row("after a backoff", id).await;

    kit.run_one(a, id).await;
    kit.store.end_session(a, "killed").await.expect("a session ends");
    only_row("lost", id).await;

    let epoch = epochs.next_epoch("repair", "a").await.expect("an epoch begins");
    let suspects = outbox.suspects(&usual(), 10).await.expect("suspects are read");
    assert_eq!(outbox.repair(suspects, &epoch).await, Ok(1));
    only_row("repaired", id).await;
    kit.audit().await;
}

/// A task that is QUEUED without a row is a suspect: the oldest first, so many at the most, by lane.
pub async fn what_waits_without_a_row_is_suspect(fixture: impl Fixture) {
    let outbox = fixture.outbox();
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(kit.admit_one().await);
        kit.fixture.advance(Duration::from_secs(1)).await;
    }
    let mut low = kit.task();
    low.spec.priority = Priority::new(0).expect("a priority");
    kit.admit(vec![low]).await;
    assert_eq!(outbox.suspect_lanes().await, Ok(vec![]), "each has its row");
    assert_eq!(outbox.suspects(&usual(), 10).await, Ok(vec![]));
    confirm(&outbox, &[(tasks[0], 1), (tasks[1], 1), (tasks[2], 1)]).await;
    assert_eq!(outbox.suspect_lanes().await, Ok(vec![usual()]), "the other lane has its row");
    let suspects =
        |ids: &[TaskId]| -> Vec<Suspect> { ids.iter().map(|id| Suspect { id: *id, handoff: 1 }).collect() };
    assert_eq!(outbox.suspects(&usual(), 10).await, Ok(suspects(&tasks)));
    assert_eq!(outbox.suspects(&usual(), 2).await, Ok(suspects(&tasks[..2])));
    kit.claim_one(session, tasks[0]).await;
    assert_eq!(outbox.suspects(&usual(), 10).await, Ok(suspects(&tasks[1..])), "what runs is none");
    kit.audit().await;
}

/// A repair hands off again, under the next number, what is still QUEUED at the same hand-off without a row,
/// and nothing else.
pub async fn a_repair_hands_off_what_is_still_suspect(fixture: impl Fixture) {
    let (outbox, epochs) = (fixture.outbox(), fixture.epochs());
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let tasks = kit.admit_many(4).await;
    let rows: Vec<_> = tasks.iter().map(|id| (*id, 1)).collect();
    confirm(&outbox, &rows).await;
    let suspects = outbox.suspects(&usual(), 10).await.expect("suspects are read");
    assert_eq!(suspects.len(), 4);
    kit.claim_one(session, tasks[0]).await;
    let give_back = ClaimRequest { give_back: vec![tasks[1]], ..request(session, Vec::new()) };
    kit.store.claim(give_back).await.expect("a live session claims");
    kit.store.cancel(tasks[2]).await.expect("a waiting task is cancelled");
    let epoch = epochs.next_epoch("repair", "a").await.expect("an epoch begins");
    assert_eq!(outbox.repair(suspects.clone(), &epoch).await, Ok(1));
    assert_eq!(kit.nth_ready(tasks[3], 2).await.handoff, 2);
    assert_eq!(outbox.repair(suspects, &epoch).await, Ok(0), "its number is another now");
    let with_a_row = vec![Suspect { id: tasks[3], handoff: 2 }];
    assert_eq!(outbox.repair(with_a_row, &epoch).await, Ok(0), "it has a row");
    kit.fixture.advance(FRESH).await;
    let leased: BTreeSet<_> = ids(&lease(&outbox).await).into_iter().collect();
    assert_eq!(leased, BTreeSet::from([tasks[1], tasks[3]]));
    assert_eq!(outbox.suspect_lanes().await, Ok(vec![]));
    kit.audit().await;
}

/// Only the holder of the newest epoch repairs.
pub async fn a_repair_is_fenced(fixture: impl Fixture) {
    let (outbox, epochs, other) = (fixture.outbox(), fixture.epochs(), fixture.other_epochs());
    let kit = Kit::new(fixture);
    let id = kit.admit_one().await;
    confirm(&outbox, &[(id, 1)]).await;
    let suspects = vec![Suspect { id, handoff: 1 }];
    let old = epochs.next_epoch("repair", "a").await.expect("an epoch begins");
    let new = other.next_epoch("repair", "b").await.expect("an epoch begins");
    other.next_epoch("another role", "b").await.expect("an epoch begins");
    let never = Epoch { name: "never".into(), number: 1 };
    for epoch in [old, never, Epoch { number: new.number + 1, ..new.clone() }] {
        assert_eq!(outbox.repair(suspects.clone(), &epoch).await, Err(Error::Fenced));
    }
    assert_eq!((backlog(&outbox).await, kit.told.ready(id).len()), (0, 1), "nothing was written");
    assert_eq!(outbox.repair(suspects, &new).await, Ok(1));
    kit.nth_ready(id, 2).await;
    kit.audit().await;
}

/// Epochs of a role count up from 1, whoever starts them; each is given out once.
pub async fn epochs_count_up(fixture: impl Fixture) {
    let nodes = [fixture.epochs(), fixture.other_epochs()];
    let started = (0..20).map(|i| nodes[i % 2].next_epoch("repair", "a"));
    let mut numbers = BTreeSet::new();
    for epoch in soon("epochs", futures::future::join_all(started)).await {
        let epoch = epoch.expect("an epoch begins");
        assert_eq!(&*epoch.name, "repair");
        numbers.insert(epoch.number);
    }
    assert_eq!(numbers, (1..=20).collect());
    let other = nodes[0].next_epoch("schedules", "a").await.expect("an epoch begins");
    assert_eq!(other, Epoch { name: "schedules".into(), number: 1 });
}

/// Runs the contract of `Outbox` and `Epochs` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::outbox::Fixture).
#[macro_export]
macro_rules! outbox_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            outbox,
            [
                a_lease_hides_what_it_gives,
                every_lease_doubles_the_next,
                a_row_waits_for_its_time,
                a_confirm_deletes_exactly_its_rows,
                a_late_confirm_spares_a_later_handoff,
                a_late_confirm_spares_what_a_claim_gave_back,
                a_row_is_postponed,
                lanes_are_leased_each_for_itself,
                leases_at_once_give_each_row_to_one,
                every_way_into_queued_writes_a_row,
                what_waits_without_a_row_is_suspect,
                a_repair_hands_off_what_is_still_suspect,
                a_repair_is_fenced,
                epochs_count_up,
            ]
        );
    };
}
