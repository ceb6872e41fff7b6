//! Every crate says at its top what it is for.

use super::Problems;
use crate::workspace::Workspace;
use anyhow::Result;

/// Looks at the root file of every library and binary.
pub(super) fn check(workspace: &Workspace) -> Result<Problems> {
    let mut problems = Vec::new();
    for root in workspace.packages.iter().flat_map(|package| &package.roots) {
        if let Some(problem) = problem(workspace.text(root)?) {
            problems.push(format!("{root} {problem}"));
        }
    }
    Ok(problems)
}

fn problem(text: &str) -> Option<&'static str> {
    match text.lines().next().and_then(|line| line.strip_prefix("//! ")) {
        None => Some("does not start with a `//!` comment that says what the crate is for"),
        Some(first) if first.split_whitespace().count() < 3 => {
            Some("starts with a `//!` comment that says nothing")
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_header_is_found() {
        assert!(problem("").is_some());
        assert!(problem("use std::fmt;\n//! Too late.").is_some());
        assert!(problem("// Not a doc comment of the crate.\n").is_some());
    }

    #[test]
    fn a_header_that_says_nothing_is_found() {
        assert!(problem("//! xtask\nfn main() {}").is_some());
        assert!(problem("//! \nfn main() {}").is_some());
    }

    #[test]
    fn a_header_passes() {
        assert_eq!(problem("//! Keeps the time.\n\nmod a;"), None);
    }
}
