//! What a call carries beside its message, and how it is passed on from the call that caused it.
//!
//! The request id and the caller's name travel in the message (`CallContext`), and so does the attempt that calls
//! (`Fence`) where the message has a place for it; the W3C trace context travels in the metadata. While a call of
//! the mesh is served, [`current`] is its context, so that the calls it makes in turn carry the same, through the
//! mailboxes of actors too. Other places where work begins (the public API, an attempt of a task) set one with
//! [`Context::scope`].

use callboard_contracts::mesh::v1;
use callboard_domain::TraceContext;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::metadata::{MetadataMap, MetadataValue};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// The longest values passed on, in bytes: a traceparent has 55, a tracestate at most 512.
const TRACEPARENT_BYTES: usize = 128;
const TRACESTATE_BYTES: usize = 512;

/// What calls pass on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The id of the request that caused the call; empty if none is known.
    pub request_id: String,
    /// The W3C traceparent.
    pub traceparent: Option<String>,
    /// The W3C tracestate.
    pub tracestate: Option<String>,
    /// The attempt that calls, if one does.
    pub fence: Option<v1::Fence>,
    /// The namespace of the caller, whose limits and budgets its calls go by; empty if there is none. Never read from
    /// metadata: whoever calls from outside does not choose it.
    pub namespace: String,
    /// The kind of the task that calls; empty for a direct call.
    pub kind: String,
    /// How many attempts of that task failed by themselves before this one.
    pub failures: u32,
}

tokio::task_local! {
    static CURRENT: Context;
}

/// The context of the call that is being served; an empty one outside of any.
#[must_use]
pub fn current() -> Context {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

impl Context {
    /// The trace context in the metadata of a call. Values that are too long are left out.
    #[must_use]
    pub fn from_metadata(metadata: &MetadataMap) -> Self {
        Self::from_headers(metadata.as_ref())
    }

    /// The trace context in the headers of a request. Values that are too long are left out.
    #[must_use]
    pub fn from_headers(headers: &http::HeaderMap) -> Self {
        let read = |key: &str, limit| {
            let text = headers.get(key)?.to_str().ok()?;
            (text.len() <= limit).then(|| text.to_owned())
        };
        Self {
            traceparent: read(TRACEPARENT, TRACEPARENT_BYTES),
            tracestate: read(TRACESTATE, TRACESTATE_BYTES),
            ..Self::default()
        }
    }

    /// The same with what a message says of its caller, if it does.
    #[must_use]
    pub fn with_call(mut self, call: Option<&v1::CallContext>) -> Self {
        if let Some(call) = call {
            self.request_id.clone_from(&call.request_id);
            self.namespace.clone_from(&call.namespace);
            self.kind.clone_from(&call.kind);
            self.failures = call.failures;
        }
        self
    }

    /// Its place in a trace; none if it has none, or nonsense.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.traceparent.as_deref()?.parse().ok()
    }

    /// The same at another place of a trace.
    #[must_use]
    pub fn at(self, place: TraceContext) -> Self {
        Self { traceparent: Some(place.to_string()), ..self }
    }

    /// Runs work as part of a call with this context.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    fn write(&self, metadata: &mut MetadataMap) {
        let parts = [(TRACEPARENT, &self.traceparent), (TRACESTATE, &self.tracestate)];
        for (key, value) in parts {
            // What is no header value was not a trace context either.
            if let Some(value) = value.as_ref().and_then(|v| MetadataValue::try_from(v.as_str()).ok()) {
                metadata.insert(key, value);
            }
        }
    }
}

/// Who makes the calls of a client.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    name: Arc<str>,
    count: Arc<AtomicU64>,
}

impl Caller {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), count: Arc::default() }
    }

    /// A call's metadata and message get what every call carries. What the caller has set stays.
    pub(super) fn sign<M: Contextual>(&self, request: &mut tonic::Request<M>) {
        let current = current();
        current.write(request.metadata_mut());
        let message = request.get_mut();
        if let (Some(place @ None), Some(fence)) = (message.fence_mut(), current.fence) {
            *place = Some(fence);
        }
        let call = message.context_mut().get_or_insert_default();
        if call.caller.is_empty() {
            call.caller = self.name.as_ref().into();
        }
        if call.namespace.is_empty() {
            call.namespace = current.namespace;
        }
        if call.kind.is_empty() {
            call.kind = current.kind;
            call.failures = current.failures;
        }
        if call.request_id.is_empty() {
            call.request_id = if current.request_id.is_empty() {
                format!("{}-{}", self.name, self.count.fetch_add(1, Ordering::Relaxed))
            } else {
                current.request_id
            };
        }
    }
}

