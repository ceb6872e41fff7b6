//! Spans: what was done, when, and what caused it.
//!
//! A [`Span`] is begun by a [`Tracer`], told what is worth knowing, and goes to an [`Exporter`] when it ends. A
//! tracer without an exporter makes ids alone, so that a trace goes on through a node that records nothing.
//!
//! Names and attributes follow OpenTelemetry's semantic conventions.

use callboard_domain::TraceContext;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a span is to those beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work inside of one service.
    Internal,
    /// A request that is served.
    Server,
    /// A request that is made.
    Client,
    /// A message that is made or sent.
    Producer,
    /// A message that is processed.
    Consumer,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Int(i64),
    /// A truth.
    Bool(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanData {
    /// What was done, from few words: never an id.
    pub name: Cow<'static, str>,
    /// What it is to those beside it.
    pub kind: Kind,
    /// Its place in its trace.
    pub context: TraceContext,
    /// The id of the span that caused it; none for the first of its trace.
    pub parent: Option<u64>,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What is worth knowing.
    pub attributes: Vec<(&'static str, Value)>,
    /// What else it has to do with.
    pub links: Vec<TraceContext>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Takes spans away.
pub trait Exporter: Send + Sync + 'static {
    /// Takes one. It never waits: what it cannot hold is dropped and counted.
    fn export(&self, span: SpanData);
}

/// Which spans are exported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The share of the traces that begin here, 0.0 to 1.0. Others are as their cause says.
    pub ratio: f64,
    /// What took so long, or failed, is exported though its trace is not sampled.
    pub slow: Duration,
}

struct Recording {
    exporter: Arc<dyn Exporter>,
    sampling: Sampling,
}

/// Random numbers for ids.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Begins spans.
#[derive(Clone)]
pub struct Tracer {
    random: Random,
    recording: Option<Arc<Recording>>,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sampling = self.recording.as_ref().map(|recording| recording.sampling);
        f.debug_struct("Tracer").field("sampling", &sampling).finish_non_exhaustive()
    }
}

impl Default for Tracer {
    /// Records nothing. Its random numbers are those of the hash maps of the standard library.
    fn default() -> Self {
        use std::hash::{BuildHasher as _, Hasher as _, RandomState};
        Self::off(Arc::new(|| RandomState::new().build_hasher().finish()))
    }
}

impl Tracer {
    /// Makes ids and records nothing.
    #[must_use]
    pub fn off(random: Random) -> Self {
        Self { random, recording: None }
    }

    /// Records.
    #[must_use]
    pub fn new(random: Random, exporter: Arc<dyn Exporter>, sampling: Sampling) -> Self {
        Self { random, recording: Some(Arc::new(Recording { exporter, sampling })) }
    }

    /// Whether anybody may ever see its spans.
    #[must_use]
    pub const fn records(&self) -> bool {
        self.recording.is_some()
    }

    /// Begins a span now: in the trace of what caused it, or in one of its own. Without an exporter, what it causes
    /// is caused by its own cause: a span that nobody ever sees is no parent.
    #[must_use]
    pub fn start<N: Into<Cow<'static, str>>>(
        &self,
        name: impl FnOnce() -> N,
        kind: Kind,
        cause: Option<TraceContext>,
    ) -> Span {
        let context = match cause {
            Some(cause) if self.recording.is_some() => cause.child((self.random)()),
            Some(cause) => cause,
            None => self.root(),
        };
        let open = self.recording.as_ref().map(|recording| {
            let now = SystemTime::now();
            Box::new(Open {
                data: SpanData {
                    name: name().into(),
                    kind,
                    context,
                    parent: cause.map(TraceContext::span_id),
                    began: now,
                    ended: now,
                    attributes: Vec::new(),
                    links: Vec::new(),
                    error: None,
                },
                recording: Arc::clone(recording),
            })
        });
        Span { context, open }
    }

    /// The first place of a new trace, for what needs no span.
    #[must_use]
    pub fn root(&self) -> TraceContext {
        let [high, low, span] = [(); 3].map(|()| (self.random)());
        let root = TraceContext::root(u128::from(high) << 64 | u128::from(low), span);
        // As the standard's sampler: the id decides, so that every node of a trace decides alike.
        let is_in = |sampling: Sampling| {
            (root.trace_id() as u64 >> 1) as f64 <= sampling.ratio * (u64::MAX >> 1) as f64
        };
        let ratio = self.recording.as_ref().map(|recording| recording.sampling);
        root.sampled(ratio.is_none_or(|sampling| sampling.ratio > 0.0 && is_in(sampling)))
    }
}

struct Open {
    data: SpanData,
    recording: Arc<Recording>,
}

