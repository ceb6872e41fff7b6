//! Answers that are asked for anew before they end.

use super::*;
use crate::config::{Pattern, Redact};
use crate::stages::{Begun, Cleared};
use callboard_domain::llm::{CacheMode, CacheSource, Content, Image, ImageSource, Part};
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(100);
/// Shortly before the end of what is kept now.
const SOON: Duration = Duration::from_secs(91);

fn warming() -> Config {
    let cache = Cache {
        enabled: true,
        ttl: TTL,
        warm_top: 2,
        warm_per_minute: 3,
        warm_namespaces: vec!["default".into()],
        ..Cache::default()
    };
    Config { cache, ..Config::default() }
}

async fn times(stages: &Arc<Stages<Fake>>, request: &TextRequest, times: u32) {
    for _ in 0..times {
        stages.text(request).await.unwrap();
    }
}

/// Asks for all that is due, as long as there is a place.
async fn warm(stages: &Arc<Stages<Fake>>) -> Vec<String> {
    let mut warmed = Vec::new();
    for due in stages.due() {
        let prompt = due.request.messages[0].content.text().into_owned();
        match stages.warm(due, None).await {
            Begun::Asked => warmed.push(prompt),
            Begun::Over => {}
            Begun::Full => break,
        }
    }
    warmed
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_most_is_asked_anew_shortly_before_it_ends() {
    let (fake, stages) = stages(&warming());
    for (prompt, often) in [("often", 4), ("more", 5), ("rare", 2), ("once", 1)] {
        times(&stages, &ask(prompt), often).await;
    }
    assert!(warm(&stages).await.is_empty(), "nothing ends yet");
    tokio::time::advance(SOON).await;
    assert_eq!(warm(&stages).await, ["more", "often"]);
    assert_eq!((fake.calls(), stages.counts().warmed), (6, 2));
    assert!(warm(&stages).await.is_empty(), "they do not end any more");
    tokio::time::advance(TTL - SOON).await;
    let answer = stages.text(&ask("more")).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.summary.from_cache), ("answer 5", Some(CacheSource::Exact)));
    tokio::time::advance(SOON - (TTL - SOON)).await;
    assert_eq!(warm(&stages).await, ["more"], "nobody has wanted the other one since");
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_is_kept_to_be_asked_anew() {
    let (_fake, stages) = stages(&warming());
    let image = Part::Image(Image {
        source: ImageSource::Data { media_type: "image/png".into(), data: vec![1].into() },
        detail: None,
    });
    let mut shown = ask("shown");
    shown.messages[0].content = Content::Parts(vec![Part::Text("shown".into()), image]);
    times(&stages, &shown, 2).await;
    times(&stages, &ask(&"x".repeat(20_000)), 2).await;
    times(&stages, &TextRequest { cache: CacheMode::Off, ..ask("off") }, 2).await;
    of("other", "", times(&stages, &ask("of another namespace"), 2)).await;
    tokio::time::advance(SOON).await;
    assert!(stages.due().is_empty());
    let (_fake, off) = self::stages(&caching());
    times(&off, &ask("a"), 9).await;
    tokio::time::advance(Duration::from_secs(3_590)).await;
    assert!(off.due().is_empty(), "by default nothing is");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_made_in_a_minute_than_may_be_and_what_fails_is_not_tried_again() {
    let mut config = warming();
    config.cache.warm_per_minute = 1;
    let (fake, stages) = stages(&config);
    for prompt in ["a", "b"] {
        times(&stages, &ask(prompt), 2).await;
    }
    tokio::time::advance(SOON).await;
    fake.then(Err(error(ErrorKind::Overloaded)));
    assert_eq!(warm(&stages).await.len(), 1);
    assert!(warm(&stages).await.is_empty(), "the minute is full");
    assert_eq!((stages.counts().not_warmed, stages.counts().warmed, fake.calls()), (1, 0, 3));
    assert_eq!(stages.due().len(), 1, "the other one waits for the next minute");
}

/// They are asked one after the other, and each call takes its time.
#[tokio::test(start_paused = true)]
async fn what_was_cleared_or_renewed_since_it_was_due_is_left_out_and_takes_no_place() {
    let mut config = warming();
    config.cache.warm_top = 3;
    config.cache.warm_per_minute = 1;
    let (fake, stages) = stages(&config);
    for (kind, prompt) in [("cleared", "a"), ("", "b"), ("", "c")] {
        of("", kind, times(&stages, &ask(prompt), 2)).await;
    }
    tokio::time::advance(SOON).await;
    let [a, b, c] = ["a", "b", "c"].map(|prompt| {
        let is = |due: &crate::stages::Due| due.request.messages[0].content.text() == prompt;
        stages.due().into_iter().find(is).unwrap()
    });
    let record = ProviderRecord::new(Subject::of(Topic::Cache, ""), Timestamp::default());
    let cleared = Cleared { kind: Some("cleared".into()), ..Cleared::default() };
    stages.clear(&cleared, &ProviderRecord { epoch: 1, ..record });
    let renew = TextRequest { cache: CacheMode::Refresh, ..ask("b") };
    stages.text(&renew).await.unwrap();
    let before = fake.calls();
    for due in [a, b] {
        assert_eq!(stages.warm(due, None).await, Begun::Over);
    }
    assert_eq!((fake.calls(), stages.counts().not_warmed), (before, 0));
    assert_eq!(stages.warm(c, None).await, Begun::Asked);
}

#[tokio::test(start_paused = true)]
async fn only_redacted_text_is_kept_and_what_is_cleared_is_forgotten() {
    let (fake, stages) = stages(&Config { redact: Redact { patterns: vec![Pattern::Mails] }, ..warming() });
    times(&stages, &ask("write to a@example.com"), 2).await;
    tokio::time::advance(SOON).await;
    assert_eq!(warm(&stages).await, ["write to [REDACTED:mail]"]);
    assert_eq!(fake.prompts(), ["write to [REDACTED:mail]", "write to [REDACTED:mail]"]);
    times(&stages, &ask("write to a@example.com"), 1).await;
    tokio::time::advance(SOON).await;
    assert_eq!(stages.due().len(), 1);
    let record = ProviderRecord::new(Subject::of(Topic::Cache, ""), Timestamp::default());
    stages.clear(&Cleared::default(), &ProviderRecord { epoch: 1, ..record });
    assert!(stages.due().is_empty());
}
