//! The arguments of direct calls to models, but for texts.

use crate::cli::values;
use clap::Args;
use std::time::Duration;

/// The arguments of `embed`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard embed 'green tea' 'black tea' 'a lorry'
  callboard embed --file lines.txt --model text-embedding-3-small --output json > vectors.json
  cat letter.txt | callboard embed - --dimensions 256

With several texts the table says how alike each is to the first: the cosine of the angle between the two.")]
pub struct EmbedArgs {
    /// The texts, or - for standard input as one text.
    #[arg(value_name = "TEXT", required_unless_present = "file")]
    pub texts: Vec<String>,
    /// A file of texts, one a line, or - for standard input. Empty lines are left out.
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    pub file: Option<String>,
    /// The model to use. [default: that of the first provider that has one for embeddings]
    #[arg(long)]
    pub model: Option<String>,
    /// The provider to use, and no other. [default: all that have the model, in order]
    #[arg(long)]
    pub provider: Option<String>,
    /// How many numbers each vector shall have. [default: as many as the model gives]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub dimensions: Option<u32>,
    /// The time the call may take over all providers.
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub timeout: Option<Duration>,
}

/// The arguments of `image`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard image 'a lamp at night' --output lamp.png
  callboard image 'a lamp at night' --size 1536x1024 --provider gemini --output lamp.png
  callboard image 'a lamp at night' > lamp.png")]
pub struct ImageArgs {
    /// What the image shows, or - for standard input.
    pub prompt: String,
    /// Its width and height in pixels, each 64 to 2048. A provider makes the nearest size it can.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size, default_value = "1024x1024")]
    pub size: (u32, u32),
    /// The provider to use, and no other. [default: all, in order]
    #[arg(long)]
    pub provider: Option<String>,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let sides = sides.filter(|(w, h)| [w, h].into_iter().all(|side| (64..=2048).contains(side)));
    sides.ok_or_else(|| {
        format!("`{text}` is no size: expected WIDTHxHEIGHT, each 64 to 2048, such as 1024x1024")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_sides_that_may_be() {
        assert_eq!(size("1536x1024"), Ok((1536, 1024)));
        for wrong in ["", "1024", "1024x", "63x64", "64x2049", "64X64", "-64x64"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
