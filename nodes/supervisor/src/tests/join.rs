//! The start of a node in a cluster, after an earlier life of it.

use super::world::{Listener, TestNode, World};
use crate::cluster::MESH;
use crate::join::JoinError;
use callboard_domain::SessionId;
use callboard_runtime::membership::Probe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// An earlier life of `a` that listened at another address than the new one.
fn elsewhere(world: &World, renews: bool, revival: bool) -> SessionId {
    let id = world.ghost("a", renews, revival);
    let mut state = world.state();
    let addresses = &mut state.rows.get_mut(&id).unwrap().session.opened.addresses;
    addresses.insert(MESH.into(), "old".into());
    id
}

async fn take_name(world: &Arc<World>, proven: &[SessionId]) -> (Result<(), JoinError>, Duration) {
    let node = TestNode::new(world, "a");
    let member = node.node.member.clone().unwrap();
    let start = Instant::now();
    (node.node.take_name(&member, proven).await, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_earlier_life_is_ended_at_once_where_that_is_proven() {
    let other = |world: &Arc<World>| world.ghost("b", true, false);
    // It had the address this process has bound.
    let world = World::new();
    let (earlier, b) = (world.ghost("a", false, true), other(&world));
    let (joined, took) = take_name(&world, &[]).await;
    assert!(joined.is_ok() && took < SECOND, "{joined:?} {took:?}");
    assert!(!world.is_live(earlier) && world.is_live(b));
    // Nobody listens where it was.
    let world = World::new();
    let (earlier, b) = (elsewhere(&world, false, false), other(&world));
    let (joined, took) = take_name(&world, &[]).await;
    assert!(joined.is_ok() && took < SECOND, "{joined:?} {took:?}");
    assert!(!world.is_live(earlier) && world.is_live(b));
    // This process holds its data folder.
    let world = World::new();
    let (earlier, b) = (elsewhere(&world, false, true), other(&world));
    world.listen("old", Listener::Hangs);
    let (joined, took) = take_name(&world, &[earlier, b]).await;
    assert!(joined.is_ok() && took < SECOND, "{joined:?} {took:?}");
    assert!(!world.is_live(earlier) && world.is_live(b), "and no other node's");
}

#[tokio::test(start_paused = true)]
async fn a_live_holder_of_the_name_is_an_error_that_says_what_to_do() {
    let world = World::new();
    let holder = elsewhere(&world, true, false);
    world.says("old", [Probe::Answered { node: "a".into(), session: Some(holder), incarnation: 5 }]);
    let (joined, took) = take_name(&world, &[]).await;
    let error = joined.unwrap_err();
    assert!(matches!(&error, JoinError::NameTaken { session, .. } if *session == holder));
    let text = error.to_string();
    assert!(text.contains("another node named `a` is alive at old") && text.contains("--name"), "{text}");
    assert!(took < SECOND, "{took:?}");
    assert!(world.is_live(holder));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_be_asked_is_told_by_its_counter() {
    for (listener, revival) in [
        (Listener::Hangs, false),
        (Listener::Unreachable, false),
        (Listener::Says(vec![Probe::Foreign("HTTP".into())]), false),
        // Refusals prove nothing of one that lived on once.
        (Listener::Says(vec![Probe::Refused]), true),
    ] {
        let world = World::new();
        let holder = elsewhere(&world, true, revival);
        world.listen("old", listener.clone());
        let (joined, took) = take_name(&world, &[]).await;
        assert!(matches!(joined, Err(JoinError::NameTaken { .. })), "{joined:?}");
        assert!(took <= 3 * SECOND && world.is_live(holder), "{took:?}");

        let world = World::new();
        let holder = elsewhere(&world, false, revival);
        world.listen("old", listener);
        let (joined, took) = take_name(&world, &[]).await;
        assert!(joined.is_ok() && !world.is_live(holder), "{joined:?}");
        assert!(took >= 5 * SECOND && took <= 7 * SECOND, "a whole timeout: {took:?}");
    }
}
