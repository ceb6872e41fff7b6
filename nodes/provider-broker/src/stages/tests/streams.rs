//! Streams through the caches.

use super::*;
use crate::config::Config;
use callboard_domain::llm::CacheSource;
use futures::TryStreamExt as _;

/// The text of a stream, in how many pieces it came, and its summary.
async fn read(pieces: PieceStream) -> (String, usize, Summary) {
    let pieces: Vec<_> = pieces.try_collect().await.unwrap();
    assert!(matches!(pieces.first(), Some(Piece::Begin(_))));
    let deltas: Vec<_> = pieces
        .iter()
        .filter_map(|p| if let Piece::Delta(text) = p { Some(text.as_str()) } else { None })
        .collect();
    let Some(Piece::End(summary)) = pieces.last() else { panic!("no end: {pieces:?}") };
    (deltas.concat(), deltas.len(), Summary::clone(summary))
}

#[tokio::test]
async fn a_stream_is_kept_at_its_end_and_told_again_in_one_piece() {
    let (fake, stages) = stages(&caching());
    let (text, pieces, summary) = read(stages.text_stream(&ask("a")).await.unwrap()).await;
    assert_eq!((text.as_str(), pieces, summary.from_cache), ("answer 1", 2, None));
    let (text, pieces, summary) = read(stages.text_stream(&ask("a")).await.unwrap()).await;
    assert_eq!((text.as_str(), pieces, summary.from_cache), ("answer 1", 1, Some(CacheSource::Exact)));
    assert_eq!(stages.text(&ask("a")).await.unwrap().text, "answer 1", "a call in one piece gets it, too");
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn a_stream_that_is_dropped_or_failed_is_not_kept() {
    let (fake, stages) = stages(&caching());
    let keyed = TextRequest { idempotency_key: Some("k".into()), ..ask("a") };
    let mut pieces = stages.text_stream(&keyed).await.unwrap();
    for _ in 0..3 {
        pieces.next().await.unwrap().unwrap();
    }
    drop(pieces);
    fake.then(Err(error(ErrorKind::Overloaded)));
    assert!(stages.text_stream(&keyed).await.is_err());
    let counts = stages.counts();
    assert_eq!((counts.cached.0, counts.by_key.0), (0, 0));
    assert_eq!(read(stages.text_stream(&keyed).await.unwrap()).await.0, "answer 3");
    assert_eq!(read(stages.text_stream(&keyed).await.unwrap()).await.0, "answer 3");
}

#[tokio::test]
async fn a_stream_with_a_key_is_told_again() {
    let (fake, stages) = stages(&Config::default());
    let keyed = TextRequest { idempotency_key: Some("k".into()), ..ask("a") };
    read(stages.text_stream(&keyed).await.unwrap()).await;
    let (text, _, summary) = read(stages.text_stream(&keyed).await.unwrap()).await;
    assert_eq!((text.as_str(), summary.from_cache), ("answer 1", Some(CacheSource::Replayed)));
    let other = TextRequest { idempotency_key: Some("k".into()), ..ask("b") };
    assert_eq!(stages.text_stream(&other).await.err().unwrap().kind, ErrorKind::InvalidRequest);
    assert_eq!(fake.calls(), 1);
}