/// A message that names its caller.
pub(super) trait Contextual {
    fn context(&self) -> Option<&v1::CallContext>;
    fn context_mut(&mut self) -> &mut Option<v1::CallContext>;

    /// The attempt it speaks for.
    fn fence(&self) -> Option<&v1::Fence> {
        None
    }

    /// Where the attempt it speaks for is named, if it can speak for one.
    fn fence_mut(&mut self) -> Option<&mut Option<v1::Fence>> {
        None
    }
}

macro_rules! contextual {
    ($($message:ident $($fence:ident)?),* $(,)?) => {$(
        impl Contextual for v1::$message {
            $(
                fn fence(&self) -> Option<&v1::Fence> {
                    self.$fence.as_ref()
                }

                fn fence_mut(&mut self) -> Option<&mut Option<v1::Fence>> {
                    Some(&mut self.$fence)
                }
            )?

            fn context(&self) -> Option<&v1::CallContext> {
                self.context.as_ref()
            }

            fn context_mut(&mut self) -> &mut Option<v1::CallContext> {
                &mut self.context
            }
        }
    )*};
}

contextual! {
    CancelTasksRequest, DrainRequest, GetLoadRequest,
    GetStatusRequest, DrainNodeRequest, SetLogFilterRequest, WatchEventsRequest,
    ReportRequest,
    AdministerRequest, TellRecordsRequest,
    ListExperimentsRequest, ScoreAnswerRequest,
    GenerateRequest fence, GenerateStreamRequest fence, GenerateImageRequest fence, EmbedRequest fence,
    ListProvidersRequest, GetCacheStatisticsRequest,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn a_call_carries_the_context_of_the_call_that_caused_it() {
        let mut incoming = MetadataMap::new();
        incoming.insert(TRACEPARENT, PARENT.parse().unwrap());
        incoming.insert(TRACESTATE, "a=b".parse().unwrap());
        let cause = v1::CallContext {
            request_id: "r1".into(),
            caller: "a".into(),
            namespace: "lab".into(),
            kind: "text.generate".into(),
            failures: 2,
        };
        let context = Context::from_metadata(&incoming).with_call(Some(&cause));
        let made = context.scope(async {
            let mut request = tonic::Request::new(v1::GetLoadRequest::default());
            Caller::new("b").sign(&mut request);
            request
        });
        let made = made.await;
        assert_eq!(made.metadata().get(TRACEPARENT).unwrap(), PARENT);
        assert_eq!(made.metadata().get(TRACESTATE).unwrap(), "a=b");
        let expected = v1::CallContext { caller: "b".into(), ..cause };
        assert_eq!(made.get_ref().context, Some(expected));
    }

    #[test]
    fn without_a_cause_a_call_gets_an_id_of_its_own_and_what_is_set_stays() {
        let caller = Caller::new("b");
        let mut ids = Vec::new();
        for _ in 0..2 {
            let mut request = tonic::Request::new(v1::GetLoadRequest::default());
            caller.sign(&mut request);
            assert!(request.metadata().is_empty());
            ids.push(request.into_inner().context.unwrap().request_id);
        }
        assert_eq!(ids, ["b-0", "b-1"]);
        let set = v1::CallContext { request_id: "mine".into(), caller: "c".into(), ..Default::default() };
        let mut request = tonic::Request::new(v1::GetLoadRequest { context: Some(set.clone()) });
        caller.sign(&mut request);
        assert_eq!(request.get_ref().context, Some(set));
    }

    #[tokio::test]
    async fn a_call_that_an_attempt_makes_names_it() {
        let fence = |attempt| v1::Fence { session_id: "s".into(), task_id: "t".into(), attempt };
        let context = Context { fence: Some(fence(2)), ..Context::default() };
        let sign = async |set: Option<v1::Fence>| {
            let mut request = tonic::Request::new(v1::GenerateRequest { fence: set, ..Default::default() });
            Caller::new("b").sign(&mut request);
            request.into_inner().fence
        };
        assert_eq!(sign(None).await, None, "a direct call speaks for no attempt");
        assert_eq!(context.clone().scope(sign(None)).await, Some(fence(2)));
        assert_eq!(context.scope(sign(Some(fence(7)))).await, Some(fence(7)), "what is set stays");
    }

    #[test]
    fn what_is_too_long_is_not_passed_on() {
        let mut incoming = MetadataMap::new();
        incoming.insert(TRACEPARENT, "0".repeat(129).parse().unwrap());
        incoming.insert(TRACESTATE, "0".repeat(513).parse().unwrap());
        assert_eq!(Context::from_metadata(&incoming), Context::default());
    }
}
