//! The spans of what is written.

use super::{Place, claim, open, options, success, task};
use callboard_domain::{NewTask, TraceContext};
use callboard_ports::store::TaskStore as _;
use callboard_ports::trace::{Exporter, Kind, Sampling, SpanData, Tracer, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Kept(Mutex<Vec<SpanData>>);

impl Exporter for Kept {
    fn export(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone())
}

#[tokio::test]
async fn a_transaction_has_a_span_of_its_own_that_is_linked_to_the_traces_of_its_tasks() {
    let place = Place::new().await;
    let (next, kept) = (AtomicU64::new(1), Arc::<Kept>::default());
    let sampling = Sampling { ratio: 1.0, slow: Duration::from_secs(60) };
    let random = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
    let mut options = options(&place.url);
    options.tracer = Tracer::new(random, kept.clone(), sampling);
    let store = open(&options).await;
    let traces = [1_u128, 2].map(|trace| TraceContext::root(trace, 7));
    let new = |n: u128, trace: TraceContext| {
        let mut new: NewTask = task(n);
        new.spec.traceparent = Some(trace.to_string().into());
        new
    };
    // The second is not recorded: nobody could follow a link there.
    let batch = vec![new(1, traces[0].sampled(true)), new(2, traces[1].sampled(false))];
    let ids: Vec<_> = batch.iter().map(|new| new.spec.id).collect();
    assert!(store.admit(batch).await.iter().all(Result::is_ok));
    let session = place.session(1).await;
    store.claim(claim(session, &ids)).await.unwrap();
    store.finish(session, ids.iter().map(|id| success(*id)).collect()).await.unwrap();
    let spans = kept.0.lock().unwrap().clone();
    let seen: Vec<_> = spans
        .iter()
        .map(|span| (attribute(span, "callboard.store.call"), &*span.name, span.kind, span.parent))
        .collect();
    let of = |call: &'static str, name| (Some(Value::from(call)), name, Kind::Client, None);
    assert_eq!(
        seen,
        [of("admit", "INSERT tasks"), of("claim", "UPDATE tasks"), of("report", "UPDATE tasks")]
    );
    for span in &spans {
        assert_eq!(attribute(span, "db.system.name"), Some("postgresql".into()));
        assert_eq!(attribute(span, "db.collection.name"), Some("tasks".into()));
        assert_eq!(attribute(span, "db.operation.batch.size"), Some(2_u64.into()));
        assert_eq!(span.error, None);
    }
    let links = |span: &SpanData| span.links.iter().map(|link| link.trace_id()).collect::<Vec<_>>();
    assert_eq!((links(&spans[0]), links(&spans[1])), (vec![1], vec![1]));
}
