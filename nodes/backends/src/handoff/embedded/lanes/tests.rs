use super::*;
use callboard_domain::Band;

const NOW: Timestamp = Timestamp::from_micros(1_000_000);
const ALL: Queues = Queues::All;

fn ready(n: u32) -> Ready {
    let id = TaskId::from_bytes(u128::from(n).to_be_bytes());
    Ready { id, handoff: 1, queue: "q".into(), band: Band::Middle, alone: false, not_before: None }
}

fn readies(range: std::ops::Range<u32>) -> Vec<Ready> {
    range.map(ready).collect()
}

fn offer(lanes: &mut Lanes, ready: &Ready) -> Offer {
    lanes.offer(ready, &|| NOW)
}

fn offer_all(lanes: &mut Lanes, batch: &[Ready]) {
    for ready in batch {
        assert_eq!(offer(lanes, ready), Offer::Taken);
    }
}

fn take(lanes: &mut Lanes, tasks: usize) -> Vec<Ready> {
    lanes.take(&ALL, Want { tasks, alone: false })
}

fn merge(lanes: &mut Lanes, plan: &Plan, rows: &[Ready]) -> usize {
    lanes.merge(plan, rows, &|| NOW)
}

#[test]
fn an_ack_forgets_and_a_return_comes_first() {
    let mut lanes = Lanes::new(10);
    offer_all(&mut lanes, &readies(0..4));
    let first = take(&mut lanes, 2);
    assert_eq!(offer(&mut lanes, &first[0]), Offer::Known, "it is in a delivery");
    lanes.settle(first, false);
    let again = take(&mut lanes, 3);
    assert_eq!(again, readies(0..3), "what came back comes first, in its order");
    lanes.settle(again, true);
    assert_eq!(offer(&mut lanes, &ready(0)), Offer::Taken, "an acknowledged id is not known");
    assert_eq!(take(&mut lanes, 10), [ready(3), ready(0)]);
    assert_eq!(lanes.stats(), Stats { in_flight: 2, ..Stats::default() });
}

#[test]
fn a_later_handoff_replaces_an_earlier_one() {
    let mut lanes = Lanes::new(10);
    let later = |n| Ready { handoff: 2, ..ready(n) };
    // While it waits: it is delivered once, as the later one.
    offer_all(&mut lanes, &[ready(1), ready(2), later(1)]);
    assert_eq!(offer(&mut lanes, &ready(1)), Offer::Known);
    let tasks = take(&mut lanes, 10);
    assert_eq!(tasks, [ready(2), later(1)]);
    lanes.settle(tasks, true);
    // While it is in a delivery: whatever becomes of that, the later one stands.
    for acked in [true, false] {
        offer_all(&mut lanes, &[ready(3)]);
        let old = take(&mut lanes, 10);
        offer_all(&mut lanes, &[later(3)]);
        lanes.settle(old, acked);
        let tasks = take(&mut lanes, 10);
        assert_eq!(tasks, [later(3)]);
        lanes.settle(tasks, true);
    }
    // While it waits for its time.
    let parked = Ready { not_before: Some(NOW.after(std::time::Duration::from_secs(1))), ..ready(4) };
    offer_all(&mut lanes, &[parked, later(4)]);
    let tasks = take(&mut lanes, 10);
    assert_eq!(tasks, [later(4)]);
    assert_eq!(lanes.release(NOW.after(std::time::Duration::from_secs(2))), None);
    assert_eq!(take(&mut lanes, 10), []);
    lanes.settle(tasks, true);
    assert_eq!((lanes.stats(), lanes.known.len()), (Stats::default(), 0), "nothing is left behind");
}

