//! Findings, and how they are shown.

use super::style::{Paint, Palette, clean};
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// Broken.
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, message: message.into(), advice: None }
    }

    /// Worth a look, with what to do.
    #[must_use]
    pub fn warn(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, message: message.into(), advice: Some(advice.into()) }
    }

    /// Broken, with what to do.
    #[must_use]
    pub fn fail(name: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Fail, message: message.into(), advice: Some(advice.into()) }
    }
}

/// Findings, a line each, and what to do below those that need it.
#[must_use]
pub fn render(checks: &[Check], palette: Palette) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for check in checks {
        let (word, paint) = match check.level {
            Level::Ok => ("ok  ", Paint::Good),
            Level::Warn => ("warn", Paint::Warn),
            Level::Fail => ("fail", Paint::Bad),
        };
        let name = check.name;
        out.push_str(&format!("{}  {name:width$}  {}\n", palette.paint(word, paint), clean(&check.message)));
        if let Some(advice) = &check.advice {
            out.push_str(&format!("      {:width$}  -> {}\n", "", clean(advice)));
        }
    }
    out
}

/// The findings as JSON.
#[derive(Serialize)]
pub struct Json<'a> {
    /// All of them.
    pub checks: &'a [Check],
}
