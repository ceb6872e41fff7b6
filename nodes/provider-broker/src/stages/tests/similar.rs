//! The similar-content cache, for when no provider answers.

use super::*;
use crate::config::{Cache, Config, Pattern, Redact, Similar};
use callboard_domain::llm::{CacheMode, CacheSource, Message, Role};
use std::time::Duration;

fn similar() -> Config {
    Config { similar: Similar { enabled: true, ..Similar::default() }, ..Config::default() }
}

const ASKED: &str =
    "Summarize the report of Q3 for Anna, who must not be told about the costs of 1200 euros in Berlin.";

/// What a call gets while nobody answers, after `ASKED` was answered.
async fn in_outage(request: &TextRequest) -> Answer {
    let (fake, stages) = stages(&similar());
    stages.text(&ask(ASKED)).await.unwrap();
    fake.then(Err(error(ErrorKind::Overloaded)));
    stages.text(request).await
}

#[tokio::test]
async fn when_nobody_answers_the_answer_to_a_similar_call_does_and_says_so() {
    let again = "Please summarize the report of Q3 for Anna, who must not be told about the costs of 1200 euros in Berlin!";
    let answer = in_outage(&ask(again)).await.unwrap();
    assert_eq!(answer.text, "answer 1");
    let summary = answer.summary;
    let Some(CacheSource::Similar(percent)) = summary.from_cache else { panic!("{summary:?}") };
    assert!((80..100).contains(&percent), "{percent}");
    let why = format!("the answer to a similar call of before ({percent} per cent the same): main failed");
    assert_eq!(summary.degraded, Some(why));
    assert_eq!(summary.attempts, error(ErrorKind::Overloaded).attempts, "it tells what failed");
    let same = in_outage(&ask(ASKED)).await.unwrap();
    assert_eq!(same.summary.from_cache, Some(CacheSource::Similar(100)));
}

#[tokio::test]
async fn semantic_cache_false_hits() {
    let others = [
        ("Q3", "Q4"),
        ("1200", "1300"),
        ("1200", "12.00"),
        ("1200", "-1200"),
        ("Anna", "Anne"),
        ("Anna", "anna"),
        ("Berlin", "Bern"),
        ("must not", "must"),
        ("must not", "may not"),
        ("euros", "dollars"),
        ("Summarize", "Do not summarize"),
        ("Summarize", "Translate"),
        ("for Anna, who", "for Anna and Bob, who"),
        ("Q3 for Anna", "Anna for Q3"),
    ];
    for (word, other) in others {
        let prompt = ASKED.replace(word, other);
        assert_ne!(prompt, ASKED);
        let error = in_outage(&ask(&prompt)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Overloaded, "{prompt}");
    }
    // In a long text one word is no less.
    let long = format!("{ASKED} {}", "The rest is the same for all. ".repeat(200));
    let (fake, stages) = stages(&similar());
    stages.text(&ask(&long)).await.unwrap();
    for (word, other) in others {
        fake.then(Err(error(ErrorKind::Overloaded)));
        assert!(stages.text(&ask(&long.replacen(word, other, 1))).await.is_err(), "{word} -> {other}");
    }
}

#[tokio::test]
async fn who_asks_otherwise_gets_no_similar_answer() {
    let base = ask(ASKED);
    assert!(in_outage(&base).await.is_ok());
    let others = [
        TextRequest { model: Some("m".into()), ..base.clone() },
        TextRequest { json: true, ..base.clone() },
        TextRequest { max_tokens: Some(9), ..base.clone() },
        TextRequest { provider: Some("main".into()), ..base.clone() },
        base.clone().system("be brief"),
        TextRequest { messages: vec![Message { role: Role::System, content: ASKED.into() }], ..base.clone() },
    ];
    for request in others {
        assert!(in_outage(&request).await.is_err(), "{request:?}");
    }
    let (fake, stages) = stages(&similar());
    of("x", "k", stages.text(&base)).await.unwrap();
    for (namespace, kind, found) in [("y", "k", false), ("x", "l", false), ("x", "k", true)] {
        fake.then(Err(error(ErrorKind::Overloaded)));
        assert_eq!(of(namespace, kind, stages.text(&base)).await.is_ok(), found, "{namespace} {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_takes_the_place_of_templates_and_outages_for_a_week_and_of_nothing_else() {
    let config = Config { cache: Cache { enabled: true, ..Cache::default() }, ..similar() };
    let (fake, stages) = stages(&config);
    stages.text(&ask(ASKED)).await.unwrap();
    tokio::time::advance(Duration::from_secs(7 * 24 * 3_600 - 1)).await;
    let template = || {
        let mut template = whole("a template");
        template.summary.provider = "offline".into();
        template.summary.degraded = Some("offline answered after main failed".into());
        Ok(template)
    };
    fake.then(template());
    let answer = stages.text(&ask(ASKED)).await.unwrap();
    assert_eq!(answer.text, "answer 1");
    assert!(answer.summary.degraded.unwrap().ends_with(": offline answered after main failed"));
    for kind in ErrorKind::ALL {
        fake.then(Err(error(*kind)));
        let refused = matches!(
            kind,
            ErrorKind::InvalidRequest
                | ErrorKind::ContextTooLong
                | ErrorKind::Unsupported
                | ErrorKind::ModelNotFound
                | ErrorKind::ContentFiltered
        );
        assert_eq!(stages.text(&ask(ASKED)).await.is_err(), refused, "{kind:?}");
    }
    // What made do is not taken for an answer of a provider, by the exact cache neither.
    assert_eq!(stages.text(&ask(ASKED)).await.unwrap().text, format!("answer {}", fake.calls()));
    tokio::time::advance(Duration::from_secs(7 * 24 * 3_600)).await;
    fake.then(template());
    assert_eq!(stages.text(&ask(ASKED)).await.unwrap().text, "a template");
}

#[tokio::test]
async fn it_is_off_by_default_and_streams_get_it_too() {
    let (fake, off) = stages(&Config::default());
    off.text(&ask(ASKED)).await.unwrap();
    fake.then(Err(error(ErrorKind::Overloaded)));
    assert!(off.text(&ask(ASKED)).await.is_err());
    let (fake, stages) = stages(&similar());
    let stream = stages.text_stream(&ask(ASKED)).await.unwrap();
    stream.for_each(|piece| async move { assert!(piece.is_ok()) }).await;
    fake.then(Err(error(ErrorKind::Overloaded)));
    let pieces: Vec<_> = stages.text_stream(&ask(ASKED)).await.unwrap().collect().await;
    assert!(matches!(&pieces[1], Ok(Piece::Delta(text)) if text == "answer 1"), "{pieces:?}");
    assert_eq!((stages.counts().made_do, stages.counts().similar.0), (1, 1));
}

#[tokio::test]
async fn what_is_taken_out_of_prompts_reaches_no_cache_and_makes_calls_alike() {
    let config = Config { redact: Redact { patterns: Pattern::ALL.to_vec() }, ..Config::default() };
    let (fake, stages) = stages(&config);
    let asked = |mail: &str| TextRequest { cache: CacheMode::On, ..ask(&format!("write to {mail}")) };
    assert_eq!(stages.text(&asked("a@example.org")).await.unwrap().text, "answer 1");
    assert_eq!(stages.text(&asked("b@example.org")).await.unwrap().text, "answer 1");
    assert_eq!(fake.prompts(), ["write to [REDACTED:mail]"]);
    assert_eq!(stages.counts().redacted, [("keys", 0), ("cards", 0), ("mails", 2)]);
}
