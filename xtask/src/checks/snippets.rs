//! What the README shows as code is compiled: each of its Rust blocks stands in a doc-test of the SDK.

use super::Problems;
use crate::workspace::Workspace;
use anyhow::{Context, Result};

const README: &str = "README.md";
const COMPILED: &str = "nodes/sdk/src/lib.rs";

/// Looks for each block of the README in the SDK's documentation.
pub(super) fn check(workspace: &Workspace) -> Result<Problems> {
    let path = workspace.root.join(README);
    let readme = std::fs::read_to_string(&path).with_context(|| format!("cannot read {README}"))?;
    Ok(problems(&readme, workspace.text(COMPILED)?))
}

fn problems(readme: &str, source: &str) -> Problems {
    let compiled = documentation(source);
    let blocks = blocks(readme);
    let missing = blocks.iter().filter(|(_, block)| !compiled.contains(block.as_str()));
    missing
        .map(|(line, _)| format!("{README}:{line}: this code is not in a doc-test of {COMPILED}"))
        .collect()
}

/// The text of a file's `//!` comments, without the lines that documentation hides.
fn documentation(source: &str) -> String {
    let lines = source.lines().filter_map(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.filter(|line| !line.starts_with("# ")).fold(String::new(), |text, line| text + line + "\n")
}

/// The Rust blocks of a page, each with the line it begins on.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in page.lines().enumerate() {
        match open.as_mut() {
            None if line.starts_with("```rust") => open = Some((index + 1, String::new())),
            None => {}
            Some(_) if line.starts_with("```") => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "//! Title.\n//!\n//! ```\n//! let a = 1;\n//!\n//! let b = a;\n//! # hidden();\n//! ```\n\nlet c;\n";

    #[test]
    fn code_that_is_compiled_passes_and_other_languages_are_not_looked_at() {
        let readme = "# A\n```sh\nls\n```\n```rust\nlet a = 1;\n\nlet b = a;\n```\n";
        assert_eq!(problems(readme, SOURCE), Problems::new());
    }

    #[test]
    fn code_that_is_not_compiled_is_found() {
        for code in ["let a = 2;", "let c;", "hidden();"] {
            let found = problems(&format!("# A\n\n```rust\n{code}\n```\n"), SOURCE);
            assert_eq!(
                found,
                ["README.md:3: this code is not in a doc-test of nodes/sdk/src/lib.rs"],
                "{code}"
            );
        }
    }
}
