//! The analysis without a model: a list of clauses per kind of policy, found by their words.
//!
//! Deterministic, and no more than it looks: it knows whether a policy speaks of something, not whether
//! what it says is fair.

use super::PolicyType;
use super::analysis::Analysis;
use super::checklist::{self, Clause};

/// Its name in results.
pub(super) const NAME: &str = "keyword-rules-1";

/// What each risky phrase takes off the score, and all of them together at most.
const RISK_POINTS: usize = 8;
const RISK_POINTS_MAX: usize = 32;

/// Below this many words nothing can be complete.
const SHORT_WORDS: usize = 60;

/// Analyses a policy.
pub(super) fn analyze(policy_type: PolicyType, text: &str) -> Analysis {
    let text = normal(text);
    let clauses = checklist::clauses(policy_type);
    let (present, missing): (Vec<&Clause>, Vec<&Clause>) =
        clauses.iter().partition(|clause| mentions_any(&text, clause.words));
    let mut risks: Vec<String> = checklist::RISKS
        .iter()
        .filter(|risk| mentions_any(&text, risk.words))
        .map(|risk| risk.says.to_owned())
        .collect();
    if text.split(' ').count() < SHORT_WORDS {
        risks.push("It is so short that most cases are left to argument.".to_owned());
    }
    let points = 100 * present.len() / clauses.len().max(1);
    let lost = (risks.len() * RISK_POINTS).min(RISK_POINTS_MAX);
    Analysis {
        score: u8::try_from(points.saturating_sub(lost)).unwrap_or(100),
        strengths: present.iter().map(|clause| format!("It speaks of {}.", clause.about)).collect(),
        risks,
        missing_clauses: missing.iter().map(|clause| capitalized(clause.about)).collect(),
        suggestions: missing.iter().map(|clause| clause.suggestion.to_owned()).collect(),
    }
}

/// Lower case, plain apostrophes and hyphens, single spaces.
fn normal(text: &str) -> String {
    let text = text.to_lowercase().replace(['\u{2019}', '\u{2018}'], "'").replace(['-', '\u{2011}'], " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn mentions_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| mentions(text, word))
}

/// Whether the text holds the word at the beginning of one of its words: `refund` is in `refunded`,
/// `tax` is not in `syntax`.
fn mentions(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(char::is_alphanumeric))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [PolicyType; 5] =
        [PolicyType::Return, PolicyType::Privacy, PolicyType::Shipping, PolicyType::Terms, PolicyType::Other];

    #[test]
    fn every_clause_is_found_by_each_of_its_words_and_missed_without() {
        for policy_type in ALL {
            for clause in checklist::clauses(policy_type) {
                let missing = capitalized(clause.about);
                assert!(analyze(policy_type, "Nothing.").missing_clauses.contains(&missing));
                for word in clause.words {
                    let found = analyze(policy_type, &format!("We say: {}.", word.to_uppercase()));
                    assert!(!found.missing_clauses.contains(&missing), "{policy_type:?}: {word}");
                }
            }
        }
    }

    #[test]
    fn every_risk_is_found_by_each_of_its_words() {
        for risk in checklist::RISKS {
            for word in risk.words {
                let found = analyze(PolicyType::Other, &format!("We say: {word}."));
                assert!(found.risks.iter().any(|r| r == risk.says), "{word}");
            }
        }
    }

    #[test]
    fn words_are_found_at_their_beginning_only_and_across_line_breaks() {
        assert!(mentions("fully refunded", "refund"));
        assert!(!mentions("bad syntax", "tax"));
        assert!(mentions("über uns", "uns") && !mentions("üuns", "uns"));
        assert_eq!(normal("The buyer\u{2019}s\n  e-mail"), "the buyer's e mail");
    }

    #[test]
    fn the_score_falls_with_what_is_missing_and_with_risks_and_stays_in_its_range() {
        for policy_type in ALL {
            let words: Vec<_> = checklist::clauses(policy_type).iter().map(|c| c.words[0]).collect();
            let full = format!("{} {}", words.join(", "), "and so on ".repeat(SHORT_WORDS));
            assert_eq!(analyze(policy_type, &full).score, 100, "{policy_type:?}");
            let risky = format!("{full} at our sole discretion");
            assert_eq!(analyze(policy_type, &risky).score, 92);
            assert_eq!(analyze(policy_type, "").score, 0);
        }
    }
}
