//! Opening databases, sessions across two stores, partitions.

use super::{Place, claim, new_session, open, options, server, success, task, task_with};
use callboard_backends::store::postgres::{OpenError, Options, Store};
use callboard_domain::{SessionId, State, TaskId};
use callboard_ports::contract::store::Fixture as _;
use callboard_ports::sessions::SessionStore;
use callboard_ports::store::{Claim, Error, Filter, TaskReader, TaskStore};
use callboard_ports::{Clock, SystemClock};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::time::Duration;

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let place = Place::new().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (4711, 'from the future', true, '', 0)";
    place.sql().await.execute(newer).await.unwrap();
    let refused = Store::open(options(&place.url)).await.unwrap_err();
    assert!(matches!(refused, OpenError::NewerVersion { found: 4711, supported: 1.. }), "{refused}");
    assert!(refused.to_string().contains("4711"), "{refused}");
}

#[tokio::test]
async fn what_cannot_be_opened_is_told_clearly() {
    let url = server::fresh_database().await;
    let (server, _) = url.rsplit_once('/').unwrap();
    let refused = async |url: String| {
        let options = Options { connect_within: Duration::from_millis(300), ..options(&url) };
        Store::open(options).await.unwrap_err()
    };
    let error = refused(format!("{server}/no_such_database")).await;
    assert!(matches!(&error, OpenError::NoDatabase { database, .. } if database == "no_such_database"));
    let error = refused("not an address".into()).await;
    assert!(matches!(error, OpenError::NotAnAddress { option: "url", .. }), "{error}");
    // A port that nothing listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = refused(format!("postgres://somebody:secret@{address}/x")).await;
    assert!(error.to_string().contains(&address), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn nodes_that_start_at_once_migrate_once() {
    let url = server::fresh_database().await;
    let stores = (0..4).map(|_| Store::open(options(&url)));
    for opened in futures::future::join_all(stores).await {
        opened.unwrap().close().await;
    }
}

#[tokio::test]
async fn the_end_of_a_session_waits_for_its_claims_and_then_finds_them() {
    let place = Place::new().await;
    let (session, accuser) = (place.session(1).await, place.session(2).await);
    let ids = place.admit(0..3).await;
    let mut held = place.hold(ids[1]).await.unwrap();

    let (store, take) = (place.store.clone(), claim(session, &ids));
    let claims = futures::future::join(async move { store.claim(take).await }, async {
        // The claim holds its session's row and waits for the task.
        held.until_waiting(1).await;
        let renewed = tokio::time::timeout(Duration::from_secs(2), place.other.renew_session(session)).await;
        assert_eq!(renewed.expect("a renewal waits for no claim"), Ok(vec![]));
        let ending = place.other.end_session(session, "silent");
        let both = futures::future::join(ending, async {
            held.until_waiting(2).await;
            held.let_go().await;
        });
        both.await.0
    });
    let (claims, ended) = claims.await;
    assert!(claims.unwrap().iter().all(|c| matches!(c, Claim::Claimed(_))), "it had begun before");
    assert_eq!(ended.unwrap().requeued, ids, "none is stranded");
    let late = place.store.claim(claim(session, &ids)).await;
    assert_eq!(late.err(), Some(Error::SessionEnded));
    assert_eq!(place.store.counts().await, Ok([0, 3, 0, 0, 0, 0]));
    assert_eq!(place.store.renew_session(accuser).await, Ok(vec![]));
}

#[tokio::test]
async fn two_sessions_that_accuse_each_other_do_not_both_end() {
    let place = Place::new().await;
    for round in 0..10_u128 {
        let (a, b) = (place.session(2 * round + 1).await, place.session(2 * round + 2).await);
        let accuse = |accuser, accused| callboard_ports::sessions::Accusation {
            accuser,
            accused,
            counter: None,
            reason: "silent".into(),
        };
        let both = futures::future::join(place.store.accuse(accuse(a, b)), place.other.accuse(accuse(b, a)));
        let (first, second) = both.await;
        let ended = |answer: &Result<Option<_>, Error>| matches!(answer, Ok(Some(_)));
        assert_eq!([&first, &second].into_iter().filter(|a| ended(a)).count(), 1, "{first:?} {second:?}");
        assert!([first, second].contains(&Err(Error::SessionEnded)));
    }
}

#[tokio::test]
async fn a_session_store_of_its_own_renews_on_any_runtime() {
    let place = Place::new().await;
    let session = place.session(1).await;
    let sessions = place.store.sessions();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let renewed = sessions.renew_session(session).await;
            let next = SessionId::from_bytes([9; 16]);
            sessions.open_session(new_session(next)).await.unwrap();
            (renewed, sessions.renew_session(next).await)
        })
    });
    assert_eq!(thread.join().unwrap(), (Ok(vec![]), Ok(vec![])));
    let live = place.other.live_sessions().await.unwrap();
    assert_eq!(live.iter().map(|s| s.counter).collect::<Vec<_>>(), [1, 1]);
}

/// The id of a task of some day, counted from 1970-01-01.
fn of_day(day: u128, number: u128) -> TaskId {
    TaskId::from_bytes((((day * 86_400_000 + 5) << 80) + number).to_be_bytes())
}

