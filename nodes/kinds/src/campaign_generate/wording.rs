//! The written text: headline, body, call to action. Models keep to a form loosely, so it is read
//! loosely: with or without Markdown, and by its paragraphs if it has no labels at all.

use serde::Serialize;

/// A campaign's text. The headline and the body are never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Wording {
    pub(super) headline: String,
    body: String,
    call_to_action: String,
}

/// What a line may wear around its words in Markdown.
const DRESS: [char; 6] = [' ', '\t', '#', '*', '_', '>'];

/// The longest first line that still passes for a headline.
const HEADLINE_CHARS: usize = 120;

#[derive(Clone, Copy)]
enum Part {
    Headline,
    Body,
    CallToAction,
}

impl Wording {
    /// Reads a model's answer. `None` if it holds no words.
    pub(super) fn read(answer: &str) -> Option<Self> {
        if !answer.chars().any(char::is_alphanumeric) {
            return None;
        }
        let labelled = Self::by_labels(answer);
        if !labelled.headline.is_empty() && !labelled.body.is_empty() {
            return Some(labelled);
        }
        Some(Self::by_paragraphs(answer))
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        let parts = [&self.headline, &self.body, &self.call_to_action];
        parts.into_iter().filter(|p| !p.is_empty()).map(String::as_str).collect::<Vec<_>>().join("\n\n")
    }

    fn by_labels(answer: &str) -> Self {
        let mut wording = Self::default();
        let mut part = None;
        for line in answer.lines() {
            let text = match label(line) {
                Some((found, rest)) => {
                    part = Some(found);
                    rest
                }
                None => line,
            };
            let Some(part) = part else { continue };
            let target = match part {
                Part::Headline => &mut wording.headline,
                Part::Body => &mut wording.body,
                Part::CallToAction => &mut wording.call_to_action,
            };
            target.push_str(text);
            target.push('\n');
        }
        wording.headline = undress(&wording.headline).to_owned();
        wording.body = wording.body.trim().to_owned();
        wording.call_to_action = wording.call_to_action.trim().to_owned();
        wording
    }

    /// The first line with words is the headline, the last paragraph the call to action, the rest the body.
    fn by_paragraphs(answer: &str) -> Self {
        let words = answer.find(char::is_alphanumeric).unwrap_or(0);
        let start = answer[..words].rfind('\n').map_or(0, |end| end + 1);
        let answer = answer[start..].trim();
        let (first, rest) = answer.split_once('\n').unwrap_or((answer, ""));
        let headline = undress(first);
        if headline.chars().count() > HEADLINE_CHARS {
            // A paragraph, not a headline: its beginning must do, and nothing of it is lost.
            let cut: String = headline.chars().take(HEADLINE_CHARS - 1).chain(['…']).collect();
            return Self { headline: cut, body: answer.to_owned(), call_to_action: String::new() };
        }
        let rest = rest.trim();
        let (body, call_to_action) = match rest.rsplit_once("\n\n") {
            Some((body, last)) => (body.trim(), last.trim()),
            None if rest.is_empty() => (answer, ""),
            None => (rest, ""),
        };
        Self {
            headline: headline.to_owned(),
            body: body.to_owned(),
            call_to_action: call_to_action.to_owned(),
        }
    }
}

/// The part that a line opens, and what follows its label.
fn label(line: &str) -> Option<(Part, &str)> {
    let bare = line.trim_start_matches(DRESS);
    let labels = [("headline", Part::Headline), ("body", Part::Body), ("call to action", Part::CallToAction)];
    labels.into_iter().find_map(|(name, part)| {
        let start = bare.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name))?;
        let rest = bare[start.len()..].trim_start_matches(DRESS);
        match rest.strip_prefix(':') {
            // `**Headline:** Night falls` has its second pair of stars after the colon.
            Some(rest) => Some((part, rest.strip_prefix("**").unwrap_or(rest).trim())),
            None => rest.is_empty().then_some((part, "")),
        }
    })
}

fn undress(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || DRESS.contains(&c) || c == '"')
}

#[cfg(test)]
mod tests {
    use super::Wording;

    fn wording(headline: &str, body: &str, call_to_action: &str) -> Option<Wording> {
        Some(Wording { headline: headline.into(), body: body.into(), call_to_action: call_to_action.into() })
    }

    #[test]
    fn the_form_that_was_asked_for_is_read_with_and_without_markdown() {
        let expected = wording("Night falls", "One.\n\nTwo.", "Call us.");
        for answer in [
            "Headline: Night falls\nBody: One.\n\nTwo.\nCall to action: Call us.",
            "Sure!\n\n**Headline:** \"Night falls\"\n\n**Body:**\nOne.\n\nTwo.\n\n**Call to Action:** Call us.\n",
            "## Headline\nNight falls\n\n## Body\nOne.\n\nTwo.\n\n## Call to action\nCall us.",
            "HEADLINE: **Night falls**\r\nBODY: One.\r\n\nTwo.\r\nCALL TO ACTION: Call us.",
        ] {
            assert_eq!(Wording::read(answer), expected, "{answer}");
        }
    }

    #[test]
    fn without_labels_the_paragraphs_decide() {
        assert_eq!(
            Wording::read("# Night falls\n\nOne.\n\nTwo.\n\nCall us."),
            wording("Night falls", "One.\n\nTwo.", "Call us.")
        );
        assert_eq!(Wording::read("Night falls\nOne."), wording("Night falls", "One.", ""));
        assert_eq!(Wording::read("Night falls."), wording("Night falls.", "Night falls.", ""));
        assert_eq!(Wording::read("---\n**Night falls**\nOne."), wording("Night falls", "One.", ""));
        let long = Wording::read(&"night ".repeat(50)).unwrap();
        assert_eq!((long.headline.chars().count(), long.body.len()), (120, 299));
        let half = Wording::read("Headline: Night falls").unwrap();
        assert!(!half.body.is_empty());
    }

    #[test]
    fn an_answer_without_words_is_none() {
        for answer in ["", " \n\n", "**\n#", "\"\""] {
            assert_eq!(Wording::read(answer), None, "{answer:?}");
        }
    }

    #[test]
    fn a_line_that_only_begins_like_a_label_is_text() {
        let read = Wording::read("Headline: A\nBody: One.\nBodywork is our trade.\nÜber uns").unwrap();
        assert_eq!(read.body, "One.\nBodywork is our trade.\nÜber uns");
    }

    #[test]
    fn the_whole_text_leaves_out_what_is_missing() {
        assert_eq!(wording("A", "B", "").unwrap().text(), "A\n\nB");
        assert_eq!(wording("A", "B", "C").unwrap().text(), "A\n\nB\n\nC");
    }
}
