//! Every error a caller can meet has a page under `docs/errors`, and every page is about one.

use super::Problems;
use crate::workspace::{File, Workspace};
use anyhow::{Context, Result};

const FOLDER: &str = "docs/errors/";
const INDEX: &str = "docs/errors/README.md";

/// The files and macros that list reasons: `Name = "REASON"` on each line.
const LISTS: &[(&str, &str)] =
    &[("nodes/domain/src/error.rs", "codes!"), ("nodes/domain/src/llm.rs", "kinds!")];

/// The reasons a task's attempt can fail with that stand in no list of the code.
const TASK_REASONS: &[&str] = &[
    "ARTIFACTS_UNAVAILABLE",
    "ARTIFACT_REFUSED",
    "HANDLER_FAILED",
    "INVALID_RESULT",
    "LOST_TOO_OFTEN",
    "PANIC",
    "RESULT_REFUSED",
    "RESULT_TOO_LARGE",
    "TASK_UNREADABLE",
    "TIMEOUT",
];

/// Compares the reasons in the code with the pages.
pub(super) fn check(workspace: &Workspace) -> Result<Problems> {
    let mut reasons: Vec<String> = TASK_REASONS.iter().map(|reason| (*reason).to_owned()).collect();
    for (path, list) in LISTS {
        let found = listed(workspace.text(path)?, list);
        reasons.extend(found.with_context(|| format!("{path} has no list `{list} {{ .. }}`"))?);
    }
    reasons.sort();
    reasons.dedup();
    let mut problems = compare(&reasons, &workspace.files);
    let is_source = |file: &&File| file.path.starts_with("nodes/") && file.path.contains("/src/");
    let sources: Vec<_> = workspace.files.iter().filter(is_source).collect();
    for reason in TASK_REASONS {
        let literal = format!("\"{reason}\"");
        if !sources.iter().any(|file| file.text.contains(&literal)) {
            problems.push(format!("no code says {reason} any more: drop it from the check, and its page"));
        }
    }
    // The contract suites and the testkit are tests, and make up reasons of their own.
    let is_test = |file: &&&File| file.path.contains("/contract/") || file.path.starts_with("nodes/testkit/");
    for file in sources.iter().filter(|file| !is_test(file)) {
        for reason in said(&file.text).into_iter().filter(|reason| !reasons.contains(reason)) {
            problems.push(format!("{} says {reason}, which is in no list and has no page", file.path));
        }
    }
    Ok(problems)
}

/// The reasons that a source file gives to task errors by itself, outside its tests.
fn said(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or(source);
    let mut reasons = Vec::new();
    for call in ["TaskError::new(", ".reason("] {
        for argument in code.split(call).skip(1) {
            let literal = argument.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            reasons.extend(literal.map(|(reason, _)| reason.to_owned()));
        }
    }
    reasons
}

/// The reasons of a list; `None` if there is none.
fn listed(source: &str, list: &str) -> Option<Vec<String>> {
    let opening = format!("{list} {{");
    let lines = source.lines().skip_while(|line| *line != opening).skip(1).take_while(|line| *line != "}");
    let entries = lines.map(str::trim).filter(|line| !line.starts_with("//"));
    let reasons: Vec<_> = entries.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect();
    (!reasons.is_empty()).then_some(reasons)
}

fn compare(reasons: &[String], files: &[File]) -> Problems {
    let mut problems = Vec::new();
    let index = files.iter().find(|file| file.path == INDEX).map_or("", |file| file.text.as_str());
    for reason in reasons {
        match files.iter().find(|file| file.path == format!("{FOLDER}{reason}.md")) {
            None => problems.push(format!("{reason} has no page {FOLDER}{reason}.md")),
            Some(page) if page.text.lines().next() != Some(format!("# {reason}").as_str()) => {
                problems.push(format!("{} does not start with `# {reason}`", page.path));
            }
            Some(_) if !index.contains(&format!("]({reason}.md)")) => {
                problems.push(format!("{reason} is not linked in {INDEX}"));
            }
            Some(_) => {}
        }
    }
    for file in files.iter().filter(|file| file.path.starts_with(FOLDER) && file.path != INDEX) {
        let name = file.path.trim_start_matches(FOLDER).trim_end_matches(".md");
        if !reasons.iter().any(|reason| reason == name) {
            problems.push(format!("{} is about no error", file.path));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str, text: &str) -> File {
        File { path: format!("{FOLDER}{name}.md"), text: text.to_owned() }
    }

    fn reasons() -> Vec<String> {
        vec!["TIMEOUT".to_owned()]
    }

    #[test]
    fn a_list_is_read_without_its_comments() {
        let source = "macro_rules! codes {\n    ($a = $b) => {}\n}\n\ncodes! {\n    /// Says \"NOTHING\".\n    \
                      A = \"A_REASON\" => NotFound,\n    B = \"B_REASON\", true;\n}\n\"AFTER\"\n";
        assert_eq!(listed(source, "codes!").unwrap(), ["A_REASON", "B_REASON"]);
        assert_eq!(listed(source, "kinds!"), None);
    }

    #[test]
    fn what_code_says_is_found_and_what_tests_say_is_not() {
        let source = "TaskError::new(\n    \"ONE\", text, true);\nFailure::permanent(\"x\").reason(\"TWO\");\n\
                      TaskError::new(kind.reason(), text, true);\n#[cfg(test)]\nmod tests { .reason(\"THREE\") }";
        assert_eq!(said(source), ["ONE", "TWO"]);
    }

    #[test]
    fn a_page_that_is_there_and_linked_passes() {
        let files = [page("README", "- [TIMEOUT](TIMEOUT.md)"), page("TIMEOUT", "# TIMEOUT\n")];
        assert_eq!(compare(&reasons(), &files), Problems::new());
    }

    #[test]
    fn a_missing_page_is_found() {
        assert_eq!(
            compare(&reasons(), &[page("README", "")]),
            ["TIMEOUT has no page docs/errors/TIMEOUT.md"]
        );
    }

    #[test]
    fn a_page_with_another_title_is_found() {
        let files = [page("README", "- [TIMEOUT](TIMEOUT.md)"), page("TIMEOUT", "# Time is up\n")];
        assert_eq!(compare(&reasons(), &files), ["docs/errors/TIMEOUT.md does not start with `# TIMEOUT`"]);
    }

    #[test]
    fn a_page_that_is_not_linked_is_found() {
        let files = [page("README", ""), page("TIMEOUT", "# TIMEOUT\n")];
        assert_eq!(compare(&reasons(), &files), ["TIMEOUT is not linked in docs/errors/README.md"]);
    }

    #[test]
    fn a_page_about_no_error_is_found() {
        let files = [
            page("README", "- [TIMEOUT](TIMEOUT.md)"),
            page("TIMEOUT", "# TIMEOUT\n"),
            page("OLD", "# OLD\n"),
        ];
        assert_eq!(compare(&reasons(), &files), ["docs/errors/OLD.md is about no error"]);
    }
}
