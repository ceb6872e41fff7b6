//! The place in the log from where lines are sent to a collector, once it is known which: a node learns that when it
//! starts, and logs before.

use super::ids::Ids;
use callboard_backends::logs::otlp::{self, Otlp};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use std::sync::{Mutex, PoisonError};
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, reload};

/// What is said of a line beside what it says.
pub(crate) fn current() -> otlp::Ids {
    let ids = Ids::current();
    otlp::Ids { trace: ids.trace(), attributes: ids.attributes() }
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

type Set = Box<dyn Fn(Option<&Otlp>) + Send + Sync>;

/// Fills and empties the place.
pub(super) struct Slot {
    set: Set,
    filled: Mutex<Option<Otlp>>,
}

/// The place, empty.
pub(super) fn layer<S>() -> (reload::Layer<Option<Boxed<S>>, S>, Slot)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (layer, handle) = reload::Layer::new(None);
    let set = move |to: Option<&Otlp>| {
        let bridge = |to: &Otlp| Box::new(OpenTelemetryTracingBridge::new(to.provider())) as Boxed<S>;
        // It fails where there is no log any more.
        let _ = handle.reload(to.map(bridge));
    };
    (layer, Slot { set: Box::new(set), filled: Mutex::default() })
}

impl Slot {
    /// Lines go there from now on.
    pub(super) fn fill(&self, to: Otlp) {
        (self.set)(Some(&to));
        *self.filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }

    /// Lines go nowhere from now on; the last ones may still leave.
    pub(super) fn empty(&self) {
        let filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(to) = filled {
            // First, so that what is said while it closes does not go to what is closed.
            (self.set)(None);
            to.close();
        }
    }
}
