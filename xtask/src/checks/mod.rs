//! The checks of `cargo xtask ci`. Each looks at the whole workspace and reports every problem it finds.
//!
//! Those that read text are pure functions over it, each tested with a planted violation.

mod arrows;
mod cargo;
mod error_pages;
mod file_sizes;
mod headers;
mod lints;
mod marks;
mod prometheus;
mod proto_comments;
mod snippets;

use crate::workspace::Workspace;
use anyhow::Result;

/// What a check found wrong, each on a line; empty if all is well.
pub(crate) type Problems = Vec<String>;

/// Why a check could not be made here. It is no failure, and is said.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// One check.
pub(crate) struct Check {
    /// Its name, as it is printed.
    pub(crate) name: &'static str,
    /// Runs it.
    ///
    /// # Errors
    /// If it could not look at what it checks.
    pub(crate) run: fn(&Workspace) -> Result<Problems>,
}

/// Every check, the quick ones first.
pub(crate) const ALL: &[Check] = &[
    Check { name: "arrows", run: arrows::check },
    Check { name: "file-sizes", run: |w| Ok(file_sizes::check(&w.files)) },
    Check { name: "proto-comments", run: |w| Ok(proto_comments::check(&w.files)) },
    Check { name: "crate-headers", run: headers::check },
    Check { name: "error-pages", run: error_pages::check },
    Check { name: "snippets", run: snippets::check },
    Check { name: "workspace-lints", run: lints::check },
    Check { name: "marks", run: |w| Ok(marks::check(&w.files)) },
    Check { name: "prometheus", run: prometheus::check },
    Check { name: "dependencies", run: cargo::dependencies },
    Check { name: "fmt", run: cargo::fmt },
    Check { name: "clippy", run: cargo::clippy },
];
