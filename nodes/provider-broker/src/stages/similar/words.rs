//! The words of a prompt, and which of them decide what it asks.
//!
//! Nothing that can be computed cheaply says whether two words mean the same, and a number, a name or a "not" turns a
//! question round in one word of a thousand. So every word counts but those of courtesy, in their order; what may differ is
//! spacing, the marks at the end of words, and the capital at the beginning of a sentence.

/// What is said to a model out of courtesy, and changes nothing.
const COURTESY: &[&str] = &["please", "kindly", "thanks", "thank", "the", "bitte", "danke"];

/// A word, in the form in which it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Whether it decides what is asked.
    pub(super) counts: bool,
}

/// The words of a text.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut begins = true;
    let mut words = Vec::new();
    let lines = text.trim().lines().enumerate();
    // How far a line is indented means something, in code.
    let indent = |(i, line): (usize, &str)| {
        let indent = &line[..line.len() - line.trim_start().len()];
        Some(indent.to_owned()).filter(|indent| i > 0 && indent.len() < line.len() && !indent.is_empty())
    };
    let parts = lines.flat_map(|(i, line)| {
        let indent = indent((i, line)).into_iter().map(|indent| (indent, true));
        indent.chain(line.split_whitespace().map(|word| (word.to_owned(), false)))
    });
    for (raw, is_indent) in parts {
        if is_indent {
            words.push(Word { text: raw, counts: true });
            continue;
        }
        let bare = raw.trim_end_matches(['.', ',', '!', '?', ';', ':']);
        let ends = raw.ends_with(['.', '!', '?']);
        if bare.is_empty() {
            // Marks that stand alone may mean something, as in a formula.
            words.push(Word { text: raw, counts: true });
            continue;
        }
        let text = if begins && is_capitalized(bare) { bare.to_lowercase() } else { bare.to_owned() };
        let counts = !COURTESY.contains(&text.as_str());
        // "Please, Anna": the sentence begins again after courtesy.
        begins = ends || (begins && !counts);
        words.push(Word { text, counts });
    }
    words
}

/// Whether only its first letter is a capital: all of them are a name.
fn is_capitalized(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(char::is_uppercase) && !letters.any(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that count, in a row.
    fn asks(text: &str) -> String {
        let counting = words(text).into_iter().filter(|word| word.counts).map(|word| word.text);
        counting.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn spacing_marks_courtesy_and_the_first_capital_do_not_count() {
        let asked = asks("Summarize the report of Q3 for Anna.");
        for same in [
            "summarize the report of Q3 for Anna",
            "  Summarize  the\nreport of Q3, for Anna!",
            "Please summarize report of Q3 for Anna, thanks.",
        ] {
            assert_eq!(asks(same), asked);
        }
    }

    #[test]
    fn every_other_word_counts_in_its_place() {
        let asked = asks("Summarize the report of Q3 for Anna");
        for other in [
            "Summarize the report of Q4 for Anna",
            "Summarize the report of Q3 for Anne",
            "Do not summarize the report of Q3 for Anna",
            "Summarize Anna for the report of Q3",
            "Summarize the report of q3 for Anna",
            "Summarize the report of Q3 for Anna - no names",
        ] {
            assert_ne!(asks(other), asked, "{other}");
        }
        assert_ne!(asks("what is a < b"), asks("what is a > b"));
        assert_ne!(asks("IT works"), asks("it works"));
        assert_ne!(asks("minus -5"), asks("minus 5"));
        assert_ne!(asks("if a:\n  b()\n  c()"), asks("if a:\n  b()\nc()"));
    }
}