#[tokio::test]
async fn every_id_of_the_past_and_of_no_time_has_a_home() {
    let place = Place::new().await;
    let ids = [
        TaskId::from_bytes([0; 16]),
        TaskId::from_bytes(1_u128.to_be_bytes()),
        of_day(20_000, 1),
        task(0).spec.id,
        TaskId::from_bytes([255; 16]),
    ];
    let session = place.session(1).await;
    for answer in place.store.admit(ids.map(task_with).to_vec()).await {
        answer.unwrap();
    }
    assert!(place.claim(session, &ids).await.iter().all(|c| matches!(c, Claim::Claimed(_))));
    let ended = place.store.finish(session, ids.map(success).to_vec()).await.unwrap();
    assert_eq!(ended, [callboard_ports::store::Fenced::Recorded(State::Succeeded); 5]);
    let listed = place.store.list(Filter::default(), None, 10).await.unwrap();
    assert_eq!(listed.iter().rev().map(|t| t.spec.id).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn days_are_made_ahead_and_dropped_past_retention_once_their_tasks_have_ended() {
    let place = Place::new().await;
    let session = place.session(1).await;
    let today = u128::try_from(SystemClock.now().micros() / 1_000_000 / 86_400).unwrap();
    let mut sql = place.sql().await;
    sql.execute("DROP TABLE tasks_beyond, task_inputs_beyond, task_results_beyond, task_events_beyond")
        .await
        .unwrap();
    let made = place.store.maintain_partitions(None).await.unwrap();
    assert_eq!((made.made, made.dropped), (0, 0), "they are there from the start");
    // As if the database had been there for long: the past ends earlier, and days follow.
    sql.execute("DROP TABLE tasks_past, task_inputs_past, task_results_past, task_events_past")
        .await
        .unwrap();
    let (ended, waits, recent) = (today - 40, today - 39, today - 5);
    for day in [ended, waits, recent] {
        sqlx::query("SELECT callboard_make_day($1)")
            .bind(i64::try_from(day).unwrap())
            .execute(&mut sql)
            .await
            .unwrap();
    }
    let ids = [of_day(ended, 1), of_day(waits, 1), of_day(recent, 1)];
    let new = ids.map(|id| {
        let mut new = task_with(id);
        new.spec.request_id = Some(id.to_string().into());
        new
    });
    for answer in place.store.admit(new.to_vec()).await {
        answer.unwrap();
    }
    place.claim(session, &[ids[0], ids[2]]).await;
    place.store.finish(session, vec![success(ids[0]), success(ids[2])]).await.unwrap();
    let retention = Some(Duration::from_secs(30 * 86_400));
    let done = place.store.maintain_partitions(retention).await.unwrap();
    assert_eq!((done.dropped, done.held_back), (1, 1), "{done:?}");
    let left = place.other.get(ids.to_vec()).await.unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(place.other.counts().await, Ok([0, 1, 0, 1, 0, 0]), "what was dropped no longer counts");
    let requests: i64 =
        sqlx::query_scalar("SELECT count(*) FROM task_requests").fetch_one(&mut sql).await.unwrap();
    assert_eq!(requests, 2, "its request id is free again");
    place.store.cancel(ids[1]).await.unwrap();
    let done = place.store.maintain_partitions(retention).await.unwrap();
    assert_eq!((done.dropped, done.held_back), (1, 0), "{done:?}");
}

/// Drops the partitions of all days from today on.
async fn drop_days(sql: &mut PgConnection) {
    let ahead = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^task.*_[0-9]{8}$' \
                 AND right(relname, 8) >= to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')";
    let ahead: Vec<String> = sqlx::query_scalar(ahead).fetch_all(&mut *sql).await.unwrap();
    assert!(ahead.len() >= 4 * 7, "{ahead:?}");
    sql.execute(AssertSqlSafe(format!("DROP TABLE {}", ahead.join(", ")))).await.unwrap();
}

#[tokio::test]
async fn a_store_that_was_not_open_for_weeks_takes_tasks_at_once() {
    let url = server::fresh_database().await;
    open(&options(&url)).await.close().await;
    drop_days(&mut PgConnection::connect(&url).await.unwrap()).await;
    let stores = futures::future::join_all((0..3).map(|_| Store::open(options(&url)))).await;
    for (number, store) in (0..).zip(stores) {
        store.unwrap().admit(vec![task(number)]).await.remove(0).unwrap();
    }
}

#[tokio::test]
async fn a_task_of_a_day_without_a_partition_is_refused_for_now_only() {
    let place = Place::new().await;
    place.admit(0..1).await;
    drop_days(&mut place.sql().await).await;
    let refused = place.store.admit(vec![task(1)]).await.remove(0);
    assert!(matches!(&refused, Err(Error::Unavailable(why)) if why.contains("partition")), "{refused:?}");
    assert_eq!(place.store.maintain_partitions(None).await.unwrap().made, 8);
    place.admit(1..2).await;
}

#[tokio::test]
async fn a_closed_store_takes_nothing_more() {
    let url = server::fresh_database().await;
    let store = open(&options(&url)).await;
    store.admit(vec![task(1)]).await.remove(0).unwrap();
    store.close().await;
    assert!(matches!(store.admit(vec![task(2)]).await.remove(0), Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_crowd_that_waits_is_bounded_and_keeps_no_session_from_being_ended() {
    let place = Place::new().await;
    let session = place.session(1).await;
    let ids = place.admit(0..2).await;
    place.claim(session, &ids[1..]).await;
    let mut held = place.hold(ids[0]).await.unwrap();
    let crowd = futures::future::join_all((0..300).map(|_| place.store.cancel(ids[0])));
    let (answers, ()) = futures::future::join(crowd, async {
        held.until_waiting(2).await;
        let ending = place.store.end_session(session, "silent");
        let ended = tokio::time::timeout(Duration::from_secs(2), ending).await;
        assert_eq!(ended.unwrap().unwrap().requeued, ids[1..], "it waits for nobody");
        held.let_go().await;
    })
    .await;
    let refused = answers.iter().filter(|answer| matches!(answer, Err(Error::Overloaded))).count();
    assert_eq!(refused, 300 - 256);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 256);
}