#[test]
fn a_full_lane_keeps_its_order_through_the_store() {
    let mut lanes = Lanes::new(4);
    offer_all(&mut lanes, &readies(0..4));
    for n in 4..10 {
        assert_eq!(offer(&mut lanes, &ready(n)), Offer::Full);
    }
    let mut got = take(&mut lanes, 3);
    assert!(!lanes.runs_low(), "one of four is left");
    assert_eq!(offer(&mut lanes, &ready(10)), Offer::Full, "there is room, but those before it come first");
    got.extend(take(&mut lanes, 1));
    assert!(lanes.runs_low());
    let mut refills = 0;
    while got.len() < 12 {
        let plan = lanes.plan(Scope::Low);
        assert_eq!((plan.queues.len(), refills < 5), (1, true), "{got:?}");
        // Task 11 is queued while the store is read, and is not in its answer.
        if refills == 0 {
            assert_eq!(offer(&mut lanes, &ready(11)), Offer::Full);
        }
        // What is in a delivery still waits as far as the store knows; what was acknowledged does not.
        let next = if refills == 0 { 0 } else { u32::try_from(got.len()).unwrap() };
        let seen_by_the_store = if refills == 0 { 11 } else { 12 };
        let rows: Vec<_> = readies(next..seen_by_the_store).into_iter().take(plan.limit).collect();
        assert!(merge(&mut lanes, &plan, &rows) > 0);
        let tasks = take(&mut lanes, 100);
        got.extend_from_slice(&tasks);
        lanes.settle(tasks, true);
        refills += 1;
    }
    assert_eq!(got, readies(0..12));
    let plan = lanes.plan(Scope::Low);
    merge(&mut lanes, &plan, &[]);
    assert_eq!(lanes.stats().overflowed, 0);
    assert_eq!(offer(&mut lanes, &ready(12)), Offer::Taken, "caught up, it takes offers again");
}

#[test]
fn what_comes_during_a_refill_is_lost_only_if_the_lane_stays_overflowed() {
    let overflowed = || {
        let mut lanes = Lanes::new(2);
        offer_all(&mut lanes, &readies(0..2));
        offer(&mut lanes, &ready(2));
        let tasks = take(&mut lanes, 2);
        lanes.settle(tasks, true);
        lanes
    };
    // The answer is whole, and so few came meanwhile that they fit: caught up.
    let mut lanes = overflowed();
    let plan = lanes.plan(Scope::Low);
    offer(&mut lanes, &ready(3));
    assert_eq!(merge(&mut lanes, &plan, &[ready(2)]), 2);
    assert_eq!((lanes.stats().overflowed, take(&mut lanes, 9)), (0, vec![ready(2), ready(3)]));
    // More came than are kept aside.
    let mut lanes = overflowed();
    let plan = lanes.plan(Scope::Low);
    for n in 3..6 {
        offer(&mut lanes, &ready(n));
    }
    merge(&mut lanes, &plan, &[ready(2)]);
    assert_eq!((lanes.stats().overflowed, take(&mut lanes, 9)), (1, vec![ready(2)]));
    // They were kept aside, but do not all fit behind what the store held.
    let mut lanes = overflowed();
    let plan = lanes.plan(Scope::Low);
    offer(&mut lanes, &ready(3));
    offer(&mut lanes, &ready(4));
    merge(&mut lanes, &plan, &[ready(2)]);
    assert_eq!((lanes.stats().overflowed, take(&mut lanes, 9)), (1, vec![ready(2), ready(3)]));
    // The answer is full, so there may be more; or there is none.
    let mut lanes = overflowed();
    let plan = lanes.plan(Scope::Low);
    offer(&mut lanes, &ready(9));
    merge(&mut lanes, &plan, &readies(2..2 + u32::try_from(plan.limit).unwrap()));
    assert_eq!((lanes.stats().overflowed, take(&mut lanes, 9)), (1, readies(2..4)));
    lanes.plan(Scope::Low);
    lanes.abandon();
    assert_eq!((lanes.stats().overflowed, take(&mut lanes, 9)), (1, vec![]));
}

#[test]
fn a_first_refill_marks_lanes_that_have_more() {
    let mut lanes = Lanes::new(3);
    let plan = lanes.plan(Scope::All);
    assert_eq!((plan.queues.len(), plan.limit), (0, 3));
    let other = Ready { queue: "other".into(), ..ready(9) };
    let rows = [readies(0..3), vec![other]].concat();
    assert_eq!(merge(&mut lanes, &plan, &rows), 4);
    assert_eq!(lanes.stats().overflowed, 1, "the one whose answer was full");
    assert_eq!(offer(&mut lanes, &ready(3)), Offer::Full);
    let plan = lanes.plan(Scope::All);
    assert_eq!(merge(&mut lanes, &plan, &rows), 0, "read again, nothing is new");
}

