//! The checks that cargo itself makes: format, lints, and what is compiled into what.

use super::Problems;
use crate::shell;
use crate::workspace::Workspace;
use anyhow::Result;

/// A package that must not be compiled into another, and why.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("callboard-contracts", "actix", "generated types know no runtime"),
    ("callboard-domain", "actix", "the core is pure"),
    ("callboard-ports", "actix", "a port knows no runtime"),
    ("callboard-backends", "actix", "a backend serves any runtime"),
    ("callboard-sdk", "actix", "a handler is a plain future"),
    ("callboard-kinds", "actix", "a handler is a plain future"),
    ("callboard-client", "actix", "callers bring their own runtime"),
    ("callboard", "ring", "two TLS providers in one process make rustls panic; aws-lc-rs is ours"),
    ("callboard", "openssl-sys", "the binary needs no library of the system"),
];

/// The feature of the deliberate bugs.
const PLANTED: &str = "planted-bugs";

/// Whether something is compiled into a crate that must not be.
pub(super) fn dependencies(workspace: &Workspace) -> Result<Problems> {
    let mut problems = Vec::new();
    for (package, forbidden, why) in FORBIDDEN {
        let args =
            ["tree", "--package", package, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
        let tree = shell::read(shell::cargo(&workspace.root, args))?;
        if contains(&tree, forbidden) {
            problems.push(format!(
                "{package} compiles {forbidden} ({why}): see `cargo tree -p {package} -i {forbidden}`"
            ));
        }
    }
    let args =
        ["tree", "--package", "callboard", "--edges", "normal,build", "--prefix", "none", "--format", "{f}"];
    if has_feature(&shell::read(shell::cargo(&workspace.root, args))?, PLANTED) {
        problems.push("callboard is built with the planted bugs, which are for tests only".to_owned());
    }
    Ok(problems)
}

/// Whether a line of `cargo tree --prefix none --format {p}` is about a package.
fn contains(tree: &str, package: &str) -> bool {
    tree.lines().any(|line| line.split_whitespace().next() == Some(package))
}

/// Whether a line of `cargo tree --prefix none --format {f}` names a feature.
fn has_feature(tree: &str, feature: &str) -> bool {
    tree.lines().flat_map(|line| line.split([',', ' '])).any(|named| named == feature)
}

/// Whether every file is formatted.
pub(super) fn fmt(workspace: &Workspace) -> Result<Problems> {
    outcome(workspace, &["fmt", "--all", "--check"])
}

/// Whether the compiler and clippy have nothing to say, about tests and benches too.
pub(super) fn clippy(workspace: &Workspace) -> Result<Problems> {
    outcome(workspace, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

/// A command shows by itself what it found; the problem only says that it did.
fn outcome(workspace: &Workspace, args: &[&str]) -> Result<Problems> {
    let done = shell::run(shell::cargo(&workspace.root, args.iter().copied()));
    Ok(done.err().map(|error| format!("{error:#}")).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_found_by_its_whole_name() {
        let tree = "callboard v0.1.0\naws-lc-rs v1.13.0\nring-like v0.1.0\n";
        assert!(!contains(tree, "ring"));
        assert!(contains(tree, "aws-lc-rs"));
        assert!(contains("callboard v0.1.0\nring v0.17.14 (*)\n", "ring"));
    }

    #[test]
    fn a_feature_is_found_by_its_whole_name() {
        assert!(has_feature("default,std\n\ncontract,planted-bugs\n", PLANTED));
        assert!(has_feature("planted-bugs (*)\n", PLANTED));
        assert!(!has_feature("default,not-planted-bugs\n", PLANTED));
    }
}
