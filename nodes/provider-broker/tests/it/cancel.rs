//! Nobody pays for what nobody waits for.

use crate::support::{DEADLINE, hello, one, picture};
use callboard_provider_broker::Piece;
use callboard_testkit::fake_provider::Fault;
use futures::StreamExt;

#[tokio::test]
async fn a_dropped_call_ends_at_the_provider() {
    let (fake, broker) = one().await;
    fake.fault(Fault::Hang);
    let (text, image) = (hello(), picture());
    tokio::select! {
        _ = broker.text(&text) => panic!("answered"),
        _ = broker.image(&image) => panic!("answered"),
        _ = broker.text_stream(&text) => panic!("answered"),
        begun = fake.wait(|c| c.in_flight == 3, DEADLINE) => { begun.unwrap(); }
    }
    let after = fake.wait(|c| c.in_flight == 0, DEADLINE).await.unwrap();
    assert_eq!(after.aborted, 3);
    // Whose call it was is not the provider's fault.
    assert_eq!(broker.providers()[0].failures, 0);
}

#[tokio::test]
async fn a_dropped_stream_ends_at_the_provider() {
    let (fake, broker) = one().await;
    fake.fault(Fault::StreamStall { after_chunks: 1 });
    let mut stream = broker.text_stream(&hello()).await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(Piece::Begin(_)))));
    assert_eq!(stream.next().await, Some(Ok(Piece::Delta("fake: ".into()))));
    assert_eq!(fake.counts().in_flight, 1);
    drop(stream);
    assert_eq!(fake.wait(|c| c.in_flight == 0, DEADLINE).await.unwrap().aborted, 1);
}
