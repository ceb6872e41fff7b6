//! Everything that reaches the terminal. What is shown is rendered by pure functions in the modules below.

pub mod answers;
pub mod cache;
pub mod certs;
pub mod cluster;
pub mod doctor;
pub mod experiments;
pub mod json;
pub mod keys;
pub mod money;
pub mod progress;
pub mod providers;
pub mod routes;
#[cfg(test)]
pub(crate) mod sample;
pub mod style;
pub mod table;
pub mod tasks;
pub mod time;
pub mod top;
pub mod vectors;

pub use style::{Paint, Palette};

use super::args::{Color, Global};
use super::failure::Failure;
use super::values::Output;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Where a command writes its answer.
pub struct Out {
    form: Output,
    palette: Palette,
    stdout: Box<dyn Write>,
    terminal: bool,
    hints: bool,
}

impl Out {
    /// Standard output, in the form that was asked for.
    ///
    /// # Errors
    /// That `--output` names a file, which only some commands write.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        if let Output::File(path) = &global.output {
            let path = path.display();
            return Err(Failure::Usage(format!(
                "--output {path}: expected `table` or `json` for this command"
            )));
        }
        Ok(Self::to_file(global))
    }

    /// Standard output, for a command that may write to a file instead.
    #[must_use]
    pub fn to_file(global: &Global) -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        Self {
            form: global.output.clone(),
            palette: Palette::new(console::colors_enabled()),
            stdout: Box::new(stdout),
            terminal,
            hints: std::io::stderr().is_terminal(),
        }
    }

    /// Whether JSON was asked for.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.form == Output::Json
    }

    /// The file that was asked for.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        if let Output::File(path) = &self.form { Some(path.clone()) } else { None }
    }

    /// Whether a person sees standard output.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The colours of this output.
    #[must_use]
    pub fn palette(&self) -> Palette {
        self.palette
    }

    /// The columns of the terminal. None if it is no terminal: then nothing is cut.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        self.terminal.then(|| usize::from(console::Term::stdout().size().1))
    }

    /// Writes text that ends with its own line break.
    ///
    /// # Errors
    /// That nobody reads it.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes a line.
    ///
    /// # Errors
    /// That nobody reads it.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes bytes, and flushes.
    ///
    /// # Errors
    /// That nobody reads them.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes)?;
        Ok(self.stdout.flush()?)
    }

    /// Writes a JSON document over several lines.
    ///
    /// # Errors
    /// That nobody reads it.
    pub fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.line(&json::pretty(&text))
    }

    /// Writes a JSON document on one line, for NDJSON.
    ///
    /// # Errors
    /// That nobody reads it.
    pub fn record(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.line(&text)
    }

    /// Shows a screen in place of the one before it.
    ///
    /// # Errors
    /// That nobody sees it.
    pub fn frame(&mut self, screen: &str) -> Result<(), Failure> {
        // Home, then line by line with the rest of each cleared, then all below: this flickers less than
        // clearing the screen first.
        let lines: String = screen.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        self.text(&format!("\x1b[H{lines}\x1b[J"))
    }

    /// Says something on standard error that belongs to the answer, such as what failed.
    pub fn note(&self, text: &str) {
        say(text);
    }

    /// Says on standard error what a person could do next. Programs are spared.
    pub fn hint(&self, text: &str) {
        if self.hints && !self.is_json() {
            say(&Palette::new(console::colors_enabled_stderr()).paint(text, Paint::Dim));
        }
    }
}

/// Says that a file was written.
pub fn wrote(path: &Path, bytes: u64, media_type: &str) {
    say(&format!("wrote {} ({media_type}) to {}", time::bytes(bytes), path.display()));
}

/// Applies `--color` to the whole process.
pub fn set_color(color: Color) {
    if color != Color::Auto {
        console::set_colors_enabled(color == Color::Always);
        console::set_colors_enabled_stderr(color == Color::Always);
    }
}

/// Says on standard error why a command failed and what to do next.
pub fn report(failure: &Failure, program: &str) {
    let palette = Palette::new(console::colors_enabled_stderr());
    let text = describe(failure, program, palette);
    if !text.is_empty() {
        say(&text);
    }
}

/// What is said about a failure: the error, a line for each wrong field, and what to do next.
#[must_use]
pub fn describe(failure: &Failure, program: &str, palette: Palette) -> String {
    let error = palette.paint("error:", Paint::Bad);
    let mut lines = match failure {
        Failure::ReaderGone => Vec::new(),
        Failure::Interrupted(note) => vec![note.clone().unwrap_or_else(|| "interrupted".to_owned())],
        Failure::Node(node) if !node.violations.is_empty() => {
            let mut lines = vec![format!("{error} the node refused the request")];
            let named = node.violations.iter();
            lines.extend(
                named.map(|v| format!("  {}: {}", style::clean(&v.field), style::clean(&v.description))),
            );
            lines
        }
        other => vec![format!("{error} {}", style::clean(&other.to_string()))],
    };
    if let Some(advice) = failure.advice(program) {
        lines.push(format!("{} {}", palette.paint("try:", Paint::Strong), style::clean(&advice)));
    }
    lines.join("\n")
}

fn say(text: &str) {
    // There is nobody left to tell that standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_client::{Code, Error, Origin, Violation};

    fn refused(violations: &[(&str, &str)]) -> Failure {
        let named =
            violations.iter().map(|(f, d)| Violation { field: (*f).into(), description: (*d).into() });
        Failure::Node(Error {
            code: Code::InvalidArgument,
            reason: "UNKNOWN_KIND".into(),
            message: "no worker runs\u{1b}[31m `x`".into(),
            metadata: Default::default(),
            violations: named.collect(),
            retry_after: None,
            may_have_run: false,
            origin: Origin::Server,
        })
    }

    #[test]
    fn every_wrong_field_gets_a_line() {
        let text = describe(
            &refused(&[("priority", "must be 0 to 9"), ("kind", "is unknown")]),
            "cb",
            Palette::plain(),
        );
        insta::assert_snapshot!(text, @r"
        error: the node refused the request
          priority: must be 0 to 9
          kind: is unknown
        try: `cb kinds` lists the kinds that exist
        ");
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let text = describe(&refused(&[]), "cb", Palette::plain());
        assert!(text.starts_with("error: no worker runs[31m `x`\n"), "{text:?}");
        assert!(describe(&Failure::ReaderGone, "cb", Palette::plain()).is_empty());
    }
}
