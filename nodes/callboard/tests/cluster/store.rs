//! PostgreSQL killed, and back after longer than a session lasts.

use crate::load::{DEADLINE, all_end, all_run, all_succeeded, eventually, logs, now, say, sleep, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use crate::servers::own_postgres;
use callboard_client::{Client, Code, Options};
use std::time::Duration;

const TASKS: usize = 12;
/// Longer than a session lasts without renewal.
const AWAY: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_submissions_are_refused_with_a_time_and_what_ran_is_recorded_on_return() {
    let (mut postgres, servers) = own_postgres().await;
    let settings = [Settings::new("a"), Settings::new("b")];
    let mut cluster = Cluster::start_on(room::shared().await, servers, &settings).await;
    let client = cluster.client();
    let ids = submit(&client, (0..TASKS).map(|_| sleep(3_000))).await;
    all_run(&client, &ids).await;
    let before = cluster.sessions(&client).await;

    let killed = now();
    postgres.with(|server| server.kill()).await;
    for replica in &cluster.replicas {
        // A client that tries once: what it is told is what others wait on.
        let options = Options {
            addresses: vec![replica.api.to_string()],
            timeout: Duration::from_secs(5),
            patience: Duration::ZERO,
            ..Options::default()
        };
        let impatient = Client::connect(options).unwrap();
        let refused =
            eventually("a submission is refused", AWAY, async || impatient.submit(sleep(1)).await.err())
                .await;
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Unavailable, "STORE_UNAVAILABLE"),
            "{refused:?}"
        );
        assert!(refused.retry_after.is_some() && !refused.may_have_run, "{refused:?}");
    }
    // The outage is to outlast the sessions.
    tokio::time::sleep(AWAY.saturating_sub(now().since(killed))).await;
    postgres.with(|server| server.restart()).await;
    let back = now();

    let tasks = all_end(&client, &ids, DEADLINE).await;
    say(&format!(
        "store: what ended in an outage of {:.1?} was recorded {:.1?} after it",
        back.since(killed),
        now().since(back)
    ));
    all_succeeded(&tasks);
    for events in logs(&client, &ids).await {
        assert_eq!(events.last().unwrap().attempt, 1, "it ran again: {events:?}");
    }
    cluster.settled().await;
    assert_eq!(cluster.sessions(&client).await, before, "a session was ended by the outage");
    // And everything goes on.
    let more = submit(&client, (0..4).map(|_| sleep(1))).await;
    all_succeeded(&all_end(&client, &more, DEADLINE).await);
}
