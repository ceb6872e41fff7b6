//! Aligned columns.

use super::style::{Paint, Palette, clean};
use console::measure_text_width;

/// Between two columns.
const GAP: &str = "  ";

/// One cell: text with a meaning.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// Text in a colour. It is put on one line and rid of control characters.
    #[must_use]
    pub fn new(text: impl AsRef<str>, paint: Paint) -> Self {
        Self { text: clean(text.as_ref()), paint }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Paint::Plain)
    }
}

/// Rows under a header.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows. A header that begins with `>` aligns its column to the right.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, of as many cells as the header has.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The lines of the table. Where `width` is given, the last column is cut to fit it.
    #[must_use]
    pub fn render(&self, palette: Palette, width: Option<usize>) -> String {
        let names: Vec<_> = self.header.iter().map(|h| h.trim_start_matches('>')).collect();
        let right: Vec<_> = self.header.iter().map(|h| h.starts_with('>')).collect();
        let mut widths: Vec<_> = names.iter().map(|n| n.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(&cell.text));
            }
        }
        let head: Vec<_> = names.iter().map(|n| Cell::new(n, Paint::Dim)).collect();
        let mut out = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            let mut used = 0;
            for (i, cell) in row.iter().enumerate() {
                let column = widths.get(i).copied().unwrap_or(0);
                let last = i + 1 == row.len();
                let text = match width {
                    Some(width) if last => cut(&cell.text, width.saturating_sub(used).max(1)),
                    _ => cell.text.clone(),
                };
                let pad = " ".repeat(column.saturating_sub(measure_text_width(&text)));
                let painted = palette.paint(&text, cell.paint);
                match (right.get(i), last) {
                    (Some(true), _) => line.extend([pad, painted]),
                    (_, true) => line.push_str(&painted),
                    _ => line.extend([painted, pad]),
                }
                if !last {
                    line.push_str(GAP);
                }
                used += column + GAP.len();
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Names and values, one a line, with the values aligned.
#[must_use]
pub fn pairs(rows: &[(&str, Cell)], palette: Palette) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, cell) in rows {
        let name = palette.paint(&format!("{name:width$}"), Paint::Dim);
        let line = format!("{name}{GAP}{}", palette.paint(&cell.text, cell.paint));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Text cut to a width, with a mark where something is missing.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", ">COUNT", "NOTE"]);
        table.row(vec!["日本".into(), "7".into(), "".into()]);
        table.row(vec!["b".into(), Cell::new("1234567", Paint::Good), "a long note that goes on".into()]);
        table
    }

    #[test]
    fn columns_line_up_by_what_is_seen() {
        insta::assert_snapshot!(table().render(Palette::plain(), None), @r"
        NAME    COUNT  NOTE
        日本        7
        b     1234567  a long note that goes on
        ");
        let colored = table().render(Palette::new(true), None);
        assert_eq!(console::strip_ansi_codes(&colored), table().render(Palette::plain(), None));
        assert!(colored.contains("\u{1b}["));
    }

    #[test]
    fn only_the_last_column_is_cut() {
        let text = table().render(Palette::plain(), Some(30));
        assert!(text.ends_with("b     1234567  a long note th…\n"), "{text}");
    }
}
