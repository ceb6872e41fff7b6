//! Every crate takes its lints from the workspace.

use super::Problems;
use crate::workspace::Workspace;
use anyhow::Result;

/// Looks at every `Cargo.toml`.
pub(super) fn check(workspace: &Workspace) -> Result<Problems> {
    let mut problems = Vec::new();
    for package in &workspace.packages {
        if !inherits(workspace.text(&package.manifest)?) {
            problems.push(format!("{} lacks `[lints] workspace = true`", package.manifest));
        }
    }
    Ok(problems)
}

/// Whether the section `[lints]` holds `workspace = true`. TOML has other ways to write it; we use this one.
fn inherits(manifest: &str) -> bool {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_must_be_there_and_inherit() {
        assert!(inherits("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n\n[dependencies]\n"));
        assert!(!inherits("[package]\nname = \"a\"\n"));
        assert!(!inherits("[lints]\n\n[dependencies.b]\nworkspace = true\n"));
        assert!(!inherits("[lints.rust]\nunsafe_code = \"allow\"\n"));
    }
}
