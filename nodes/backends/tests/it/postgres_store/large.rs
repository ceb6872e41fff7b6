//! Tasks with large inputs: a claim takes what a node can hold, and strands nothing.

use super::{Place, claim, task};
use bytes::Bytes;
use callboard_domain::{NewTask, State, TaskId};
use callboard_ports::store::{Claim, TaskReader, TaskStore};
use std::collections::HashSet;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_claim_takes_eight_mebibytes_and_hands_the_rest_off_again() {
    let place = Place::new().await;
    let session = place.session(1).await;
    let large = |number| NewTask { input: Bytes::from(vec![b'x'; MIB]), ..task(number) };
    let answers = place.store.admit((0..20).map(large).collect()).await;
    let ids: Vec<TaskId> = answers.into_iter().map(|a| a.unwrap().task.spec.id).collect();
    let (mut left, mut rounds) = (ids, 0);
    while !left.is_empty() {
        let claims = place.claim(session, &left).await;
        let claimed: HashSet<TaskId> = claims
            .iter()
            .filter_map(|claim| match claim {
                Claim::Claimed(claimed) => {
                    assert_eq!(claimed.input.len(), MIB);
                    Some(claimed.task.spec.id)
                }
                Claim::Gone(_) => None,
                Claim::NotMine(id) => panic!("{id} is hosted here"),
            })
            .collect();
        assert!(claimed.len() == 8.min(left.len()), "{} of {}", claimed.len(), left.len());
        left.retain(|id| !claimed.contains(id));
        rounds += 1;
        for task in place.store.get(left.clone()).await.unwrap() {
            assert_eq!(task.life.state, State::Queued);
        }
        // Each was handed off when it was admitted, and again by each claim that left it.
        let handed_off =
            sqlx::query_scalar("SELECT count(*) FROM outbox WHERE task_id = ANY($1) AND handoff = $2");
        let of_left: Vec<_> = left.iter().map(|id| uuid::Uuid::from_bytes(*id.as_bytes())).collect();
        let handed_off: i64 =
            handed_off.bind(of_left).bind(1 + rounds).fetch_one(&mut place.sql().await).await.unwrap();
        assert_eq!(usize::try_from(handed_off), Ok(left.len()));
    }
    assert_eq!(rounds, 3);
    // Small ones are all taken at once.
    let ids = place.admit(100..400).await;
    let claims = place.store.claim(claim(session, &ids)).await.unwrap();
    assert!(claims.iter().all(|claim| matches!(claim, Claim::Claimed(_))));
}
