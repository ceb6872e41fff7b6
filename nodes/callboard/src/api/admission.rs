//! From a request to a task: every check, before anything is stored.

use super::catalog::Catalog;
use super::cause::Cause;
use super::{Deps, errors};
use bytes::Bytes;
use callboard_contracts::v1::SubmitTaskRequest;
use callboard_domain::convert::{duration_from_proto, time_from_proto};
use callboard_domain::task::Spec;
use callboard_domain::{Code, Error, NewTask, Priority, TaskId, Timestamp, Violation, limits};
use callboard_ports::store::{self, Admitted};
use callboard_ports::trace::{Kind, Span, Tracer};
use callboard_ports::{Clock, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// How stale the count of waiting tasks may be.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Admits tasks.
pub struct Admission {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    new_task_id: Arc<dyn Fn() -> TaskId + Send + Sync>,
    tracer: Tracer,
    catalog: Catalog,
    namespace: Arc<str>,
    waiting: Arc<Waiting>,
    limit: u64,
    tracker: TaskTracker,
}

/// How many tasks wait, read at most once a [`COUNT_EVERY`] and only while tasks are submitted.
#[derive(Default)]
struct Waiting {
    count: AtomicU64,
    counted_at: AtomicU64,
    counting: AtomicBool,
}

impl Admission {
    pub(super) fn new(deps: &Deps, catalog: Catalog) -> Self {
        Self {
            store: Arc::clone(&deps.store),
            clock: Arc::clone(&deps.clock),
            new_task_id: Arc::clone(&deps.new_task_id),
            tracer: deps.tracer.clone(),
            catalog,
            namespace: "default".into(),
            waiting: Arc::default(),
            limit: deps.waiting_tasks,
            tracker: deps.tracker.clone(),
        }
    }

    /// Checks and stores tasks: an outcome per request, in order. A request that names what caused it is caused by
    /// that.
    pub(super) async fn admit(
        &self,
        requests: Vec<SubmitTaskRequest>,
        cause: Cause,
    ) -> Vec<Result<Admitted, Error>> {
        if let Err(error) = self.check_room() {
            return requests.iter().map(|_| Err(error.clone())).collect();
        }
        let mut outcomes = Vec::with_capacity(requests.len());
        let (mut good, mut spans) = (Vec::with_capacity(requests.len()), Vec::with_capacity(requests.len()));
        for request in requests {
            match self.check(request, cause).await {
                Ok((task, span)) => {
                    good.push(task);
                    spans.push(span);
                    outcomes.push(None);
                }
                Err(error) => outcomes.push(Some(Err(error))),
            }
        }
        let mut stored = self.store.admit(good).await.into_iter().zip(spans);
        let unanswered = || Err(Error::new(Code::Internal, "the store gave no outcome"));
        outcomes
            .into_iter()
            .map(|refused| refused.unwrap_or_else(|| stored.next().map_or_else(unanswered, admitted)))
            .collect()
    }

    /// Admits a task that was made from another: its input was checked then.
    pub(super) async fn admit_again(
        &self,
        old: &Spec,
        input: Bytes,
        request_id: Option<Arc<str>>,
        cause: Cause,
    ) -> Result<Admitted, Error> {
        self.check_room()?;
        let mut spec = Spec {
            id: (self.new_task_id)(),
            created_at: self.clock.now(),
            request_id,
            traceparent: None,
            retry_of: Some(old.id),
            ..old.clone()
        };
        let span = self.begin(&mut spec, cause);
        let stored = self.store.admit(vec![NewTask { spec, run_at: None, input }]).await.pop();
        let unanswered = || Err(store::Error::Unavailable("no outcome".into()));
        admitted((stored.unwrap_or_else(unanswered), span))
    }

    /// Checks all of a request, so that every wrong field is named at once.
    async fn check(&self, request: SubmitTaskRequest, cause: Cause) -> Result<(NewTask, Span), Error> {
        let kind = self.catalog.get(&request.kind).await.map_err(errors::of_store)?;
        let now = self.clock.now();
        let mut wrong = Vec::new();
        let fields = Fields::read(&request, now, &mut wrong);
        // As the standard asks, one that is malformed is ignored.
        let cause = match request.traceparent.parse() {
            Ok(named) => Cause { parent: Some(named), link: None },
            Err(_) => cause,
        };
        let input = if request.input.is_empty() { Bytes::from_static(b"{}") } else { request.input };
        let too_large = input.len() > limits::INPUT_BYTES;
        if too_large {
            let description = format!(
                "must be at most {} bytes, has {}: store large data elsewhere and pass a reference",
                limits::INPUT_BYTES,
                input.len()
            );
            wrong.push(Violation { field: "input".into(), description });
        } else if let Some(kind) = &kind
            && let Err(violations) = kind.validator.check(&input)
        {
            wrong.extend(violations);
        }
        let Some(kind) = kind else { return Err(self.unknown_kind(&request.kind, wrong)) };
        if !wrong.is_empty() {
            let code = if too_large { Code::InputTooLarge } else { Code::InvalidArgument };
            return Err(Error { code, ..Error::invalid(wrong) });
        }
        let mut spec = Spec {
            id: (self.new_task_id)(),
            namespace: Arc::clone(&self.namespace),
            kind: Arc::clone(&kind.name),
            queue: fields.queue.unwrap_or_else(|| Arc::clone(&kind.queue)),
            priority: fields.priority,
            max_attempts: fields.max_attempts.unwrap_or(kind.spec.max_attempts),
            timeout: fields.timeout.unwrap_or(kind.spec.timeout),
            created_at: now,
            request_id: fields.request_id,
            traceparent: None,
            retry_of: None,
        };
        let span = self.begin(&mut spec, cause);
        Ok((NewTask { spec, run_at: fields.run_at, input }, span))
    }

    /// Begins the span of a task: a message that is made for its queue. What becomes of the task is caused by it.
    fn begin(&self, spec: &mut Spec, cause: Cause) -> Span {
        let mut span = self.tracer.start(|| format!("create {}", spec.queue), Kind::Producer, cause.parent);
        span.set("messaging.system", "callboard");
        span.set("messaging.operation.name", "create");
        span.set("messaging.operation.type", "create");
        span.set_with("messaging.destination.name", || spec.queue.to_string());
        span.set_with("messaging.message.id", || spec.id.to_string());
        span.set_with("callboard.task.kind", || spec.kind.to_string());
        cause.link.into_iter().for_each(|link| span.link(link));
        spec.traceparent = Some(span.context().to_string().into());
        span
    }

    fn unknown_kind(&self, kind: &str, mut wrong: Vec<Violation>) -> Error {
        let names = self.catalog.names().join(", ");
        let kind: String = kind.chars().take(limits::NAME_CHARS).collect();
        let description = format!("no node hosts the kind `{kind}`; there are: {names}");
        wrong.insert(0, Violation { field: "kind".into(), description });
        Error { code: Code::UnknownKind, ..Error::invalid(wrong) }.with("kind", kind)
    }

    fn check_room(&self) -> Result<(), Error> {
        let waiting = &self.waiting;
        let now = u64::try_from(self.clock.now().micros()).unwrap_or(0);
        let stale = now.abs_diff(waiting.counted_at.load(Ordering::Relaxed)) > COUNT_EVERY.as_micros() as u64;
        if stale && !waiting.counting.swap(true, Ordering::SeqCst) {
            let (store, waiting) = (Arc::clone(&self.store), Arc::clone(waiting));
            self.tracker.spawn(async move {
                if let Ok([scheduled, queued, ..]) = store.counts().await {
                    waiting.count.store(scheduled + queued, Ordering::Relaxed);
                }
                waiting.counted_at.store(now, Ordering::Relaxed);
                waiting.counting.store(false, Ordering::SeqCst);
            });
        }
        let count = waiting.count.load(Ordering::Relaxed);
        if count < self.limit {
            return Ok(());
        }
        let message = format!("{count} tasks wait, {} may: try again when some have run", self.limit);
        Err(Error::new(Code::Overloaded, message)
            .with("limit", self.limit.to_string())
            .retry_after(COUNT_EVERY))
    }
}

/// What the store answered, as the caller and the task's span are told it.
fn admitted((stored, mut span): (Result<Admitted, store::Error>, Span)) -> Result<Admitted, Error> {
    match &stored {
        Ok(admitted) if admitted.existed => span.set("callboard.task.existed", true),
        Ok(admitted) => tracing::debug!(task.id = %admitted.task.spec.id, "a task is admitted"),
        Err(error) => span.fail(|| error.to_string()),
    }
    stored.map_err(errors::of_store)
}

/// The fields of a request beside kind and input, checked. Those that are `None` have the kind's default.
struct Fields {
    priority: Priority,
    queue: Option<Arc<str>>,
    run_at: Option<Timestamp>,
    timeout: Option<Duration>,
    max_attempts: Option<u32>,
    request_id: Option<Arc<str>>,
}

impl Fields {
    fn read(request: &SubmitTaskRequest, now: Timestamp, wrong: &mut Vec<Violation>) -> Self {
        let mut bad =
            |field: &str, description: String| wrong.push(Violation { field: field.into(), description });
        let priority = request.priority.map(|p| Priority::new(p).ok_or(p));
        if let Some(Err(p)) = priority {
            bad("priority", format!("must be 0 to {}, not {p}", limits::PRIORITY_MAX));
        }
        if !is_name(&request.queue) {
            bad("queue", "must be 1 to 64 of a-z, 0-9, '.', '_' and '-'".into());
        }
        let timeout = request.timeout.as_ref().map(|t| duration_from_proto(t).unwrap_or_default());
        if timeout.is_some_and(|t| t.is_zero() || t > limits::TIMEOUT) {
            bad("timeout", "must be over zero and at most 24h".into());
        }
        if let Some(attempts) = request.max_attempts.filter(|n| !(1..=limits::ATTEMPTS).contains(n)) {
            bad("max_attempts", format!("must be 1 to {}, not {attempts}", limits::ATTEMPTS));
        }
        let run_at = run_at(request, now, &mut bad);
        wrong.extend(request_id_violation(&request.request_id));
        let text = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        Self {
            priority: priority.and_then(Result::ok).unwrap_or(Priority::DEFAULT),
            queue: text(&request.queue),
            run_at,
            timeout,
            max_attempts: request.max_attempts,
            request_id: text(&request.request_id),
        }
    }
}

fn run_at(
    request: &SubmitTaskRequest,
    now: Timestamp,
    bad: &mut impl FnMut(&str, String),
) -> Option<Timestamp> {
    let latest = now.after(limits::DELAY);
    match (&request.run_at, &request.delay) {
        (Some(_), Some(_)) => bad("delay", "must not be given beside run_at".into()),
        (Some(at), None) => {
            let at = time_from_proto(at);
            if at <= latest {
                return Some(at);
            }
            bad("run_at", "must be at most 366 days away".into());
        }
        (None, Some(delay)) => match duration_from_proto(delay) {
            Some(delay) if delay <= limits::DELAY => return Some(now.after(delay)),
            _ => bad("delay", "must be zero to 366 days".into()),
        },
        (None, None) => {}
    }
    None
}

/// What is wrong with a caller's idempotency key, if anything is.
pub(super) fn request_id_violation(text: &str) -> Option<Violation> {
    let good =
        text.len() <= limits::REQUEST_ID_CHARS && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let description = || format!("must be at most {} printable ASCII characters", limits::REQUEST_ID_CHARS);
    (!good).then(|| Violation { field: "request_id".into(), description: description() })
}

/// Whether a queue may be named so, or is not named.
fn is_name(text: &str) -> bool {
    text.len() <= limits::NAME_CHARS
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}
