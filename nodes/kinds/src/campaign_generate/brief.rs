//! The brief, and the prompts made of it.

use serde::Deserialize;
use std::fmt::Write;

/// The instructions the text is written under.
pub(super) const WRITER: &str = "You are a copywriter. You write short, concrete marketing texts in the \
    language of the brief. You claim nothing that the brief does not say.";

/// A marketing brief; the limits are in the schema.
#[derive(Deserialize)]
pub(crate) struct Brief {
    pub(super) product: String,
    audience: String,
    tone: Option<String>,
    channel: Option<String>,
    #[serde(default)]
    key_points: Vec<String>,
    #[serde(default = "yes")]
    pub(super) image: bool,
}

fn yes() -> bool {
    true
}

impl Brief {
    /// Asks for the text, in the form that [`super::Wording::read`] reads.
    pub(super) fn text_prompt(&self) -> String {
        let mut prompt = String::from("Write the text of a marketing campaign for this brief.\n\n");
        self.describe(&mut prompt);
        prompt.push_str(
            "\nAnswer with these three parts and nothing else:\n\
             Headline: one line of at most ten words\n\
             Body: two or three short paragraphs\n\
             Call to action: one sentence",
        );
        prompt
    }

    /// Asks for the image.
    pub(super) fn image_prompt(&self, headline: &str) -> String {
        let mut prompt = format!("A picture for a marketing campaign with the headline \"{headline}\".\n\n");
        self.describe(&mut prompt);
        prompt.push_str("\nNo words, letters or logos in the picture.");
        prompt
    }

    fn describe(&self, prompt: &mut String) {
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(prompt, "{name}: {}", value.trim());
        };
        line("Product", &self.product);
        line("Audience", &self.audience);
        if let Some(tone) = &self.tone {
            line("Tone", tone);
        }
        if let Some(channel) = &self.channel {
            line("Channel", channel);
        }
        for point in &self.key_points {
            line("Key point", point);
        }
    }
}
