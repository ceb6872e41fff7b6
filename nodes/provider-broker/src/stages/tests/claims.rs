//! Several nodes that are asked for one idempotency key at the same time.

use super::second::Shared;
use super::*;
use async_trait::async_trait;
use callboard_domain::llm::CacheSource;
use callboard_ports::locks::{self, Locks};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};

/// Locks of a cluster, which may be away or forgotten. That real ones keep what they should is their contract's test.
#[derive(Default)]
struct Held {
    by: Mutex<HashMap<String, (String, Instant)>>,
    away: AtomicBool,
    calls: AtomicU32,
}

impl Held {
    fn forget(&self) {
        self.by.lock().unwrap().clear();
    }

    fn len(&self) -> usize {
        let now = Instant::now();
        self.by.lock().unwrap().values().filter(|(_, until)| *until > now).count()
    }

    fn change(
        &self,
        name: &str,
        owner: &str,
        change: impl FnOnce(&mut HashMap<String, (String, Instant)>, Option<String>) -> Result<(), locks::Error>,
    ) -> Result<(), locks::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(locks::Error::Unavailable("away".into()));
        }
        let mut by = self.by.lock().unwrap();
        by.retain(|_, (_, until)| *until > Instant::now());
        let other = by.get(name).map(|(holder, _)| holder.clone()).filter(|holder| holder != owner);
        change(&mut by, other)
    }
}

#[async_trait]
impl Locks for Held {
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), locks::Error> {
        self.change(name, owner, |by, other| match other {
            Some(holder) => Err(locks::Error::Held { holder }),
            None => {
                by.insert(name.to_owned(), (owner.to_owned(), Instant::now() + ttl));
                Ok(())
            }
        })
    }

    async fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), locks::Error> {
        self.change(name, owner, |by, other| match by.get_mut(name) {
            Some(held) if other.is_none() => {
                held.1 = Instant::now() + ttl;
                Ok(())
            }
            _ => Err(locks::Error::Lost),
        })
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), locks::Error> {
        self.change(name, owner, |by, other| {
            if other.is_none() {
                by.remove(name);
            }
            Ok(())
        })
    }
}

/// What the nodes of a cluster share.
#[derive(Default)]
struct Cluster {
    answers: Arc<Shared>,
    held: Arc<Held>,
    draws: Arc<AtomicU32>,
}

impl Cluster {
    fn node(&self) -> (Arc<Fake>, Arc<Stages<Fake>>) {
        let (fake, _) = gated(&Config::default());
        let draws = Arc::clone(&self.draws);
        let draw = Arc::new(move || f64::from(draws.fetch_add(1, Ordering::SeqCst)) / 1e6);
        let claims = Claims::new(Some(Arc::clone(&self.held) as _), draw);
        let answers = Some(Arc::clone(&self.answers) as _);
        let stages = Stages::new(Arc::clone(&fake), &Config::default(), answers, claims);
        (fake, stages)
    }
}

