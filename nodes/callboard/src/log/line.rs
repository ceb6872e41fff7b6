//! The form of a line, with the ids of what is being done.

use super::ids::{Id, Ids};
use std::fmt::{Result, Write as _};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// For a person: the time, the level, what is said, the ids.
pub(super) struct TextLine;

/// For a program: one JSON object, with the ids beside the fields.
pub(super) struct JsonLine(pub(super) Format<Json>);

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> Result {
        let (dim, plain) = if to.has_ansi_escapes() { (DIM, PLAIN) } else { ("", "") };
        write!(to, "{dim}")?;
        // A clock that cannot be told is no reason to lose a line.
        if SystemTime.format_time(&mut to).is_err() {
            to.write_str("-")?;
        }
        let level = *event.metadata().level();
        let color = if to.has_ansi_escapes() { color(level) } else { "" };
        write!(to, "{plain} {color}{level:>5}{plain} ")?;
        context.format_fields(to.by_ref(), event)?;
        for (name, id) in Ids::current().beside(event.metadata()) {
            write!(to, " {dim}{name}={id}{plain}")?;
        }
        writeln!(to)
    }
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        to.write_str(&with(&line, &Ids::current().beside(event.metadata())))
    }
}

/// One JSON object on a line, with more in it.
fn with(line: &str, ids: &[(&'static str, Id<'_>)]) -> String {
    let Some(open) = line.trim_end().strip_suffix('}') else { return line.to_owned() };
    let mut whole = open.to_owned();
    for (name, id) in ids {
        // Writing to a string cannot fail.
        let _ = match id {
            Id::Number(number) => write!(whole, ",\"{name}\":{number}"),
            // A caller names its request as it likes.
            text => write!(whole, ",\"{name}\":{}", serde_json::Value::String(text.to_string())),
        };
    }
    whole.push_str("}\n");
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_contracts::mesh::v1::Fence;
    use callboard_runtime::mesh::Context;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::fmt::{self, MakeWriter};
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Page {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn attempt() -> Context {
        Context {
            request_id: "01a2/3".into(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            tracestate: None,
            fence: Some(Fence { session_id: "s".into(), task_id: "01a2".into(), attempt: 3 }),
            namespace: String::new(),
        }
    }

    fn json(said: &Page) -> Vec<serde_json::Value> {
        let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_json_line_has_the_ids_beside_its_fields() {
        let page = Page::default();
        let form = JsonLine(Format::default().json().flatten_event(true).with_target(false));
        let layer = fmt::layer().fmt_fields(JsonFields::new()).event_format(form).with_writer(page.clone());
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        tracing::info!(rows = 2, "outside");
        attempt().scope(async { tracing::warn!(error = "a \"b\"", "inside") }).await;
        attempt().scope(async { tracing::warn!(task.id = "another", "of another") }).await;
        let request = Context { request_id: "r\"1".into(), ..Context::default() };
        request.scope(async { tracing::info!("of a request") }).await;
        let lines = json(&page);
        assert_eq!((&lines[0]["message"], &lines[0]["rows"]), (&"outside".into(), &2.into()));
        assert!(lines[0].get("trace_id").is_none() && lines[0].get("request.id").is_none());
        let inside = &lines[1];
        assert_eq!((&inside["level"], &inside["error"]), (&"WARN".into(), &"a \"b\"".into()));
        assert_eq!((&inside["task.id"], &inside["attempt"]), (&"01a2".into(), &3.into()));
        assert_eq!(inside["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(inside["span_id"], "b7ad6b7169203331");
        assert_eq!(lines[2]["task.id"], "another");
        assert_eq!(lines[3]["request.id"], "r\"1");
    }

    #[tokio::test]
    async fn a_text_line_ends_with_the_ids() {
        let page = Page::default();
        let layer = fmt::layer().event_format(TextLine).with_ansi(false).with_writer(page.clone());
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        attempt().scope(async { tracing::info!(rows = 2, "inside") }).await;
        tracing::error!("outside");
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(
            lines,
            [
                " INFO inside rows=2 task.id=01a2 attempt=3 trace_id=0af7651916cd43dd8448eb211c80319c \
                 span_id=b7ad6b7169203331",
                "ERROR outside"
            ]
        );
    }
}
