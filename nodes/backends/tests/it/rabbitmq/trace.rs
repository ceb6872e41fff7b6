//! What travels beside a message's body.

use super::support::{Operator, SOON, many, options};
use callboard_backends::handoff::rabbitmq::Handoff;
use callboard_domain::TraceContext;
use callboard_ports::Handoff as _;
use callboard_ports::handoff::Queues;
use lapin::types::AMQPValue;

#[tokio::test]
async fn every_message_carries_the_span_of_its_publish_in_a_trace_of_its_own() {
    let options = options().await;
    let handoff = Handoff::new(options.clone()).unwrap();
    let operator = Operator::new(&options.url).await;
    let mut traces = Vec::new();
    for _ in 0..2 {
        assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
        let headers = operator.headers(&format!("{}.q.middle", options.prefix)).await;
        let Some(AMQPValue::LongString(text)) = headers.inner().get("traceparent") else {
            panic!("no traceparent: {headers:?}")
        };
        traces.push(text.to_string().parse::<TraceContext>().unwrap().trace_id());
    }
    assert_ne!(traces[0], traces[1]);

    // One that an older node published has none, and is consumed all the same.
    assert_eq!(handoff.publish(many("q", 1)).await, [Ok(())]);
    let body = operator.body(&format!("{}.q.middle", options.prefix)).await;
    operator.publish(&format!("{}.q.middle", options.prefix), &body).await;
    let mut consumer = handoff.consume(Queues::Only(vec!["q".into()])).await.unwrap();
    let next = consumer.next(super::support::MANY);
    let delivery = tokio::time::timeout(SOON, next).await.unwrap().unwrap();
    assert_eq!(delivery.tasks().len(), 1);
}
