//! No mark says that something is unfinished: what is missing is built, or is not there.

use super::Problems;
use crate::workspace::File;

/// The marks, put together here so that this file has none of them.
const MARKS: &[&str] =
    &[concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME"), concat!("#[ig", "nore")];

/// Looks at all that is compiled or executed; documents may speak of the marks.
pub(super) fn check(files: &[File]) -> Problems {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| !file.path.ends_with(".md")) {
        for (number, line) in file.text.lines().enumerate() {
            for mark in MARKS.iter().filter(|mark| line.contains(**mark)) {
                problems.push(format!("{}:{}: {mark}", file.path, number + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_found_where_it_stands() {
        for mark in MARKS {
            let text = format!("fn a() {{\n    {mark}\n}}\n");
            let found = check(&[File { path: "nodes/a/src/lib.rs".to_owned(), text }]);
            assert_eq!(found, [format!("nodes/a/src/lib.rs:2: {mark}")]);
        }
    }

    #[test]
    fn finished_code_and_documents_pass() {
        let code = File { path: "nodes/a/src/lib.rs".to_owned(), text: "fn a() {}\n".to_owned() };
        let page = File { path: "docs/a.md".to_owned(), text: format!("never write {}\n", MARKS[0]) };
        assert_eq!(check(&[code, page]), Problems::new());
    }
}
