//! A trace as Jaeger answers it.

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One trace.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trace {
    /// As 32 hexadecimal digits.
    pub(super) id: String,
    /// In the order of their beginnings.
    pub(super) spans: Vec<Span>,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    /// As 16 hexadecimal digits.
    pub(super) id: String,
    /// The span that caused it. None for the first.
    pub(super) parent: Option<String>,
    /// The traces it is linked to.
    pub(super) links: Vec<String>,
    /// What was done.
    pub(super) name: String,
    /// `SERVER`, `PRODUCER`, ..
    pub(super) kind: String,
    /// When it began, in microseconds since 1970.
    pub(super) began: u64,
    /// How long it took, in microseconds.
    pub(super) took: u64,
    /// Whether it failed.
    pub(super) failed: bool,
    /// What it says of itself.
    pub(super) attributes: BTreeMap<String, String>,
    /// What its process says of itself, `service.name` among it.
    pub(super) process: BTreeMap<String, String>,
}

impl Span {
    /// What an attribute says; empty if it is not there.
    pub(super) fn get(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }

    /// The replica that did it.
    pub(super) fn replica(&self) -> &str {
        self.process.get("service.instance.id").map_or("", String::as_str)
    }

    /// What it is and what was done.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// The traces in an answer of `/api/traces`.
///
/// # Errors
/// It is no such answer.
pub(super) fn read(answer: &str) -> Result<Vec<Trace>> {
    let answer: Value = serde_json::from_str(answer).context("Jaeger's answer is no JSON")?;
    let traces = answer["data"].as_array().context("Jaeger's answer has no data")?;
    traces.iter().map(trace).collect()
}

fn trace(value: &Value) -> Result<Trace> {
    let spans = value["spans"].as_array().context("a trace has no spans")?;
    let mut spans: Vec<Span> =
        spans.iter().map(|one| span(one, &value["processes"])).collect::<Result<_>>()?;
    spans.sort_by(|a, b| (a.began, &a.id).cmp(&(b.began, &b.id)));
    Ok(Trace { id: text(&value["traceID"])?, spans })
}

fn span(value: &Value, processes: &Value) -> Result<Span> {
    let trace = text(&value["traceID"])?;
    let references = value["references"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut parent = None;
    let mut links = Vec::new();
    for reference in references {
        // What OpenTelemetry calls a link is a reference that is no cause.
        if reference["refType"] == "CHILD_OF" && text(&reference["traceID"])? == trace {
            parent = Some(text(&reference["spanID"])?);
        } else {
            links.push(text(&reference["traceID"])?);
        }
    }
    let mut attributes = tags(&value["tags"]);
    let process = &processes[text(&value["processID"])?];
    let mut about = tags(&process["tags"]);
    about.insert("service.name".into(), text(&process["serviceName"])?);
    Ok(Span {
        id: text(&value["spanID"])?,
        parent,
        links,
        name: text(&value["operationName"])?,
        kind: attributes.remove("span.kind").unwrap_or_else(|| "internal".into()).to_uppercase(),
        began: value["startTime"].as_u64().context("a span has no beginning")?,
        took: value["duration"].as_u64().context("a span has no end")?,
        failed: attributes.remove("error").is_some_and(|error| error == "true"),
        attributes,
        process: about,
    })
}

fn tags(list: &Value) -> BTreeMap<String, String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(|tag| {
            let value = match &tag["value"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((tag["key"].as_str()?.to_owned(), value))
        })
        .collect()
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("Jaeger's answer has another form than is known")?.to_owned())
}

impl Trace {
    /// The spans without a cause.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(|span| span.parent.is_none())
    }

    /// The spans whose cause is not there.
    pub(super) fn orphans(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(|span| span.parent.is_some() && self.parent(span).is_none())
    }

    /// What caused a span, if it is there.
    pub(super) fn parent(&self, of: &Span) -> Option<&Span> {
        self.spans.iter().find(|span| of.parent.as_ref() == Some(&span.id))
    }

    /// The spans of a kind.
    pub(super) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.kind == kind)
    }

    /// The labels from the first span to one, that one first. What begins below a cause that is not there, begins
    /// with `?`.
    pub(super) fn way(&self, to: &Span) -> Vec<String> {
        let mut way = vec![to.label()];
        let mut at = to;
        // As many steps as there are spans: an answer that goes round must not go on for ever.
        for _ in &self.spans {
            match self.parent(at) {
                Some(parent) => at = parent,
                None if at.parent.is_some() => {
                    way.push("?".into());
                    break;
                }
                None => break,
            }
            way.push(at.label());
        }
        way
    }

    /// The tree for a person: a line a span, with its replica, its beginning and how long it took.
    pub(super) fn shown(&self) -> String {
        let from = self.spans.first().map_or(0, |span| span.began);
        let mut lines = Vec::new();
        self.roots().for_each(|root| self.branch(root, 0, &mut lines));
        for orphan in self.orphans() {
            lines.push(("?  (its cause was lost)".to_owned(), None));
            self.branch(orphan, 1, &mut lines);
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for (line, span) in lines {
            let Some(span) = span else {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{line}");
                continue;
            };
            let ms = |us: u64| us as f64 / 1_000.0;
            let at = ms(span.began.saturating_sub(from));
            let told = told(span);
            let line =
                format!("{line:<width$}  {:<2} {at:>8.1} {:>8.1} ms  {told}", span.replica(), ms(span.took));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    fn branch<'a>(&'a self, of: &'a Span, depth: usize, lines: &mut Vec<(String, Option<&'a Span>)>) {
        if depth > self.spans.len() {
            return;
        }
        lines.push((format!("{:<8}  {}{}", of.kind, "  ".repeat(depth), of.name), Some(of)));
        let caused = self.spans.iter().filter(|span| span.parent.as_ref() == Some(&of.id));
        caused.for_each(|span| self.branch(span, depth + 1, lines));
    }
}

/// What is worth telling of a span beside its name.
fn told(span: &Span) -> String {
    let mut told = Vec::new();
    for (name, attribute) in [
        ("attempt", "callboard.attempt"),
        ("", "callboard.outcome"),
        ("provider", "gen_ai.provider.name"),
        ("tokens", "gen_ai.usage.output_tokens"),
        ("error", "error.type"),
    ] {
        if let Some(value) = span.attributes.get(attribute) {
            told.push(format!("{name} {value}").trim().to_owned());
        }
    }
    if span.failed {
        told.insert(0, "FAILED".to_owned());
    }
    told.join(", ")
}