#[test]
fn an_answer_from_before_a_claim_is_offered_once_more_and_no_more() {
    let mut lanes = Lanes::new(4);
    offer_all(&mut lanes, &readies(0..4));
    let plan = lanes.plan(Scope::All);
    let stale = readies(0..4);
    let tasks = take(&mut lanes, 2);
    lanes.settle(tasks, true);
    assert_eq!(merge(&mut lanes, &plan, &stale), 2);
    let tasks = take(&mut lanes, 9);
    assert_eq!(tasks, [ready(2), ready(3), ready(0), ready(1)]);
    lanes.settle(tasks, true);
    assert_eq!((lanes.stats(), lanes.known.len()), (Stats::default(), 0));
}

#[test]
fn names_of_queues_are_forgotten_and_memory_is_bounded() {
    let mut lanes = Lanes::new(64);
    for n in 0..10_000 {
        let ready = Ready { queue: format!("q-{n}").into(), ..ready(n) };
        offer_all(&mut lanes, &[ready]);
        let tasks = take(&mut lanes, 9);
        assert_eq!(tasks.len(), 1);
        lanes.settle(tasks, true);
    }
    assert!(lanes.queues.len() <= QUEUES && lanes.index.len() == lanes.queues.len());
    for n in 0..100_000 {
        offer(&mut lanes, &Ready { queue: format!("q-{}", n % 100).into(), ..ready(n) });
    }
    let most = LANES_WORTH * 64 + 100;
    assert!(lanes.known.len() <= most, "{}", lanes.known.len());
    let served: std::collections::HashSet<_> = take(&mut lanes, 100).into_iter().map(|r| r.queue).collect();
    assert_eq!(served.len(), 100, "each queue has at least one, and they take turns");
}

#[test]
fn queues_take_turns_within_a_delivery_and_between() {
    let mut lanes = Lanes::new(100);
    for n in 0..90 {
        let queue = if n < 60 { "busy" } else { ["calm", "idle"][n as usize % 2] };
        offer_all(&mut lanes, &[Ready { queue: queue.into(), ..ready(n) }]);
    }
    let share =
        |tasks: &[Ready]| ["busy", "calm", "idle"].map(|q| tasks.iter().filter(|r| &*r.queue == q).count());
    assert_eq!(share(&take(&mut lanes, 12)), [4, 4, 4]);
    let singles: Vec<_> = (0..12).flat_map(|_| take(&mut lanes, 1)).collect();
    assert_eq!(share(&singles), [4, 4, 4]);
    let some = Queues::Only(vec!["busy".into(), "idle".into(), "idle".into(), "none".into()]);
    assert_eq!(share(&lanes.take(&some, Want { tasks: 8, alone: true })), [4, 0, 4]);
    assert_eq!(share(&take(&mut lanes, 100)), [48, 7, 3], "one that runs out holds up nobody");
}

#[test]
fn a_lane_of_one_moves() {
    let mut lanes = Lanes::new(0);
    assert_eq!(offer(&mut lanes, &ready(0)), Offer::Taken);
    assert_eq!(offer(&mut lanes, &ready(1)), Offer::Full);
    let tasks = take(&mut lanes, 9);
    lanes.settle(tasks, true);
    assert!(lanes.runs_low());
    let plan = lanes.plan(Scope::Low);
    assert_eq!(merge(&mut lanes, &plan, &[ready(1)]), 1);
}

#[test]
fn they_are_dry_when_nothing_waits_here_or_in_the_store_alone() {
    let mut lanes = Lanes::new(2);
    assert!(lanes.are_dry());
    offer_all(&mut lanes, &readies(0..2));
    assert!(!lanes.are_dry());
    assert_eq!(offer(&mut lanes, &ready(2)), Offer::Full);
    let tasks = take(&mut lanes, 2);
    assert!(!lanes.are_dry(), "the store has one that is not known here");
    lanes.settle(tasks, true);
    let plan = lanes.plan(Scope::Low);
    merge(&mut lanes, &plan, &[ready(2)]);
    assert!(!lanes.are_dry());
    take(&mut lanes, 1);
    assert!(lanes.are_dry(), "what is being delivered does not wait");
}
