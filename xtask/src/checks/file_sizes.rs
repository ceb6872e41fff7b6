//! No source file is longer than a person reads in one go.

use super::Problems;
use crate::workspace::File;

/// The most lines of a `.rs` file.
const LINES: usize = 500;

/// Files that may be longer, with the reason. An entry that is no longer needed is a problem too.
const ALLOWED: &[(&str, &str)] = &[];

/// Looks at every `.rs` file.
pub(super) fn check(files: &[File]) -> Problems {
    problems(files, ALLOWED)
}

fn problems(files: &[File], allowed: &[(&str, &str)]) -> Problems {
    let mut problems = Vec::new();
    let mut used = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let lines = file.text.lines().count();
        if lines <= LINES {
            continue;
        }
        if allowed.iter().any(|(path, reason)| *path == file.path && !reason.trim().is_empty()) {
            used.push(file.path.as_str());
        } else {
            problems.push(format!(
                "{} has {lines} lines, over {LINES}: split it by what its parts do",
                file.path
            ));
        }
    }
    for (path, reason) in allowed {
        if !used.contains(path) {
            problems
                .push(format!("{path} is allowed to be long (\"{reason}\") but is not, or gives no reason"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines: usize) -> File {
        File { path: path.to_owned(), text: "//\n".repeat(lines) }
    }

    #[test]
    fn a_long_file_is_found() {
        let files = [file("nodes/a/src/lib.rs", LINES), file("nodes/b/src/lib.rs", LINES + 1)];
        let found = problems(&files, &[]);
        assert_eq!(found, ["nodes/b/src/lib.rs has 501 lines, over 500: split it by what its parts do"]);
    }

    #[test]
    fn other_files_may_be_long() {
        assert_eq!(problems(&[file("docs/long.md", LINES * 2)], &[]), Problems::new());
    }

    #[test]
    fn a_long_file_is_allowed_only_with_a_reason() {
        let files = [file("nodes/a/src/table.rs", LINES + 1)];
        assert_eq!(problems(&files, &[("nodes/a/src/table.rs", "one table")]), Problems::new());
        assert_eq!(problems(&files, &[("nodes/a/src/table.rs", " ")]).len(), 2);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_found() {
        assert_eq!(
            problems(&[file("nodes/a/src/table.rs", 3)], &[("nodes/a/src/table.rs", "one table")]).len(),
            1
        );
    }
}
