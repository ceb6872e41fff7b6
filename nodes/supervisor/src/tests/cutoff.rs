//! A node that cannot renew: is the store gone, or only gone for it?

use super::world::{Listener, Reach, TestNode, World};
use crate::status;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_node_cut_off_from_the_store_cancels_at_four_fifths_of_the_timeout() {
    for reach in [Reach::Down, Reach::Hangs] {
        let world = World::new();
        let a = TestNode::start(&world, "a").await;
        let b = TestNode::start(&world, "b").await;
        a.until("it sees b", |a| a.node.live().len() == 2).await;
        let id = a.id();
        let counter = || world.state().rows[&id].session.counter;
        let before = counter();
        a.until("it renews", |_| counter() > before).await;
        let renewed = Instant::now();
        world.reach("a", reach);
        a.until("it is cut off", |a| !a.told().cut_off.is_empty()).await;
        let at = a.told().cut_off[0] - renewed;
        // Hung renewals are noticed later, and a peer is believed 1.5 s after that began.
        assert!(at >= SECOND * 39 / 10 && at <= SECOND * 49 / 10, "{reach:?}: {at:?}");
        assert!(a.node.standing().borrow().cut_off);
        assert!(world.is_live(id), "before others may run its tasks");
        assert!(status::status(&a.node).await.backends["session"].starts_with("cut off"));
        b.until("b ends it", |_| !world.is_live(id)).await;
        assert_eq!(a.told().cut_off.len(), 1, "once");
        world.reach("a", Reach::Up);
        a.until("it has another session", |a| *a.may_claim.borrow()).await;
        assert!(!a.node.standing().borrow().cut_off);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_cancels_nothing() {
    for reach in [Reach::Down, Reach::Hangs] {
        let world = World::new();
        let nodes = [TestNode::start(&world, "a").await, TestNode::start(&world, "b").await];
        sleep(Duration::from_millis(2_300)).await;
        world.state().all = reach;
        sleep(60 * SECOND).await;
        for node in &nodes {
            assert_eq!(node.told().cut_off, [], "{reach:?}");
            let standing = *node.node.standing().borrow();
            assert!(standing.session.is_some() && !standing.may_claim);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_no_peer_answers_keeps_running() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let _b = TestNode::start(&world, "b").await;
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    world.listen("b", Listener::Hangs);
    world.reach("a", Reach::Down);
    sleep(30 * SECOND).await;
    assert_eq!(a.told().cut_off, []);
}

#[tokio::test(start_paused = true)]
async fn a_status_tells_whether_the_store_answers() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let told = status::status(&a.node).await;
    assert!(told.store_reachable && told.backends.is_empty());
    assert_eq!((told.node.as_str(), told.session_id), ("a", a.id().to_string()));
    assert_eq!((told.incarnation, told.roles), (a.node.incarnation(), vec!["worker".to_owned()]));
    world.reach("a", Reach::Hangs);
    a.until("renewals fail", |a| !*a.may_claim.borrow()).await;
    let told = status::status(&a.node).await;
    assert!(!told.store_reachable);
    assert!(told.backends["session"].contains("nothing is claimed"), "{:?}", told.backends);
}
