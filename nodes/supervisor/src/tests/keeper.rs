//! The session of one node, and what becomes of it.

use super::world::{Reach, TestNode, World};
use callboard_domain::TaskId;
use callboard_ports::store::Error;
use callboard_runtime::membership::Timing;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn it_renews_each_second_and_passes_cancel_requests_on_until_they_are_gone() {
    let world = World::new();
    let node = TestNode::keeping(&world, "a").await;
    let id = node.id();
    assert!(*node.may_claim.borrow() && node.node.standing().borrow().may_claim);
    let counter = || world.state().rows[&id].session.counter;
    node.until("it renews", |_| counter() == 1).await;
    let took = node.until("it renews", |_| counter() == 11).await;
    assert!(took.abs_diff(10 * SECOND) < SECOND / 10, "{took:?}");
    let task = TaskId::from_bytes([7; 16]);
    world.state().cancels.insert(id, vec![task]);
    node.until("it is told of a cancel", |n| n.told().cancels.len() == 2).await;
    assert_eq!(node.told().cancels, [[task], [task]]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_renew_stops_claiming_at_once_and_keeps_its_session() {
    for reach in [Reach::Down, Reach::Hangs] {
        let world = World::new();
        let node = TestNode::keeping(&world, "a").await;
        let id = node.id();
        world.reach("a", reach);
        let took = node.until("claims stop", |n| !*n.may_claim.borrow()).await;
        // The next renewal, and the time it may take.
        assert!(took <= if reach == Reach::Down { SECOND } else { 3 * SECOND } + SECOND / 10, "{took:?}");
        let standing = *node.node.standing().borrow();
        assert_eq!((standing.session, standing.may_claim, standing.cut_off), (Some(id), false, false));
        sleep(20 * SECOND).await;
        world.reach("a", Reach::Up);
        let took = node.until("claims go on", |n| *n.may_claim.borrow()).await;
        assert!(took < 3 * SECOND, "{took:?}");
        assert_eq!((node.id(), node.told().over.len()), (id, 0), "the same session");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_cancels_everything_and_is_followed_by_a_revival() {
    let world = World::new();
    let node = TestNode::keeping(&world, "a").await;
    let first = node.id();
    world.end(first, "silent").unwrap();
    node.until("another session", |n| n.node.session().is_some_and(|id| id != first)).await;
    assert_eq!(node.told().over, [first]);
    let revival = |id| world.state().rows[&id].session.opened.revival;
    assert!(!revival(first) && revival(node.id()));
    assert!(*node.may_claim.borrow());
    // A worker may learn of it before the next renewal does.
    let second = node.id();
    world.end(second, "silent").unwrap();
    node.node.session_ended(second);
    assert!(!*node.may_claim.borrow(), "at once");
    let took = node.until("a third session", |n| n.node.session().is_some()).await;
    assert!(took < SECOND / 10, "{took:?}");
    assert_eq!(node.told().over, [first, second]);
    assert_eq!(node.told().opened, [first, second, node.id()]);
    // What was said of an earlier session changes nothing.
    node.node.session_ended(second);
    assert!(node.node.session().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_opening_was_not_answered_is_the_one_that_is_kept() {
    let world = World::new();
    world.reach("a", Reach::LosesAnswers);
    let mut node = TestNode::new(&world, "a");
    node.keep();
    sleep(10 * SECOND).await;
    assert_eq!((node.node.session(), world.state().rows.len()), (None, 1), "one session, however often");
    world.reach("a", Reach::Up);
    node.until("it is found open", |n| n.node.session().is_some()).await;
    assert!(world.is_live(node.id()));
    assert_eq!(world.state().rows.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_session_and_dying_does_not() {
    let world = World::new();
    let node = TestNode::keeping(&world, "a").await;
    let id = node.id();
    assert_eq!(node.node.close().await, Ok(()));
    assert_eq!((node.node.session(), *node.may_claim.borrow()), (None, false));
    assert_eq!(world.end_of(id).unwrap().reason, "its node has drained");
    sleep(5 * SECOND).await;
    assert_eq!(world.state().rows.len(), 1, "it opens no other");

    let node = TestNode::keeping(&world, "b").await;
    let id = node.id();
    node.ended.cancel();
    node.until("it stops", |n| !*n.may_claim.borrow()).await;
    sleep(5 * SECOND).await;
    assert!(world.is_live(id));
}

#[tokio::test(start_paused = true)]
async fn closing_without_the_store_says_so_in_time() {
    let world = World::new();
    let node = TestNode::keeping(&world, "a").await;
    world.reach("a", Reach::Hangs);
    let start = Instant::now();
    assert!(matches!(node.node.close().await, Err(Error::Unavailable(_))));
    assert!(start.elapsed() <= 10 * SECOND, "{:?}", start.elapsed());
    assert_eq!(node.node.session(), None);
}

#[tokio::test(start_paused = true)]
async fn a_revival_that_finds_a_successor_gives_its_node_up() {
    let world = World::new();
    let node = TestNode::keeping(&world, "a").await;
    let first = node.id();
    let successor = world.ghost("a", true, false);
    world.end(first, "replaced").unwrap();
    node.until("it gives up", |n| !n.told().gave_up.is_empty()).await;
    assert!(
        node.told().gave_up[0].contains("another node has taken the name `a`"),
        "{:?}",
        node.told().gave_up
    );
    sleep(5 * SECOND).await;
    assert_eq!(node.node.session(), None);
    assert!(world.is_live(successor));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_does_nothing_ends_its_own_session_and_the_process() {
    let world = World::new();
    let mut node = TestNode::new(&world, "a");
    // Its renewals run, and nothing moves the counter.
    let member = node.node.member.clone().unwrap();
    let keeper = crate::keeper::Keeper::new(node.node.clone(), member);
    let mut thread = tokio::task::JoinSet::new();
    thread.spawn(keeper.run());
    node.until("a session is open", |n| n.node.session().is_some()).await;
    let id = node.id();
    let took = node.until("it ends its session", |_| !world.is_live(id)).await;
    assert!(took >= 29 * SECOND && took <= 32 * SECOND, "{took:?}");
    assert!(world.end_of(id).unwrap().reason.contains("runtime"));
    assert_eq!(node.told().gave_up.len(), 1);
    assert_eq!(node.told().over, [id]);
    let took = node.until("the process is ended", |n| n.told().exits == 1).await;
    assert!(took <= 3 * SECOND, "{took:?}");
    node.keep();
}

#[tokio::test(start_paused = true)]
async fn a_work_path_that_fails_while_renewals_succeed_gives_the_node_up() {
    let world = World::new();
    let mut node = TestNode::keeping(&world, "a").await;
    node.run_due();
    *node.work.fails.lock().unwrap() = Some(Error::Unavailable("no connection".into()));
    let id = node.id();
    let took = node.until("it ends its session", |_| !world.is_live(id)).await;
    assert!(took >= 29 * SECOND && took <= 33 * SECOND, "{took:?}");
    assert!(node.told().gave_up[0].contains("statement"));
    // It is able to drain: it is not ended before it had the time to.
    sleep(30 * SECOND).await;
    assert_eq!(node.told().exits, 0);
    assert_eq!(node.node.close().await, Ok(()));
    sleep(60 * SECOND).await;
    assert_eq!(node.told().exits, 0, "a node that closes ends by itself");
}

#[tokio::test(start_paused = true)]
async fn neither_overload_nor_an_outage_of_the_store_gives_a_node_up() {
    let world = World::new();
    let mut node = TestNode::keeping(&world, "a").await;
    node.run_due();
    let id = node.id();
    *node.work.fails.lock().unwrap() = Some(Error::Overloaded);
    sleep(600 * SECOND).await;
    assert!(node.work.releases.load(Ordering::SeqCst) > 500);
    assert!(world.is_live(id), "ten minutes of overload");
    *node.work.fails.lock().unwrap() = Some(Error::Unavailable("down".into()));
    world.reach("a", Reach::Down);
    sleep(600 * SECOND).await;
    world.reach("a", Reach::Up);
    sleep(5 * SECOND).await;
    *node.work.fails.lock().unwrap() = None;
    sleep(60 * SECOND).await;
    assert!(world.is_live(id), "ten minutes without the store");
    assert_eq!(node.told().gave_up.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_the_process_gives_it_not_up() {
    let world = World::new();
    let node = TestNode::keeping(&world, "a").await;
    let id = node.id();
    for _ in 0..5 {
        advance(40 * SECOND).await;
        sleep(3 * SECOND).await;
    }
    assert!(world.is_live(id) && node.told().gave_up.is_empty());
}

/// On the real clock: that is what a thread of its own is for.
#[tokio::test]
async fn renewals_go_on_while_the_runtime_is_busy() {
    let world = World::new();
    let node = TestNode::with_timing(&world, "a", Timing::of(Duration::from_millis(500)));
    node.node.join(&[]).await.unwrap();
    node.until("a session is open", |n| n.node.session().is_some()).await;
    let id = node.id();
    let counter = || world.state().rows[&id].session.counter;
    let start = std::time::Instant::now();
    // The whole runtime of this test stands still meanwhile.
    while counter() < 5 {
        assert!(start.elapsed() < 10 * SECOND, "no renewal");
        std::thread::yield_now();
    }
    assert_eq!(node.node.close().await, Ok(()));
    assert!(!world.is_live(id));
}
