//! What nodes do about one another. The spans are those of a session timeout of 5 s.

use super::world::{Listener, Reach, TestNode, World};
use crate::status;
use callboard_runtime::membership::Probe;
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn answers(node: &str, session: callboard_domain::SessionId) -> Probe {
    Probe::Answered { node: node.into(), session: Some(session), incarnation: 9 }
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_ended_at_once_when_its_connection_breaks() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let mut b = TestNode::start(&world, "b").await;
    let id = b.id();
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    b.kill();
    a.node.suspect(id);
    let took = a.until("b is ended", |_| !world.is_live(id)).await;
    assert!(took <= ms(100), "{took:?}");
    assert_eq!(world.end_of(id).unwrap().reason, "dead: connections to b are refused");
    let took = a.until("b is no member", |a| a.node.live().len() == 1).await;
    assert!(took <= ms(100), "{took:?}");
    assert_eq!(a.told().members.last().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_nobody_talked_to_is_found_by_its_counter() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let mut b = TestNode::start(&world, "b").await;
    let id = b.id();
    sleep(3 * SECOND).await;
    b.kill();
    let took = a.until("b is ended", |_| !world.is_live(id)).await;
    assert!(took <= ms(3_200), "{took:?}");
    assert!(world.end_of(id).unwrap().reason.starts_with("dead"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_is_ended_for_silence_within_two_seconds_of_the_timeout() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let b = TestNode::start(&world, "b").await;
    let id = b.id();
    sleep(3 * SECOND).await;
    b.cut();
    a.node.suspect(id);
    let took = a.until("b is ended", |_| !world.is_live(id)).await;
    // Its last renewal was up to a second before.
    assert!(took >= 4 * SECOND && took <= 7 * SECOND, "{took:?}");
    assert!(world.end_of(id).unwrap().reason.starts_with("silent"));
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_unreachable_networks_prove_nothing() {
    for listener in [Listener::Hangs, Listener::Unreachable] {
        let world = World::new();
        let a = TestNode::start(&world, "a").await;
        let ghost = world.ghost("b", true, false);
        world.listen("b", listener);
        a.until("it sees b", |a| a.node.live().len() == 2).await;
        for _ in 0..10 {
            a.node.suspect(ghost);
            a.throughout(2 * SECOND, "live", |_| world.is_live(ghost)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_refused_connection_proves_nothing() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", true, false);
    world.says("b", [answers("b", ghost)]);
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    for _ in 0..5 {
        world.says("b", [Probe::Refused, answers("b", ghost)]);
        a.node.suspect(ghost);
        a.throughout(SECOND, "live", |_| world.is_live(ghost)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_still_accepts_while_it_dies_is_asked_again() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", false, false);
    world.says("b", [answers("b", ghost)]);
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    world.says("b", [Probe::TimedOut, Probe::Unreachable, Probe::Refused]);
    a.node.suspect(ghost);
    let took = a.until("b is ended", |_| !world.is_live(ghost)).await;
    assert!(took <= ms(400), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspicion_during_a_probe_is_not_forgotten() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", true, false);
    world.says("b", [answers("b", ghost)]);
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    sleep(ms(100)).await;
    a.node.suspect(ghost);
    tokio::task::yield_now().await;
    // The answer under way says that it lives; then it dies.
    a.node.suspect(ghost);
    world.says("b", [answers("b", ghost), Probe::Refused]);
    let took = a.until("b is ended", |_| !world.is_live(ghost)).await;
    assert!(took <= ms(200), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspected_node_that_answers_is_left_alone() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let b = TestNode::start(&world, "b").await;
    let id = b.id();
    sleep(2 * SECOND).await;
    for _ in 0..20 {
        a.node.suspect(id);
        a.throughout(ms(300), "live", |_| world.is_live(id)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_life_at_the_address_ends_the_earlier() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let mut b = TestNode::start(&world, "b").await;
    let id = b.id();
    a.until("it knows which life b is", |a| a.node.live().len() == 2).await;
    sleep(ms(500)).await;
    b.kill();
    // Started again; before it has a session of its own, its life says enough.
    let later = TestNode::new(&world, "b");
    assert!(later.node.incarnation() > b.node.incarnation());
    a.node.suspect(id);
    let took = a.until("the earlier is ended", |_| !world.is_live(id)).await;
    assert!(took <= ms(100), "{took:?}");
    assert!(world.end_of(id).unwrap().reason.starts_with("replaced"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_somebody_else_is_reported_as_a_wrong_address_and_proves_nothing() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", true, false);
    // Where b says it is, a itself answers.
    world.listen("b", Listener::Node(a.node.clone()));
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    for _ in 0..5 {
        a.node.suspect(ghost);
        a.throughout(SECOND, "live", |_| world.is_live(ghost)).await;
    }
    let suspects = status::status(&a.node).await.suspects;
    assert_eq!(suspects.len(), 1, "{suspects:?}");
    assert_eq!((suspects[0].node.as_str(), suspects[0].session_id.clone()), ("b", ghost.to_string()));
    assert!(suspects[0].reason.contains("the node `a` answers there"), "{suspects:?}");
    // Silent, it is ended all the same.
    world.renews(ghost, false);
    let took = a.until("b is ended", |_| !world.is_live(ghost)).await;
    assert!(took >= 4 * SECOND && took <= 7 * SECOND, "{took:?}");
    a.until("nobody is suspected", |a| a.node.live().len() == 1).await;
    assert_eq!(status::status(&a.node).await.suspects, []);
}

#[tokio::test(start_paused = true)]
async fn a_revival_is_ended_for_silence_and_never_on_refusals() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", true, true);
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    for _ in 0..10 {
        a.node.suspect(ghost);
        a.throughout(SECOND, "live", |_| world.is_live(ghost)).await;
    }
    world.renews(ghost, false);
    let took = a.until("b is ended", |_| !world.is_live(ghost)).await;
    assert!(took >= 4 * SECOND, "{took:?}");
    assert!(world.end_of(ghost).unwrap().reason.starts_with("silent"));
}

#[tokio::test(start_paused = true)]
async fn a_new_session_whose_address_refuses_is_not_ended_unless_it_is_suspected() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", true, false);
    a.throughout(10 * SECOND, "live", |_| world.is_live(ghost)).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_refuses_everybody_ends_only_a_minority_per_timeout() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    // With a: five nodes, so two may be ended.
    let ghosts: Vec<_> =
        ["b", "c", "d", "e"].into_iter().map(|name| world.ghost(name, true, false)).collect();
    a.until("it sees them", |a| a.node.live().len() == 5).await;
    let live = || ghosts.iter().filter(|id| world.is_live(**id)).count();
    let suspect = async || {
        ghosts.iter().for_each(|id| a.node.suspect(*id));
        sleep(SECOND / 2).await;
    };
    let start = Instant::now();
    while start.elapsed() < ms(4_400) {
        suspect().await;
        assert_eq!(live(), 2);
    }
    sleep(ms(700)).await;
    suspect().await;
    assert_eq!(live(), 1, "one of the three that are left, a timeout later");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_ends_nobody() {
    for reach in [Reach::Down, Reach::Hangs] {
        let world = World::new();
        let a = TestNode::start(&world, "a").await;
        let b = TestNode::start(&world, "b").await;
        let (first, second) = (a.id(), b.id());
        sleep(4 * SECOND).await;
        world.state().all = reach;
        sleep(30 * SECOND).await;
        // It answers a before it answers b.
        world.reach("b", reach);
        world.state().all = Reach::Up;
        sleep(3 * SECOND).await;
        world.reach("b", Reach::Up);
        sleep(30 * SECOND).await;
        assert_eq!(world.state().ends, [], "{reach:?}");
        assert_eq!((a.id(), b.id()), (first, second));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_everybody_ends_nobody() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let b = TestNode::start(&world, "b").await;
    let ghost = world.ghost("c", true, false);
    world.says("c", [answers("c", ghost)]);
    a.until("it sees both", |a| a.node.live().len() == 3).await;
    world.renews(ghost, false);
    for _ in 0..4 {
        sleep(ms(3_500)).await;
        advance(12 * SECOND).await;
        // Whoever was stopped with them gets to renew first.
        world.renews(ghost, true);
        sleep(SECOND).await;
        world.renews(ghost, false);
    }
    assert_eq!(world.state().ends, []);
    assert!(world.is_live(a.id()) && world.is_live(b.id()));
}

#[tokio::test(start_paused = true)]
async fn an_accuser_whose_own_session_is_over_ends_nobody_under_it() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", true, false);
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    let first = a.id();
    world.end(first, "silent").unwrap();
    a.node.suspect(ghost);
    a.until("a has another session", |a| a.node.session().is_some_and(|id| id != first)).await;
    // b refuses, so the revival may end it: by its own right.
    a.until("b is ended", |_| !world.is_live(ghost)).await;
    assert!(world.end_of(ghost).unwrap().at >= world.end_of(first).unwrap().at);
    assert_eq!(a.told().over, [first]);
}

#[tokio::test(start_paused = true)]
async fn it_looks_at_nobody_once_it_closes() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let ghost = world.ghost("b", true, false);
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    a.node.close().await.unwrap();
    world.renews(ghost, false);
    a.node.suspect(ghost);
    a.throughout(10 * SECOND, "live", |_| world.is_live(ghost)).await;
}

#[tokio::test(start_paused = true)]
async fn members_are_told_when_they_change_and_not_with_every_renewal() {
    let world = World::new();
    let a = TestNode::start(&world, "a").await;
    let b = TestNode::start(&world, "b").await;
    a.until("it sees b", |a| a.node.live().len() == 2).await;
    sleep(10 * SECOND).await;
    b.node.close().await.unwrap();
    a.until("b is gone", |a| a.node.live().len() == 1).await;
    let members = a.told().members.clone();
    assert_eq!(members, [vec![], vec!["b".to_owned()], vec![]]);
}
