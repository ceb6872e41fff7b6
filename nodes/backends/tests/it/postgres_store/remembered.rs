//! What a process remembers of the tasks it wrote last, and what others do to those meanwhile.

use super::held::Row;
use super::{Place, claim, success, task};
use callboard_domain::{State, TaskId};
use callboard_ports::contract::store::Held as _;
use callboard_ports::sessions::SessionStore as _;
use callboard_ports::store::{Claim, ClaimRequest, Error, Fenced, TaskReader as _, TaskStore as _};
use sqlx::Executor as _;
use uuid::Uuid;

fn claimed(claims: &[Claim]) -> Vec<bool> {
    claims.iter().map(|claim| matches!(claim, Claim::Claimed(_))).collect()
}

async fn states(place: &Place, ids: &[TaskId]) -> Vec<State> {
    let mut tasks = place.other.get(ids.to_vec()).await.unwrap();
    tasks.sort_by_key(|task| task.spec.id);
    tasks.into_iter().map(|task| task.life.state).collect()
}

#[tokio::test]
async fn a_task_that_another_process_has_cancelled_is_not_claimed_from_memory() {
    let place = Place::new().await;
    let ids = place.admit(1..4).await;
    let session = place.session(1).await;
    assert!(place.other.cancel(ids[1]).await.unwrap().changed);
    assert_eq!(claimed(&place.claim(session, &ids).await), [true, false, true]);
    assert_eq!(states(&place, &ids).await, [State::Running, State::Cancelled, State::Running]);
}

#[tokio::test]
async fn a_task_that_another_process_has_claimed_is_not_claimed_from_memory() {
    let place = Place::new().await;
    let ids = place.admit(1..4).await;
    let (here, there) = (place.session(1).await, place.session(2).await);
    assert_eq!(claimed(&place.other.claim(claim(there, &ids[..2])).await.unwrap()), [true, true]);
    assert_eq!(claimed(&place.claim(here, &ids).await), [false, false, true]);
}

#[tokio::test]
async fn an_end_that_is_remembered_as_held_is_stale_once_another_holds_the_task() {
    let place = Place::new().await;
    let ids = place.admit(1..3).await;
    let (here, there) = (place.session(1).await, place.session(2).await);
    assert_eq!(claimed(&place.claim(here, &ids).await), [true, true]);
    place.other.end_session(here, "a test").await.unwrap();
    assert_eq!(claimed(&place.other.claim(claim(there, &ids[..1])).await.unwrap()), [true]);
    let answers = place.store.finish(here, vec![success(ids[0]), success(ids[1])]).await.unwrap();
    assert_eq!(answers, [Fenced::Stale, Fenced::Stale]);
    assert_eq!(states(&place, &ids).await, [State::Running, State::Queued]);
}

#[tokio::test]
async fn a_claim_that_another_undoes_leaves_the_task_to_whoever_waits() {
    let place = Place::new().await;
    let ids = place.admit(1..2).await;
    let session = place.session(1).await;
    let mut row = Box::new(Row::hold(&place.url, ids[0]).await);
    let let_go = async move {
        row.until_waiting(1).await;
        row.let_go().await;
    };
    let (claims, ()) = futures::join!(place.claim(session, &ids), let_go);
    assert_eq!(claimed(&claims), [true]);
}

/// A node learns of dropped days once an hour, and another may drop one meanwhile.
#[tokio::test]
async fn a_partition_that_was_dropped_is_reached_through_its_table() {
    let place = Place::new().await;
    let old = place.admit(1..4).await;
    let session = place.session(1).await;
    let mut sql = place.sql().await;
    let day: String =
        sqlx::query_scalar("SELECT right(tableoid::regclass::text, 8) FROM tasks WHERE id = $1")
            .bind(Uuid::from_bytes(*old[0].as_bytes()))
            .fetch_one(&mut sql)
            .await
            .unwrap();
    let names = ["tasks", "task_inputs", "task_results", "task_events"].map(|table| format!("{table}_{day}"));
    let drop = format!("DROP TABLE {}", names.join(", "));
    sql.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(drop))).await.unwrap();
    let (first, rest) = old.split_at(1);
    assert_eq!(claimed(&place.claim(session, first).await), [false], "gone with all that is known");
    // Now it is known that the day is not, and these are still remembered.
    assert_eq!(claimed(&place.claim(session, rest).await), [false, false]);
    let admitted = place.store.admit(vec![task(9)]).await;
    assert!(matches!(admitted[0], Err(Error::Unavailable(_))), "there is no place for it: {admitted:?}");
    // The hourly maintenance makes it anew.
    place.store.maintain_partitions(None).await.unwrap();
    let ids = place.admit(10..11).await;
    assert_eq!(claimed(&place.claim(session, &ids).await), [true]);
    let answers = place.store.finish(session, vec![success(ids[0])]).await.unwrap();
    assert_eq!(answers, [Fenced::Recorded(State::Succeeded)]);
    assert_eq!(states(&place, &ids).await, [State::Succeeded]);
}

/// Else its next hand-off would get a number that was given out before, and a late confirm of that delete its row.
#[tokio::test]
async fn a_hand_off_that_another_process_has_given_out_is_not_taken_back_from_memory() {
    let place = Place::new().await;
    let ids = place.admit(1..2).await;
    let session = place.session(1).await;
    let give_back = ClaimRequest { take: Vec::new(), give_back: ids.clone(), ..claim(session, &[]) };
    place.other.claim(give_back).await.unwrap();
    assert_eq!(claimed(&place.claim(session, &ids).await), [true]);
    let handoff: i64 = sqlx::query_scalar("SELECT handoff FROM tasks WHERE id = $1")
        .bind(Uuid::from_bytes(*ids[0].as_bytes()))
        .fetch_one(&mut place.sql().await)
        .await
        .unwrap();
    assert_eq!(handoff, 2);
}
