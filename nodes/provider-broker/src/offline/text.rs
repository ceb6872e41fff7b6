//! Texts from templates.

use super::prompt::{Prompt, SUBJECTS};

/// What every text says of itself.
const LABEL: &str = "offline template, no model was called";

pub(super) fn answer(prompt: &Prompt) -> String {
    if prompt.is_campaign { campaign(prompt) } else { plain(prompt) }
}

fn plain(prompt: &Prompt) -> String {
    if prompt.excerpt.is_empty() {
        return format!("[{LABEL}] There was nothing to answer.");
    }
    let closing = prompt.pick(
        "closing",
        &[
            "Configure a provider to get a real answer.",
            "A provider would go into each of these.",
            "With a provider configured, a model takes over from here.",
        ],
    );
    let words = [0, 1, 2].map(|n| format!("\"{}\"", prompt.topic(n)));
    format!(
        "[{LABEL}] You asked: \"{}\"\n\nThe words that stand out: {}. {closing}",
        prompt.excerpt,
        words.join(", "),
    )
}

/// A campaign in three labelled parts.
fn campaign(prompt: &Prompt) -> String {
    format!(
        "Headline: {}\n\nBody: {}\n\nCall to action: {}",
        headline(prompt),
        body(prompt),
        call_to_action(prompt),
    )
}

/// What it is for: the subject's name, up to the first comma.
fn subject(prompt: &Prompt) -> String {
    match prompt.field(&SUBJECTS) {
        Some(subject) => subject.split([',', ';', '(']).next().unwrap_or(subject).trim().to_owned(),
        None => capital(prompt.topic(0)),
    }
}

pub(super) fn headline(prompt: &Prompt) -> String {
    let subject = subject(prompt);
    let endings = [
        "made for the hours that count",
        "for the work that matters",
        "there when it is needed",
        "a good place to start",
    ];
    format!("{subject}: {}", prompt.pick("headline", &endings))
}

pub(super) fn body(prompt: &Prompt) -> String {
    let audience =
        prompt.field(&["audience", "target audience", "for"]).unwrap_or("the people it is made for");
    let subject = prompt.field(&SUBJECTS).map_or_else(|| capital(prompt.topic(0)), str::to_owned);
    let opening = prompt.pick(
        "body",
        &[
            "Some things earn their place quietly.",
            "Good days begin with something you can rely on.",
            "You notice it when it is missing.",
        ],
    );
    let points: Vec<_> = prompt.fields("key point").map(|p| p.trim_end_matches('.').to_owned()).collect();
    let points = if points.is_empty() {
        format!("It is about {}, {} and {}.", prompt.topic(0), prompt.topic(1), prompt.topic(2))
    } else {
        format!("What to know: {}.", points.join("; "))
    };
    format!(
        "{opening} {}, for {}.\n\n{points}\n\n({}.)",
        end_open(&subject),
        end_open(audience),
        capital(LABEL)
    )
}

pub(super) fn call_to_action(prompt: &Prompt) -> String {
    let subject = subject(prompt);
    match prompt.number("call", 3) {
        0 => format!("Try {subject} today."),
        1 => format!("Find out what {subject} does for you."),
        _ => format!("Get to know {subject}."),
    }
}

fn end_open(text: &str) -> &str {
    text.trim_end_matches(['.', '!', '?', ' '])
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A sentence for a field of a JSON answer. It claims nothing that a template cannot know.
pub(super) fn sentence(prompt: &Prompt, field: &str, n: usize) -> String {
    let place = format!("{field}#{n}");
    let offset = usize::try_from(prompt.number(field, 5)).unwrap_or(0);
    let (one, two) = (prompt.topic(offset + 2 * n), prompt.topic(offset + 2 * n + 1));
    let forms: [String; 2] = match field.to_lowercase().as_str() {
        "headline" | "title" | "subject" | "tagline" | "slogan" => return headline(prompt),
        "body" | "text" | "copy" => return body(prompt),
        "call_to_action" | "cta" => return call_to_action(prompt),
        "strengths" | "pros" => {
            [format!("It speaks of \"{one}\"."), format!("It names \"{one}\" and \"{two}\".")]
        }
        "risks" | "cons" | "weaknesses" => [
            format!("What it says of \"{one}\" was not judged: no model read it."),
            format!("Whether what it says of \"{one}\" and \"{two}\" fits together was not checked."),
        ],
        "missing_clauses" | "missing" | "gaps" => [
            format!("A clause about exceptions from \"{one}\" may be missing."),
            format!("Who is responsible for \"{one}\" may be missing."),
        ],
        "suggestions" | "recommendations" | "improvements" => [
            format!("Let a person or a model check the part about \"{one}\"."),
            format!("Say in one sentence how \"{one}\" and \"{two}\" belong together."),
        ],
        "keywords" | "tags" | "hashtags" | "topics" => return one.to_owned(),
        _ => [
            format!("{}: {one}, {two} ({LABEL}).", capital(&field.replace('_', " "))),
            format!("About {one} and {two} ({LABEL})."),
        ],
    };
    let [a, b] = &forms;
    prompt.pick(&place, &[a.as_str(), b.as_str()]).to_owned()
}