/// Something that is being done. It ends when it is dropped.
pub struct Span {
    context: TraceContext,
    open: Option<Box<Open>>,
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Span").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Span {
    /// Its place in its trace: what it causes names it as its cause.
    #[must_use]
    pub const fn context(&self) -> TraceContext {
        self.context
    }

    /// Whether anybody may ever see it.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// Says something about it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.open {
            open.data.attributes.push((key, value.into()));
        }
    }

    /// Says what takes work to say: `value` is called only if it is recorded.
    pub fn set_with<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if self.is_recorded() {
            self.set(key, value());
        }
    }

    /// It has to do with something of another trace, or of this one.
    pub fn link(&mut self, other: TraceContext) {
        if let Some(open) = &mut self.open {
            open.data.links.push(other);
        }
    }

    /// It began earlier than it was known.
    pub fn began(&mut self, at: SystemTime) {
        if let Some(open) = &mut self.open {
            open.data.began = at;
        }
    }

    /// It failed.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        if let Some(open) = &mut self.open {
            open.data.error = Some(why());
        }
    }

    /// Ends it now.
    pub fn end(self) {}
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open { mut data, recording } = *open;
        data.ended = SystemTime::now();
        let took = data.ended.duration_since(data.began).unwrap_or_default();
        if data.context.is_sampled() || data.error.is_some() || took >= recording.sampling.slow {
            recording.exporter.export(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Kept(Mutex<Vec<SpanData>>);

    impl Exporter for Kept {
        fn export(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }
    }

    impl Kept {
        fn names(&self) -> Vec<String> {
            self.0.lock().unwrap().iter().map(|span| span.name.to_string()).collect()
        }
    }

    fn counting() -> Random {
        let next = AtomicU64::new(1);
        Arc::new(move || next.fetch_add(1, Ordering::Relaxed))
    }

    fn tracer(ratio: f64) -> (Tracer, Arc<Kept>) {
        let kept = Arc::<Kept>::default();
        let sampling = Sampling { ratio, slow: Duration::from_secs(10) };
        (Tracer::new(counting(), kept.clone(), sampling), kept)
    }

    #[test]
    fn a_span_names_its_cause_and_ends_when_it_is_dropped() {
        let (tracer, kept) = tracer(1.0);
        let parent = tracer.start(|| "parent", Kind::Server, None);
        let mut child = tracer.start(|| "child", Kind::Client, Some(parent.context()));
        child.set("key", 7u32);
        child.link(parent.context());
        assert!(kept.names().is_empty());
        child.end();
        let context = parent.context();
        drop(parent);
        let spans = kept.0.lock().unwrap();
        assert_eq!(spans[0].parent, Some(context.span_id()));
        assert_eq!(spans[0].context.trace_id(), context.trace_id());
        assert_eq!(spans[0].attributes, [("key", Value::Int(7))]);
        assert_eq!(spans[0].links, [context]);
        assert_eq!((spans[1].parent, spans[1].context), (None, context));
        assert!(spans[1].ended >= spans[0].ended);
    }

    #[test]
    fn what_fails_or_takes_long_is_kept_though_its_trace_is_not() {
        let (tracer, kept) = tracer(0.0);
        let cause = tracer.start(|| "fine", Kind::Server, None).context();
        assert!(!cause.is_sampled());
        tracer.start(|| "failed", Kind::Internal, Some(cause)).fail(|| "why".into());
        let mut slow = tracer.start(|| "slow", Kind::Internal, Some(cause));
        slow.began(SystemTime::now() - Duration::from_secs(11));
        drop(slow);
        assert_eq!(kept.names(), ["failed", "slow"]);
        // What its cause recorded is recorded here too.
        drop(tracer.start(|| "asked for", Kind::Internal, Some(cause.sampled(true))));
        assert_eq!(kept.names().len(), 3);
    }

    #[test]
    fn the_share_of_new_traces_is_as_asked() {
        let kept = Arc::<Kept>::default();
        let next = AtomicU64::new(1);
        // Odd steps through all of the numbers: evenly spread.
        let random: Random = Arc::new(move || next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed));
        let sampling = Sampling { ratio: 0.1, slow: Duration::from_secs(10) };
        let tracer = Tracer::new(random, kept.clone(), sampling);
        (0..10_000).for_each(|_| drop(tracer.start(|| "one", Kind::Internal, None)));
        assert!((900..1_100).contains(&kept.names().len()), "{}", kept.names().len());
    }

    #[test]
    fn a_trace_goes_on_where_nothing_is_recorded() {
        let tracer = Tracer::off(counting());
        let root = tracer.start(|| "root", Kind::Server, None).context();
        assert!(root.is_sampled());
        let child = tracer.start(|| "child", Kind::Internal, Some(root));
        assert_eq!(child.context(), root);
    }
}
