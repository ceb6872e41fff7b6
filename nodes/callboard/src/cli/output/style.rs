//! Colours, and text that is safe to print.

use callboard_client::v1;

/// What a piece of text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// Nothing special.
    #[default]
    Plain,
    /// It went well.
    Good,
    /// It goes on.
    Busy,
    /// It needs a look.
    Warn,
    /// It went wrong.
    Bad,
    /// It matters less.
    Dim,
    /// It matters more.
    Strong,
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    color: bool,
}

impl Palette {
    /// With or without colours.
    #[must_use]
    pub const fn new(color: bool) -> Self {
        Self { color }
    }

    /// Without colours.
    #[must_use]
    pub const fn plain() -> Self {
        Self::new(false)
    }

    /// Text with the colour of its meaning.
    #[must_use]
    pub fn paint(self, text: &str, paint: Paint) -> String {
        if !self.color || paint == Paint::Plain {
            return text.to_owned();
        }
        let style = console::Style::new().force_styling(true);
        let style = match paint {
            Paint::Plain => style,
            Paint::Good => style.green(),
            Paint::Busy => style.cyan(),
            Paint::Warn => style.yellow(),
            Paint::Bad => style.red().bold(),
            Paint::Dim => style.dim(),
            Paint::Strong => style.bold(),
        };
        style.apply_to(text).to_string()
    }
}

/// Text on one line and without control characters: what a server sends must not steer the terminal.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional overrides can make a line read as what it is not.
        let steers = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '\n' | '\t' if out.ends_with(' ') => {}
            '\n' | '\t' => out.push(' '),
            _ if c.is_control() || steers => {}
            _ => out.push(c),
        }
    }
    out
}

/// As [`clean`], but line breaks and tabs stay.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
}

/// The word for a state, as `--state` takes it.
#[must_use]
pub fn state(state: i32) -> String {
    v1::TaskState::try_from(state)
        .map_or_else(|_| state.to_string(), |s| word(s.as_str_name(), "TASK_STATE_"))
}

/// The colour of a state.
#[must_use]
pub fn state_paint(state: i32) -> Paint {
    match v1::TaskState::try_from(state) {
        Ok(v1::TaskState::Running) => Paint::Busy,
        Ok(v1::TaskState::Succeeded) => Paint::Good,
        Ok(v1::TaskState::Failed) => Paint::Bad,
        Ok(v1::TaskState::Cancelled) => Paint::Warn,
        _ => Paint::Plain,
    }
}

/// The word for an event.
#[must_use]
pub fn event(kind: i32) -> String {
    v1::TaskEventType::try_from(kind)
        .map_or_else(|_| kind.to_string(), |k| word(k.as_str_name(), "TASK_EVENT_TYPE_"))
}

/// The word for an enum value: its name without prefix, in lower case.
#[must_use]
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// The last eight digits of an id: what people tell tasks apart by.
#[must_use]
pub fn short(id: &str) -> &str {
    let start = id.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
    &id[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\n\tc\u{202e}"), "a[2Jb c");
        assert_eq!(clean_lines("a\u{1b}\n\tb"), "a\n\tb");
    }

    #[test]
    fn words_and_short_ids() {
        assert_eq!(state(v1::TaskState::Running.into()), "running");
        assert_eq!(event(v1::TaskEventType::AttemptFailed.into()), "attempt_failed");
        assert_eq!(state(99), "99");
        assert_eq!(short("01939e2c-7e10-7cc3-98c4-dc0c0c07398f"), "0c07398f");
        assert_eq!(short("é"), "é");
    }
}