fn keyed(prompt: &str) -> TextRequest {
    TextRequest { idempotency_key: Some("k".into()), ..ask(prompt) }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_with_one_key_at_the_same_time_make_one_call() {
    let cluster = Cluster::default();
    let ((fake, one), (other, two)) = (cluster.node(), cluster.node());
    let mut first = begin(&one, [keyed("a")]).await;
    let mut second = begin(&two, [keyed("a"), keyed("a")]).await;
    // Long enough for the claim to end, were it not renewed.
    sleep(Duration::from_secs(50)).await;
    assert_eq!((fake.calls(), other.calls(), second.try_join_next().is_none()), (1, 0, true));
    fake.gate.add_permits(1);
    let first = first.join_next().await.unwrap().unwrap().unwrap();
    while let Some(answer) = second.join_next().await {
        let answer = answer.unwrap().unwrap();
        assert_eq!((&answer.text, answer.summary.from_cache), (&first.text, Some(CacheSource::Replayed)));
    }
    assert_eq!(other.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_second_calls_itself_if_the_first_fails() {
    let cluster = Cluster::default();
    let ((fake, one), (other, two)) = (cluster.node(), cluster.node());
    fake.then(Err(error(ErrorKind::ServerFault)));
    let mut first = begin(&one, [keyed("a")]).await;
    let mut second = begin(&two, [keyed("a")]).await;
    fake.gate.add_permits(1);
    other.gate.add_permits(1);
    let failed = Instant::now();
    assert_eq!(first.join_next().await.unwrap().unwrap().unwrap_err().kind, ErrorKind::ServerFault);
    assert_eq!(second.join_next().await.unwrap().unwrap().unwrap().text, "answer 1");
    assert!(failed.elapsed() < Duration::from_secs(1), "the claim was given back");
    assert_eq!((fake.calls(), other.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_second_calls_soon_if_the_first_dies() {
    let cluster = Cluster::default();
    let ((fake, one), (other, two)) = (cluster.node(), cluster.node());
    let mut first = begin(&one, [keyed("a")]).await;
    let mut second = begin(&two, [keyed("a")]).await;
    first.shutdown().await;
    let died = Instant::now();
    other.gate.add_permits(1);
    assert_eq!(second.join_next().await.unwrap().unwrap().unwrap().text, "answer 1");
    assert!(died.elapsed() <= crate::stages::claim::TTL + Duration::from_secs(1), "{:?}", died.elapsed());
    assert_eq!((fake.calls(), other.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_lost_its_connection_does_not_wait_for_its_own_claim() {
    let cluster = Cluster::default();
    let (fake, one) = cluster.node();
    begin(&one, [keyed("a")]).await.shutdown().await;
    assert_eq!(cluster.held.len(), 1, "it was not given back");
    fake.gate.add_permits(1);
    let again = Instant::now();
    assert_eq!(one.text(&keyed("a")).await.unwrap().text, "answer 2");
    assert_eq!(again.elapsed(), Duration::ZERO);
}

/// Its claim ends meanwhile, and another node makes the call too. There are two calls then; there is one answer.
#[tokio::test(start_paused = true)]
async fn a_holder_that_was_paused_gets_the_answer_that_was_kept_first() {
    let cluster = Cluster::default();
    let ((fake, one), (other, two)) = (cluster.node(), cluster.node());
    fake.then(Ok(whole("the late one")));
    let mut first = begin(&one, [keyed("a")]).await;
    // Nothing of it runs, though time goes by.
    cluster.held.forget();
    other.gate.add_permits(1);
    let second = two.text(&keyed("a")).await.unwrap();
    assert_eq!((second.text.as_str(), second.summary.from_cache), ("answer 1", None));
    fake.gate.add_permits(1);
    let first = first.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((first.text.as_str(), first.summary.from_cache), ("answer 1", Some(CacheSource::Replayed)));
    for stages in [&one, &two] {
        assert_eq!(stages.text(&keyed("a")).await.unwrap().text, "answer 1");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_that_were_lost_are_made_again() {
    let cluster = Cluster::default();
    let ((fake, one), (other, two)) = (cluster.node(), cluster.node());
    let mut first = begin(&one, [keyed("a")]).await;
    cluster.held.forget();
    while cluster.held.len() == 0 {
        sleep(Duration::from_millis(100)).await;
    }
    let mut second = begin(&two, [keyed("a")]).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(other.calls(), 0, "the second waits as before");
    fake.gate.add_permits(1);
    first.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(second.join_next().await.unwrap().unwrap().unwrap().text, "answer 1");
}

#[tokio::test(start_paused = true)]
async fn without_claims_each_node_calls_and_asks_for_them_again_later() {
    let cluster = Cluster::default();
    cluster.held.away.store(true, Ordering::SeqCst);
    let ((fake, one), (other, two)) = (cluster.node(), cluster.node());
    other.then(Ok(whole("the late one")));
    let (mut first, mut second) = (begin(&one, [keyed("a")]).await, begin(&two, [keyed("a")]).await);
    assert_eq!((fake.calls(), other.calls()), (1, 1), "nobody waits");
    fake.gate.add_permits(9);
    let first = first.join_next().await.unwrap().unwrap().unwrap();
    other.gate.add_permits(1);
    let second = second.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((first.text, second.summary.from_cache), (second.text, Some(CacheSource::Replayed)));
    let asked = || cluster.held.calls.load(Ordering::SeqCst);
    let before = asked();
    let another = |key: &str| TextRequest { idempotency_key: Some(key.into()), ..ask("b") };
    one.text(&another("x")).await.unwrap();
    assert_eq!(asked(), before, "they are left alone for a while");
    advance(Duration::from_secs(6)).await;
    one.text(&another("y")).await.unwrap();
    assert_eq!(asked(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn another_request_with_a_key_whose_call_another_node_makes_is_refused_at_once() {
    let cluster = Cluster::default();
    let ((fake, one), (_, two)) = (cluster.node(), cluster.node());
    let mut first = begin(&one, [keyed("a")]).await;
    let began = Instant::now();
    let refused = two.text(&keyed("b")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidRequest);
    assert!(
        refused.message.contains("may still be under way") && refused.message.contains("10 s"),
        "{refused:?}"
    );
    assert_eq!((began.elapsed(), two.counts().conflicts), (Duration::ZERO, 1));
    fake.gate.add_permits(1);
    first.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_kept_is_given_whoever_claims_its_key() {
    let cluster = Cluster::default();
    let ((fake, one), (other, two)) = (cluster.node(), cluster.node());
    fake.gate.add_permits(1);
    one.text(&keyed("a")).await.unwrap();
    for (owner, _) in cluster.held.by.lock().unwrap().values_mut() {
        *owner = "another request/another node".into();
    }
    assert_eq!(two.text(&keyed("a")).await.unwrap().text, "answer 1");
    assert_eq!(other.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_given_back_if_the_key_stands_for_another_request() {
    let cluster = Cluster::default();
    let ((fake, one), (_, two)) = (cluster.node(), cluster.node());
    fake.gate.add_permits(1);
    one.text(&keyed("a")).await.unwrap();
    cluster.held.forget();
    assert_eq!(two.text(&keyed("b")).await.unwrap_err().kind, ErrorKind::InvalidRequest);
    assert_eq!(cluster.held.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_node_waits_no_longer_than_its_call_may_take() {
    let cluster = Cluster::default();
    let ((_, one), (other, two)) = (cluster.node(), cluster.node());
    let _first = begin(&one, [keyed("a")]).await;
    let (began, brief) =
        (Instant::now(), TextRequest { timeout: Some(Duration::from_secs(5)), ..keyed("a") });
    let late = two.text(&brief).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Timeout);
    assert!(late.message.contains("another node makes the call"), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(other.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_key_claims_nothing() {
    let cluster = Cluster::default();
    let (fake, one) = cluster.node();
    fake.gate.add_permits(1);
    one.text(&ask("a")).await.unwrap();
    assert_eq!(cluster.held.calls.load(Ordering::SeqCst), 0);
}
