//! `cargo xtask test`: every test a fresh machine can run.
//!
//! The embedded backends need nothing but a C compiler for the bundled SQLite. A backend that needs a
//! server adds a line to [`NEEDS`]: how to tell that it is there, and how to get it.

use crate::{shell, workspace};
use anyhow::{Result, bail};

/// Something that must be on the machine before the tests can run.
struct Need {
    /// What it is, for a person.
    name: &'static str,
    /// What it is for.
    purpose: &'static str,
    /// Whether it is there.
    present: fn() -> bool,
    /// What to do if it is not.
    advice: &'static str,
}

const NEEDS: &[Need] = &[Need {
    name: "a C compiler (`cc`)",
    purpose: "SQLite and the TLS library are built from C",
    present: c_compiler,
    advice: "Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc; macOS: xcode-select --install",
}];

/// Checks what the tests need, then runs `cargo test --workspace`. `args` go to `cargo test`.
///
/// # Errors
/// Names everything that is missing; or that a test failed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let missing = missing(NEEDS);
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    let root = workspace::root()?;
    shell::run(shell::cargo(
        &root,
        ["test", "--workspace"].into_iter().chain(args.iter().map(String::as_str)),
    ))
}

fn missing(needs: &[Need]) -> Vec<String> {
    needs
        .iter()
        .filter(|need| !(need.present)())
        .map(|need| format!("{} is missing: {}\n  {}", need.name, need.purpose, need.advice))
        .collect()
}

/// The compiler that build scripts use: `CC` if it is set, else `cc`.
fn c_compiler() -> bool {
    match std::env::var("CC") {
        Ok(cc) if !cc.trim().is_empty() => cc.split_whitespace().next().is_some_and(shell::exists),
        _ => shell::exists("cc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_with_the_way_to_get_it() {
        let need = |name, present| Need { name, purpose: "for this test", present, advice: "install it" };
        let missing = missing(&[need("one", || false), need("two", || true), need("three", || false)]);
        assert_eq!(
            missing,
            ["one is missing: for this test\n  install it", "three is missing: for this test\n  install it"]
        );
    }
}
