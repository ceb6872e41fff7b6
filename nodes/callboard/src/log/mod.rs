//! What this process logs, in which form, and how that is changed while it runs.
//!
//! Invariants:
//! - A line that is written while a request or an attempt is served carries its ids, whoever writes it: they are those
//!   of [`callboard_runtime::mesh::current`], looked up when a line is written, so that a line that is not wanted costs
//!   nothing.
//! - A filter that is refused changes nothing.

mod export;
mod ids;
mod line;

use crate::config::{self, LogFormat};
use anyhow::Context as _;
use callboard_backends::logs::otlp::Otlp;
use export::Slot;
pub(crate) use export::current;
use line::{JsonLine, TextLine};
use std::io::IsTerminal as _;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, JsonFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The most characters of a filter.
const FILTER_CHARS: usize = 1_000;

/// What this process logs. All clones are one; the default one cannot be changed.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Inner>>);

struct Inner {
    handle: reload::Handle<EnvFilter, Registry>,
    slot: Slot,
    /// As it was given.
    filter: Mutex<String>,
}

/// Why what is logged is not changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The filter is none.
    #[error("{0}")]
    Filter(String),
    /// Something else decides it: a process that has nodes in it, but is not one.
    #[error("what this process logs is not the node's to change")]
    Fixed,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Log").field(&self.0.as_ref().map(|_| self.set(None))).finish()
    }
}

impl Log {
    /// Begins to log to standard error.
    ///
    /// # Errors
    /// The filter is none.
    pub fn start(config: &config::Log) -> anyhow::Result<Self> {
        let filter = parse(&config.filter).map_err(|why| anyhow::anyhow!(why)).context("log.filter")?;
        let (filter, handle) = reload::Layer::new(filter);
        let (export, slot) = export::layer();
        let lines = tracing_subscriber::registry().with(filter).with(export);
        let begun = match config.format {
            LogFormat::Text => {
                let ansi = std::io::stderr().is_terminal();
                let layer = fmt::layer().event_format(TextLine).with_ansi(ansi).with_writer(std::io::stderr);
                lines.with(layer).try_init()
            }
            LogFormat::Json => {
                let form = JsonLine(Format::default().json().flatten_event(true).with_target(false));
                let fields = JsonFields::new();
                let layer = fmt::layer().fmt_fields(fields).event_format(form).with_writer(std::io::stderr);
                lines.with(layer).try_init()
            }
        };
        // Whoever started logging before wins: that is a test.
        let inner = begun.ok().map(|()| Inner { handle, slot, filter: Mutex::new(config.filter.clone()) });
        Ok(Self(inner.map(Arc::new)))
    }

    /// Sends lines to a collector too, from now on. A log that is not the node's stays where it is.
    pub(crate) fn export(&self, to: Otlp) {
        if let Some(inner) = &self.0 {
            inner.slot.fill(to);
        }
    }

    /// Whether lines could be sent to a collector.
    pub(crate) fn is_own(&self) -> bool {
        self.0.is_some()
    }

    /// Sends the last lines to where they are sent, for two seconds at most. It blocks its thread.
    pub fn close(&self) {
        if let Some(inner) = &self.0 {
            inner.slot.empty();
        }
    }

    /// Logs what `filter` says from now on, if it is given. Returns what was logged before.
    ///
    /// # Errors
    /// [`Error`]; then nothing has changed.
    pub fn set(&self, filter: Option<&str>) -> Result<String, Error> {
        let inner = self.0.as_ref().ok_or(Error::Fixed)?;
        let mut current = inner.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(filter) = filter else { return Ok(current.clone()) };
        let parsed = parse(filter).map_err(Error::Filter)?;
        inner.handle.reload(parsed).map_err(|_| Error::Fixed)?;
        let previous = std::mem::replace(&mut *current, filter.to_owned());
        drop(current);
        // Whatever the new filter lets through: who reads the log must see where it changes.
        tracing::error!(filter, previous, "what is logged was changed");
        Ok(previous)
    }
}

/// Reads a filter.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse(text: &str) -> Result<EnvFilter, String> {
    let advice = "a filter is a level (off, error, warn, info, debug, trace), or levels by module, such as \
                  info,callboard_worker=debug";
    if text.chars().count() > FILTER_CHARS {
        return Err(format!("a filter has at most {FILTER_CHARS} characters"));
    }
    for part in text.split(',') {
        if part.is_empty() {
            return Err(format!("`{text}` has an empty part: {advice}"));
        }
        // To `EnvFilter` a word is a module of which everything is logged, and nothing else: a level with a typo
        // would turn the log off.
        if !part.contains(['=', '[']) && LevelFilter::from_str(part).is_err() {
            return Err(format!("`{part}` is no level; of a module, write {part}=LEVEL: {advice}"));
        }
    }
    EnvFilter::try_new(text).map_err(|error| format!("`{text}` is no filter, {error}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for good in [
            "info",
            "OFF",
            "info,lapin=off",
            "callboard::api=trace",
            "info,[mesh{method=\"drain\"}]=debug",
            "info,[mesh]=trace",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_would_be_one() {
        for (bad, said) in [
            ("debg", "`debg` is no level; of a module, write debg=LEVEL"),
            ("info,callboard_worker", "`callboard_worker` is no level"),
            ("", "`` has an empty part"),
            ("info,,debug", "`info,,debug` has an empty part"),
            ("info,lapin=loud", "`info,lapin=loud` is no filter"),
            ("info,[mesh", "`info,[mesh` is no filter"),
        ] {
            let error = parse(bad).map(drop).unwrap_err();
            assert!(error.starts_with(said) && error.contains("callboard_worker=debug"), "{bad}: {error}");
        }
        assert_eq!(parse(&"x".repeat(1_001)).map(drop).unwrap_err(), "a filter has at most 1000 characters");
    }

    #[test]
    fn a_log_that_is_not_the_nodes_cannot_be_changed() {
        assert_eq!(Log::default().set(Some("debug")), Err(Error::Fixed));
        assert_eq!(Log::default().set(None), Err(Error::Fixed));
    }
}
