//! What the templates take from a conversation: what it is about, without understanding it.

use super::SKELETON_PREFIX;
use callboard_domain::llm::{Message, Role};

/// The most bytes of a message that are looked at.
const LOOK_BYTES: usize = 64 << 10;
/// The most characters taken over of a field or of the prompt.
const QUOTE_CHARS: usize = 160;
/// The most words it is said to be about.
const TOPICS: usize = 12;
/// Words that say nothing of what a text is about, or belong to the instructions around it.
const FILLERS: [&str; 93] = [
    "about",
    "after",
    "again",
    "also",
    "analyse",
    "analyze",
    "and",
    "another",
    "answer",
    "any",
    "are",
    "audience",
    "because",
    "been",
    "before",
    "being",
    "between",
    "brief",
    "briefly",
    "call",
    "campaign",
    "can",
    "channel",
    "could",
    "describe",
    "does",
    "each",
    "else",
    "every",
    "explain",
    "following",
    "for",
    "from",
    "give",
    "have",
    "headline",
    "into",
    "its",
    "json",
    "just",
    "keep",
    "key",
    "line",
    "made",
    "make",
    "many",
    "marketing",
    "more",
    "most",
    "must",
    "name",
    "not",
    "nothing",
    "one",
    "only",
    "other",
    "our",
    "over",
    "paragraph",
    "paragraphs",
    "please",
    "point",
    "product",
    "prompt",
    "respond",
    "say",
    "sentence",
    "sentences",
    "short",
    "should",
    "some",
    "such",
    "tell",
    "text",
    "that",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "three",
    "tone",
    "two",
    "very",
    "what",
    "when",
    "which",
    "with",
    "write",
    "your",
];

/// What a prompt is about.
#[derive(Debug)]
pub(super) struct Prompt {
    /// A number of the whole conversation, for choices that look random and are not.
    seed: u64,
    /// Lines of the form `Label: value`, labels in lower case.
    fields: Vec<(String, String)>,
    /// The words it uses most, in lower case.
    topics: Vec<String>,
    /// Its first words.
    pub(super) excerpt: String,
    /// Whether it asks for advertising.
    pub(super) is_campaign: bool,
}

impl Prompt {
    pub(super) fn of(messages: &[Message]) -> Self {
        let mut seed = 0xcbf2_9ce4_8422_2325;
        for message in messages {
            seed = fnv(seed, &[message.role as u8]);
            seed = fnv(seed, message.content.text().as_bytes());
        }
        let last = messages.iter().rev().find(|m| m.role == Role::User).map(|m| m.content.text());
        let last = last.as_deref().unwrap_or_default();
        let last = &last[..last.floor_char_boundary(LOOK_BYTES)];
        let told = last.find(SKELETON_PREFIX).map_or(last, |at| &last[..at]);
        let fields = fields(told);
        let lower = told.to_lowercase();
        let has = |word: &str| lower.split(|c: char| !c.is_alphanumeric()).any(|w| w == word);
        Self {
            seed,
            topics: topics(&fields, quoted(told).unwrap_or(told)),
            excerpt: short(told),
            is_campaign: ["campaign", "brief", "marketing", "advertisement"].into_iter().any(has)
                && (has("campaign") || !fields.is_empty()),
            fields,
        }
    }

    /// The value of the first field with one of these labels.
    pub(super) fn field(&self, labels: &[&str]) -> Option<&str> {
        let of = |label: &&str| self.fields.iter().find(|(l, _)| l == label).map(|(_, value)| value.as_str());
        labels.iter().find_map(of)
    }

    /// The values of all fields with that label.
    pub(super) fn fields<'a>(&'a self, label: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(l, _)| l == label).map(|(_, value)| value.as_str())
    }

    /// The nth thing it is about, over and over.
    pub(super) fn topic(&self, n: usize) -> &str {
        if self.topics.is_empty() { "the matter" } else { &self.topics[n % self.topics.len()] }
    }

    /// A number below `below` that belongs to this prompt and this place in the answer.
    pub(super) fn number(&self, place: &str, below: u64) -> u64 {
        // The low bits of FNV are weak, so they are mixed once more.
        let hash = fnv(self.seed, place.as_bytes());
        (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31) % below.max(1)
    }

    /// One of several for this place in the answer.
    pub(super) fn pick<'a, T: ?Sized>(&self, place: &str, from: &[&'a T]) -> &'a T {
        from[usize::try_from(self.number(place, from.len() as u64)).unwrap_or(0)]
    }
}

