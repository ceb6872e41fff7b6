//! Vectors, as a person can make something of them.

use super::style::Palette;
use super::table::{Cell, Table};
use callboard_client::v1;

/// How many numbers of a vector are shown.
const SHOWN: usize = 4;

/// Each text with how long its vector is, how it begins, and how alike it is to the first.
#[must_use]
pub fn vectors(
    texts: &[String],
    vectors: &[v1::Embedding],
    palette: Palette,
    width: Option<usize>,
) -> String {
    let several = vectors.len() > 1;
    let mut header = vec![">NUMBERS", "BEGIN WITH"];
    header.extend(several.then_some(">LIKE THE FIRST"));
    header.push("TEXT");
    let mut table = Table::new(&header);
    let first = vectors.first().map(|vector| vector.values.as_slice()).unwrap_or_default();
    for (text, v1::Embedding { values }) in texts.iter().zip(vectors) {
        let begin: Vec<_> = values.iter().take(SHOWN).map(|number| format!("{number:.4}")).collect();
        let mut row = vec![Cell::from(values.len().to_string()), Cell::from(begin.join(" "))];
        row.extend(several.then(|| Cell::from(format!("{:.3}", cosine(first, values)))));
        row.push(Cell::from(text));
        table.row(row);
    }
    table.render(palette, width)
}

/// The cosine of the angle between two vectors; zero where one has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_texts_are_compared_with_the_first() {
        let of = |values: &[f32]| v1::Embedding { values: values.to_vec() };
        let texts = ["green tea".to_owned(), "black\ntea".into(), "a lorry".into(), "nothing".into()];
        let all = [of(&[3.0, 4.0]), of(&[4.0, 3.0]), of(&[-3.0, -4.0]), of(&[0.0, 0.0])];
        insta::assert_snapshot!(vectors(&texts, &all, Palette::plain(), None));
        let one = vectors(&texts[..1], &[of(&[0.5; 9])], Palette::plain(), None);
        assert!(!one.contains("LIKE") && one.contains("9  0.5000 0.5000 0.5000 0.5000  green tea"), "{one}");
    }
}
