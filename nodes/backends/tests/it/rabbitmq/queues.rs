//! Queues that are full, gone, or hold what nobody can read; consumers without a free slot.

use super::support::{MANY, Operator, SOON, drain, handoff, later, many, options, ready, take, until};
use callboard_backends::handoff::rabbitmq::{Handoff, Options};
use callboard_domain::Band;
use callboard_ports::Handoff as _;
use callboard_ports::handoff::{Consumer, Error, Queues, Ready, Want};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn only(queue: &str) -> Queues {
    Queues::Only(vec![queue.into()])
}

/// Takes until each of these came. What is taken while its queue is consumed anew may come twice.
async fn take_each(consumer: &mut Box<dyn Consumer>, of: &[Ready]) {
    let mut missing: HashSet<_> = of.iter().map(|ready| ready.id).collect();
    while !missing.is_empty() {
        for ready in take(consumer, 1).await {
            missing.remove(&ready.id);
        }
    }
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_declared_anew_for_both_sides() {
    let options = options().await;
    let handoff = Handoff::new(options.clone()).unwrap();
    let mut consumer = handoff.consume(only("q")).await.unwrap();
    assert_eq!(handoff.publish(many("q", 10)).await, vec![Ok(()); 10]);
    take(&mut consumer, 10).await;
    let operator = Operator::new(&options.url).await;
    operator.delete(&format!("{}.q.middle", options.prefix)).await;
    let again = many("q", 10);
    let (told, ()) = tokio::join!(handoff.publish(again.clone()), take_each(&mut consumer, &again));
    assert_eq!(told, vec![Ok(()); 10]);
    // One of the three lanes' queues was gone, on top of the first three.
    assert!(handoff.stats().declared >= 4, "{:?}", handoff.stats());
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_consumed_anew_by_the_other_nodes() {
    let options = options().await;
    let (publishes, consumes) =
        (Handoff::new(options.clone()).unwrap(), Handoff::new(options.clone()).unwrap());
    let mut consumer = consumes.consume(only("q")).await.unwrap();
    let operator = Operator::new(&options.url).await;
    let name = format!("{}.q.middle", options.prefix);
    for _ in 0..3 {
        let batch = many("q", 10);
        let (told, ()) = tokio::join!(publishes.publish(batch.clone()), take_each(&mut consumer, &batch));
        assert_eq!(told, vec![Ok(()); 10]);
        operator.delete(&name).await;
    }
}

#[tokio::test]
async fn who_hears_that_a_queue_is_there_again_consumes_it_over_a_new_channel() {
    let options = options().await;
    let handoff = Handoff::new(options.clone()).unwrap();
    let mut consumer = handoff.consume(only("q")).await.unwrap();
    assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    // Not settled, it comes again only when its channel is closed.
    let held = consumer.next(MANY).await.unwrap();
    let operator = Operator::new(&options.url).await;
    let (exchange, queue) = (format!("{0}.notices", options.prefix), format!("{0}.q.middle", options.prefix));
    let notice = format!(r#"{{"anew":{{"queue":"{queue}","by":"00000000-0000-0000-0000-000000000000"}}}}"#);
    let tell = async {
        // What is told before the node listens is not heard.
        loop {
            operator.tell(&exchange, notice.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let again = tokio::select! {
        again = take(&mut consumer, 1) => again,
        () = tell => unreachable!("it tells for ever"),
    };
    assert_eq!(again[0].id, held.tasks()[0].id);
}

#[tokio::test]
async fn a_full_queue_refuses_and_the_others_do_not() {
    let options = Options { max_length: 50, ..options().await };
    let handoff = Handoff::new(options).unwrap();
    let mut batch = many("full", 500);
    batch.extend(many("free", 20));
    let answers = handoff.publish(batch).await;
    assert!(answers[..500].contains(&Err(Error::Full)));
    assert_eq!(answers[500..], vec![Ok(()); 20]);
    assert!(handoff.stats().refused > 0);
}

#[tokio::test]
async fn a_message_nobody_can_read_is_set_aside_and_the_next_one_comes() {
    let options = options().await;
    let handoff = Handoff::new(options.clone()).unwrap();
    assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    let operator = Operator::new(&options.url).await;
    let name = format!("{}.q.middle", options.prefix);
    operator.publish(&name, b"{\"v\":2}\n").await;
    operator.publish(&name, b"nonsense").await;
    assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    let mut consumer = handoff.consume(only("q")).await.unwrap();
    take(&mut consumer, 2).await;
    until("both are counted", async || handoff.stats().undecodable == 2).await;
    let graves = format!("{}.undecodable", options.prefix);
    until("both are in the queue for such", async || operator.depth(&graves).await == Some(2)).await;
}

#[tokio::test]
async fn messages_hold_as_many_tasks_as_a_worker_starts_soon() {
    let options = options().await;
    let handoff = Handoff::new(options.clone()).unwrap();
    let (quick, slow): (Arc<str>, Arc<str>) = ("quick".into(), "slow".into());
    handoff.ran(&quick, Duration::from_millis(1));
    handoff.ran(&slow, Duration::from_secs(1));
    for queue in ["quick", "slow"] {
        assert_eq!(handoff.publish(many(queue, 300)).await, vec![Ok(()); 300]);
    }
    let operator = Operator::new(&options.url).await;
    let depth = async |queue: &str| operator.depth(&format!("{}.{queue}.middle", options.prefix)).await;
    assert_eq!((depth("quick").await, depth("slow").await), (Some(1), Some(300)));
    let mut consumer = handoff.consume(only("quick")).await.unwrap();
    assert_eq!(take(&mut consumer, 300).await.len(), 300);
}

#[tokio::test]
async fn a_worker_without_a_free_slot_gives_back_what_it_holds() {
    let handoff = handoff().await;
    let mut busy = handoff.consume(only("q")).await.unwrap();
    let mut free = handoff.consume(only("q")).await.unwrap();
    let tasks = many("q", 40);
    assert_eq!(handoff.publish(tasks.clone()).await, vec![Ok(()); 40]);
    // It takes one task and asks no more; others were sent to it already.
    let held = tokio::time::timeout(SOON, busy.next(Want { tasks: 16, alone: true })).await.unwrap().unwrap();
    let rest = tasks.len() - held.tasks().len();
    let began = Instant::now();
    let got = take(&mut free, rest).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    held.ack();
    let ids: HashSet<_> = got.iter().map(|r| r.id).collect();
    assert_eq!(ids.len(), rest, "each of the others once");
    // It asks again, and is served again.
    assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    drop(free);
    assert_eq!(take(&mut busy, 1).await.len(), 1);
}

#[tokio::test]
async fn a_slot_that_gets_free_behind_a_long_queue_takes_the_urgent_task() {
    let handoff = handoff().await;
    let low: Vec<_> = (0..2_000).map(|_| ready("q", Band::Low)).collect();
    assert_eq!(handoff.publish(low).await, vec![Ok(()); 2_000]);
    let mut consumer = handoff.consume(only("q")).await.unwrap();
    let one = Want { tasks: 1, alone: true };
    tokio::time::timeout(SOON, consumer.next(one)).await.unwrap().unwrap().ack();
    // The slot is busy for longer than the consumers are kept.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let urgent = ready("q", Band::High);
    assert_eq!(handoff.publish(vec![urgent.clone()]).await, [Ok(())]);
    let mut before = 0;
    loop {
        let delivery = tokio::time::timeout(SOON, consumer.next(one)).await.unwrap().unwrap();
        let is_urgent = delivery.tasks()[0].id == urgent.id;
        delivery.ack();
        if is_urgent {
            break;
        }
        before += 1;
        // The weights owe the low band a turn at most.
        assert!(before < 4, "low tasks are taken first");
    }
}

#[tokio::test]
async fn a_task_whose_time_has_not_come_holds_nothing_else_up() {
    let handoff = handoff().await;
    let mut waits = ready("q", Band::Middle);
    waits.not_before = Some(later(Duration::from_secs(3)));
    assert_eq!(handoff.publish(vec![waits.clone()]).await, [Ok(())]);
    assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    let mut consumer = handoff.consume(only("q")).await.unwrap();
    assert_ne!(take(&mut consumer, 1).await[0].id, waits.id);
    assert_eq!(take(&mut consumer, 1).await[0].id, waits.id);
}

#[tokio::test]
async fn a_new_queue_is_consumed_by_who_consumes_all() {
    let handoff = handoff().await;
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    assert!(drain(&mut consumer, Duration::from_millis(100)).await.is_empty());
    let other = many("new", 3);
    assert_eq!(handoff.publish(other).await, vec![Ok(()); 3]);
    assert_eq!(take(&mut consumer, 3).await.len(), 3);
    assert_eq!(handoff.add_queues(&["another".into()]), Ok(()));
    let next = tokio::time::timeout(Duration::from_millis(50), consumer.next(MANY)).await;
    assert!(next.is_err(), "nothing is there");
}
