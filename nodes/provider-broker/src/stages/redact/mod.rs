//! Secrets and personal data are taken out of prompts before anybody else sees them: caches and providers get a mark in
//! their place, as `[REDACTED:mail]`.
//!
//! It knows forms, not meanings: what looks like a card number, but has a wrong check digit, stays. Time is linear in the
//! prompt, whatever it holds. What was found is counted, and never logged.

mod cards;

use crate::config::{Pattern, Redact};
use callboard_domain::llm::{Content, EmbeddingRequest, ImageRequest, Part, TextRequest};
use callboard_ports::metrics::Counter;
use regex::{NoExpand, Regex};
use std::borrow::Cow;

/// Keys of the services that people paste most: models, code, clouds, payments, chats; signed tokens; private keys.
const KEYS: &str = concat!(
    r"(?-u:\b)(?:",
    r"(?:sk|pk|rk|cb)-[A-Za-z0-9_-]{20,}",
    r"|(?:sk|pk|rk|whsec)_[A-Za-z0-9_]{16,}(?-u:\b)",
    r"|gh[opsur]_[A-Za-z0-9]{36,}(?-u:\b)",
    r"|github_pat_[A-Za-z0-9_]{22,}",
    r"|glpat-[A-Za-z0-9_-]{20,}",
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"|AIza[A-Za-z0-9_-]{35,}",
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?-u:\b)",
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    r")",
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\r\n\t ]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
);
const MAILS: &str = r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}";

/// What takes them out.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    keys: Option<Regex>,
    mails: Option<Regex>,
    cards: bool,
    counts: [Counter; Pattern::ALL.len()],
}

impl Redactor {
    pub(super) fn new(config: &Redact) -> Self {
        let wanted = |pattern| config.patterns.contains(&pattern);
        // They are written here, and a test compiles them.
        let regex = |pattern, text| wanted(pattern).then(|| Regex::new(text).ok()).flatten();
        Self {
            keys: regex(Pattern::Keys, KEYS),
            mails: regex(Pattern::Mails, MAILS),
            cards: wanted(Pattern::Cards),
            counts: Default::default(),
        }
    }

    /// Takes them out of a call for a text.
    pub(super) fn text(&self, request: &mut TextRequest) {
        for message in &mut request.messages {
            match &mut message.content {
                Content::Text(text) => self.replace(text),
                Content::Parts(parts) => parts.iter_mut().for_each(|part| match part {
                    Part::Text(text) => self.replace(text),
                    Part::ToolCall(call) => self.replace(&mut call.arguments),
                    Part::ToolResult(result) => self.replace(&mut result.content),
                    // What an image shows cannot be read here.
                    Part::Image(_) => {}
                }),
            }
        }
    }

    fn replace(&self, text: &mut String) {
        if let Some(cleaned) = self.clean(text) {
            *text = cleaned;
        }
    }

    /// Takes them out of a call for an image, if there are any.
    pub(super) fn image(&self, request: &ImageRequest) -> Option<ImageRequest> {
        let prompt = self.clean(&request.prompt)?;
        Some(ImageRequest { prompt, ..request.clone() })
    }

    /// Takes them out of texts that are to be vectors, if there are any.
    pub(super) fn embedding(&self, request: &EmbeddingRequest) -> Option<EmbeddingRequest> {
        let cleaned: Vec<_> = request.inputs.iter().map(|input| self.clean(input)).collect();
        cleaned.iter().any(Option::is_some).then(|| {
            let inputs = cleaned.into_iter().zip(&request.inputs);
            let inputs = inputs.map(|(cleaned, input)| cleaned.unwrap_or_else(|| input.clone())).collect();
            EmbeddingRequest { inputs, ..request.clone() }
        })
    }

