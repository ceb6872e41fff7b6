//! A broker that dies, stands still, or takes nothing.

use super::support::{SOON, blocking, many, queues_are_saved, server, take, until};
use callboard_backends::handoff::rabbitmq::{Handoff, Options};
use callboard_ports::Handoff as _;
use callboard_ports::handoff::{Error, Queues, Ready};
use callboard_testkit::services::RabbitMq;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Publishes one after the other for a while; answers those the broker confirmed.
async fn publish_for(handoff: Arc<Handoff>, time: Duration) -> Vec<Ready> {
    let (end, mut confirmed) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        let batch = many("q", 20);
        let answers = handoff.publish(batch.clone()).await;
        confirmed.extend(batch.into_iter().zip(answers).filter(|(_, a)| a.is_ok()).map(|(r, _)| r));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    confirmed
}

async fn killed(mut server: RabbitMq) -> RabbitMq {
    blocking(move || {
        server.kill()?;
        server.restart()?;
        Ok(server)
    })
    .await
}

#[tokio::test]
async fn what_was_confirmed_survives_kill_nine_of_the_broker() {
    let server = server().await;
    let handoff = Handoff::new(Options::new(server.url(), "t")).unwrap();
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    let publisher = TaskTracker::new().spawn(publish_for(handoff.clone(), Duration::from_secs(8)));
    let mut seen: HashSet<_> = take(&mut consumer, 40).await.into_iter().map(|r| r.id).collect();
    queues_are_saved().await;
    let server = killed(server).await;
    let confirmed: HashSet<_> = publisher.await.unwrap().into_iter().map(|r| r.id).collect();
    until("it can be reached again", async || handoff.check().await.is_ok()).await;
    assert!(confirmed.len() > 100, "{}", confirmed.len());
    // Some came before, some come again, in any order; none that was confirmed is missing.
    while !confirmed.is_subset(&seen) {
        seen.extend(take(&mut consumer, 1).await.into_iter().map(|r| r.id));
    }
    drop(server);
}

#[tokio::test]
async fn a_broker_that_stands_still_for_a_while_goes_on() {
    let server = server().await;
    let handoff = Handoff::new(Options::new(server.url(), "t")).unwrap();
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    take(&mut consumer, 1).await;
    server.pause();
    let late = TaskTracker::new().spawn({
        let handoff = handoff.clone();
        async move { handoff.publish(many("q", 5)).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!late.is_finished(), "nothing is known of them");
    server.resume();
    let told = tokio::time::timeout(SOON, late).await.unwrap().unwrap();
    assert_eq!(told, vec![Ok(()); 5], "a late confirm counts");
    take(&mut consumer, 5).await;
}

#[tokio::test]
async fn a_broker_that_blocks_publishers_still_takes_acks() {
    let server = server().await;
    let handoff = Handoff::new(Options::new(server.url(), "t")).unwrap();
    assert_eq!(handoff.publish(many("q", 50)).await, vec![Ok(()); 50]);
    server.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).unwrap();
    // The broker tells a connection once it publishes.
    let stuck = TaskTracker::new().spawn({
        let handoff = handoff.clone();
        async move { handoff.publish(many("q", 1)).await }
    });
    until("it says so", async || handoff.check().await.is_err()).await;
    let refused = handoff.publish(many("q", 1)).await;
    assert!(matches!(refused[..], [Err(Error::Unavailable(_))]), "{refused:?}");
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    take(&mut consumer, 50).await;
    server.ctl(&["set_vm_memory_high_watermark", "0.4"]).unwrap();
    until("it goes on", async || handoff.check().await.is_ok()).await;
    let told = tokio::time::timeout(SOON, stuck).await.unwrap().unwrap();
    // A busy broker that was slow to say that it is blocked was taken for away. Then it is as for the outbox.
    if matches!(told[..], [Err(Error::Unavailable(_))]) {
        assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    } else {
        assert_eq!(told, [Ok(())]);
    }
    take(&mut consumer, 1).await;
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_unavailable_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let handoff = Handoff::new(Options::new(format!("amqp://127.0.0.1:{port}"), "t")).unwrap();
    let began = Instant::now();
    let told = handoff.publish(many("q", 2)).await;
    assert!(told.iter().all(|t| matches!(t, Err(Error::Unavailable(_)))), "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(handoff.check().await.is_err());
    assert!(Handoff::new(Options::new("no address", "t")).is_err());
}