pub(super) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The beginning of a text in one line.
pub(super) fn short(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        if out.chars().count() + word.chars().count() >= QUOTE_CHARS {
            // A first word over the limit is cut; later ones are left out.
            if out.is_empty() {
                out = word.chars().take(QUOTE_CHARS).collect();
            }
            out.push('…');
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

fn fields(text: &str) -> Vec<(String, String)> {
    let field = |line: &str| {
        let (label, value) = line.split_once(": ")?;
        let label = label.trim().trim_start_matches(['-', '*', ' ']);
        let is_label = !label.is_empty() && label.len() <= 24 && label.split_whitespace().count() <= 2;
        (is_label && !value.trim().is_empty()).then(|| (label.to_lowercase(), short(value)))
    };
    text.lines().filter_map(field).collect()
}

/// What stands between the first tag and its end, as in `<policy> .. </policy>`: what a prompt is about,
/// without the instructions around it.
fn quoted(text: &str) -> Option<&str> {
    let (before, rest) = text.split_once('>')?;
    let (_, tag) = before.rsplit_once('<')?;
    let is_tag = !tag.is_empty() && tag.chars().all(|c| c.is_ascii_alphanumeric());
    let (inner, _) = is_tag.then(|| rest.split_once(&format!("</{tag}>")))??;
    Some(inner)
}

/// The words a text uses most: those of the fields that say what it is about come first.
fn topics(fields: &[(String, String)], text: &str) -> Vec<String> {
    let subject =
        fields.iter().find(|(label, _)| SUBJECTS.contains(&label.as_str())).map_or("", |(_, v)| v.as_str());
    let mut counted: Vec<(String, u32)> = Vec::new();
    let all = subject.split(|c: char| !c.is_alphanumeric()).map(|w| (w, 3));
    let all = all.chain(text.split(|c: char| !c.is_alphanumeric()).map(|w| (w, 1)));
    for (word, weight) in all {
        let word = word.to_lowercase();
        let says_something = word.chars().count() > 3 && word.chars().any(char::is_alphabetic);
        if !says_something || FILLERS.binary_search(&word.as_str()).is_ok() {
            continue;
        }
        match counted.iter().position(|(w, _)| *w == word) {
            Some(at) => counted[at].1 += weight,
            // The first few hundred words say what a text is about; this keeps the search short.
            None if counted.len() < 400 => counted.push((word, weight)),
            None => {}
        }
    }
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counted.into_iter().take(TOPICS).map(|(word, _)| word).collect()
}

/// The labels of fields that name what a brief is for.
pub(super) const SUBJECTS: [&str; 6] = ["product", "name", "brand", "service", "subject", "topic"];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Prompt {
        Prompt::of(&[Message { role: Role::User, content: text.into() }])
    }

    #[test]
    fn fillers_are_sorted_for_the_search() {
        assert!(FILLERS.is_sorted());
    }

    #[test]
    fn a_brief_is_taken_apart() {
        let prompt = of(
            "Write the text of a marketing campaign.\n\nProduct: Nightlight, a lamp\nKey point: dim\n- Key point: red\n\nJSON skeleton: {\"word\": \"word word word\"}",
        );
        assert!(prompt.is_campaign);
        assert_eq!(prompt.field(&["brand", "product"]), Some("Nightlight, a lamp"));
        assert_eq!(prompt.fields("key point").collect::<Vec<_>>(), ["dim", "red"]);
        assert_eq!(prompt.topics, ["nightlight", "lamp"]);
    }

    #[test]
    fn a_quoted_text_is_what_a_prompt_is_about() {
        let prompt = of(
            "Analyse this policy of a shop.\n<policy>\nReturns cost money. Returns take time.\n</policy>\nRespond.",
        );
        assert_eq!(prompt.topics, ["returns", "cost", "money", "take", "time"]);
        assert!(!prompt.is_campaign);
        assert_eq!(of("").topic(3), "the matter");
    }

    #[test]
    fn numbers_belong_to_prompt_and_place() {
        let (a, b) = (of("a"), of("b"));
        let draw = |p: &Prompt, place: &str| {
            (0..20).map(|n| p.number(&format!("{place}{n}"), 100)).collect::<Vec<_>>()
        };
        assert_eq!(draw(&a, "x"), draw(&of("a"), "x"));
        assert_ne!(draw(&a, "x"), draw(&b, "x"));
        assert_ne!(draw(&a, "x"), draw(&a, "y"));
    }

    #[test]
    fn a_long_text_is_shortened_at_a_word() {
        let text = short(&"wörter ".repeat(100));
        assert!(text.chars().count() <= QUOTE_CHARS + 1 && text.ends_with("wörter…"), "{text}");
        assert_eq!(short(&"x".repeat(500)).chars().count(), QUOTE_CHARS + 1);
    }
}