    /// How often each was found.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        Pattern::ALL.iter().zip(&self.counts).map(|(p, count)| (p.as_str(), count.get())).collect()
    }

    /// A text without them; none if there are none.
    fn clean(&self, text: &str) -> Option<String> {
        let mut text = Cow::Borrowed(text);
        for (pattern, regex) in [(Pattern::Keys, &self.keys), (Pattern::Mails, &self.mails)] {
            let Some(regex) = regex else { continue };
            let found = regex.find_iter(&text).count();
            if found > 0 {
                self.count(pattern, found);
                text = Cow::Owned(regex.replace_all(&text, NoExpand(pattern.mark())).into_owned());
            }
        }
        if self.cards
            && let Some((cleaned, found)) = cards::replace(&text, Pattern::Cards.mark())
        {
            self.count(Pattern::Cards, found);
            text = Cow::Owned(cleaned);
        }
        match text {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(text),
        }
    }

    fn count(&self, pattern: Pattern, found: usize) {
        if let Some(count) = Pattern::ALL.iter().position(|p| *p == pattern).and_then(|i| self.counts.get(i))
        {
            count.add(found as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::{Message, Role, ToolCall, ToolResult};
    use proptest::prelude::*;

    fn all() -> Redactor {
        let redactor = Redactor::new(&Redact { patterns: Pattern::ALL.to_vec() });
        assert!(redactor.keys.is_some() && redactor.mails.is_some());
        redactor
    }

    fn clean(text: &str) -> String {
        all().clean(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn keys_mails_and_cards_leave_a_mark_each() {
        // Put together here, so that no scanner takes this file for a leak.
        let keys = [
            format!("sk-{}", "aB3".repeat(16)),
            format!("sk-ant-api03-{}", "aB3_".repeat(12)),
            format!("sk_live_{}", "a1".repeat(12)),
            format!("ghp_{}", "a1".repeat(18)),
            format!("github_pat_{}", "a1".repeat(20)),
            format!("glpat-{}", "a1".repeat(10)),
            format!("xoxb-{}", "12345-".repeat(4)),
            format!("AIza{}", "aB3_-".repeat(7)),
            format!("AKIA{}", "A1B2".repeat(4)),
            format!("eyJ{0}.eyJ{0}.{0}", "aB3_".repeat(4)),
            format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----", "aB3+/".repeat(30)),
        ];
        for key in &keys {
            assert_eq!(
                clean(&format!("my key is {key}, use it")),
                "my key is [REDACTED:key], use it",
                "{key}"
            );
        }
        for mail in ["a@b.de", "first.last+tag@sub.example.co.uk", "x_%@ex-ample.museum"] {
            assert_eq!(clean(&format!("<{mail}>.")), "<[REDACTED:mail]>.", "{mail}");
        }
        assert_eq!(clean("card 4111 1111 1111 1111!"), "card [REDACTED:card]!");
    }

    #[test]
    fn every_text_of_a_message_is_cleaned() {
        let mail = || "a@b.de".to_owned();
        let parts = vec![
            Part::Text(mail()),
            Part::ToolCall(ToolCall { arguments: mail(), ..ToolCall::default() }),
            Part::ToolResult(ToolResult { content: mail(), ..ToolResult::default() }),
        ];
        let mut request = TextRequest::prompt(mail());
        request.messages.push(Message { role: Role::User, content: Content::Parts(parts) });
        all().text(&mut request);
        assert!(!format!("{request:?}").contains("a@b.de"), "{request:?}");
        let inputs = vec!["plain".into(), mail()];
        let request = all().embedding(&EmbeddingRequest { inputs, ..EmbeddingRequest::default() });
        assert_eq!(request.unwrap().inputs, ["plain", "[REDACTED:mail]"]);
        let inputs = vec!["plain".into()];
        assert!(all().embedding(&EmbeddingRequest { inputs, ..EmbeddingRequest::default() }).is_none());
    }

    #[test]
    fn what_is_none_of_them_stays() {
        let kept = "the task-force-of-the-managing-director met @noon; a@b has no domain; sk-short; 4111 1111 1111 1112; \
                    AKIA in Finland; eyJ.eyJ.eyJ; 2026-11-30T09:00:00Z; 1700000000000000; [REDACTED:mail]";
        assert_eq!(all().clean(kept), None);
    }

    #[test]
    fn only_what_is_asked_for_is_taken_out_and_it_is_counted() {
        let redactor = Redactor::new(&Redact { patterns: vec![Pattern::Mails] });
        let text = "a@b.de, c@d.de and 4111111111111111";
        assert_eq!(redactor.clean(text).unwrap(), "[REDACTED:mail], [REDACTED:mail] and 4111111111111111");
        assert_eq!(redactor.counts(), [("keys", 0), ("cards", 0), ("mails", 2)]);
        assert_eq!(Redactor::new(&Redact::default()).clean(text), None);
    }

    /// Anything, with what is looked for in it.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ -~äöü€]{0,20}",
            "sk-[A-Za-z0-9]{20,30}",
            "[a-z.+]{1,9}@[a-z-]{1,9}\\.[a-z]{2,3}",
            "4111[ -]?1111[ -]?1111[ -]?1111",
            "[0-9]{1,25}",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.join(" "))
    }

    proptest! {
        #[test]
        fn what_was_cleaned_is_clean(text in texts()) {
            let cleaned = clean(&text);
            prop_assert_eq!(all().clean(&cleaned), None, "{}", cleaned);
        }

        #[test]
        fn a_card_a_mail_and_a_key_never_get_through(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            let text = format!("{before} 378282246310005 someone@example.org sk-{} {after}", "x7".repeat(12));
            let cleaned = clean(&text);
            for secret in ["378282246310005", "someone@example.org", "x7x7"] {
                prop_assert!(!cleaned.contains(secret), "{}", cleaned);
            }
        }
    }
}
