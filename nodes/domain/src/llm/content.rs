//! What a message holds: nearly always one text, sometimes images, or what tools were asked and said.

use super::tools::{ToolCall, ToolResult};
use bytes::Bytes;
use std::borrow::Cow;

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One text, as most are.
    Text(String),
    /// Several parts, or one that is no text.
    Parts(Vec<Part>),
}

/// A part of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A text.
    Text(String),
    /// An image, which a person shows.
    Image(Image),
    /// What a model would have a tool do.
    ToolCall(ToolCall),
    /// What a tool has said.
    ToolResult(ToolResult),
}

/// An image in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub source: ImageSource,
    /// How closely a model shall look: `low`, `high`, `auto`. A wire without such a word leaves it out.
    pub detail: Option<String>,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// At an address, from where the provider gets it; nobody else does.
    Url(String),
    /// Here.
    Data {
        /// Its media type, for example `image/png`.
        media_type: String,
        /// The image.
        data: Bytes,
    },
}

impl Image {
    /// The bytes that it takes with it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.source {
            ImageSource::Url(_) => 0,
            ImageSource::Data { data, .. } => data.len(),
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Content {
    /// What it says: its texts and what tools said, with line breaks between them.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let parts = match self {
            Self::Text(text) => return Cow::Borrowed(text),
            Self::Parts(parts) => parts,
        };
        let texts: Vec<_> = parts.iter().filter_map(Part::said).collect();
        match texts.as_slice() {
            [one] => Cow::Borrowed(one),
            _ => Cow::Owned(texts.join("\n")),
        }
    }

    /// Its parts; none where it is one text.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Text(_) => &[],
            Self::Parts(parts) => parts,
        }
    }

    /// The bytes of its text: all that a model reads as such, images left out.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Image(_) => 0,
            Part::ToolCall(call) => call.name.len() + call.arguments.len(),
            Part::ToolResult(result) => result.content.len(),
        };
        match self {
            Self::Text(text) => text.len(),
            Self::Parts(parts) => parts.iter().map(bytes).sum(),
        }
    }

    /// Its images.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.parts().iter().filter_map(|part| match part {
            Part::Image(image) => Some(image),
            _ => None,
        })
    }
}

impl Part {
    fn said(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::ToolResult(result) => Some(&result.content),
            Self::Image(_) | Self::ToolCall(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_says_its_texts_and_counts_what_a_model_reads() {
        let image = Image {
            source: ImageSource::Data { media_type: "image/png".into(), data: vec![0; 9].into() },
            detail: None,
        };
        let call = ToolCall { name: "f".into(), arguments: "{}".into(), ..ToolCall::default() };
        let parts =
            vec![Part::Text("a".into()), Part::Image(image), Part::ToolCall(call), Part::Text("b".into())];
        let content = Content::Parts(parts);
        assert_eq!((content.text(), content.text_bytes(), content.images().count()), ("a\nb".into(), 5, 1));
        assert_eq!(content.images().map(Image::bytes).sum::<usize>(), 9);
        let plain = Content::from("ab");
        assert!(matches!(plain.text(), Cow::Borrowed("ab")));
        assert_eq!((plain.text_bytes(), plain.parts().len()), (2, 0));
    }
}
