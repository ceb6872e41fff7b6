//! The arrows between the crates: who may use whom.

use super::Problems;
use crate::workspace::{Package, Workspace};
use anyhow::Result;

/// A crate and the crates of the workspace that it may use. Whoever may use a crate may also use what
/// that crate passes on, so each line is written out: the table is the picture in `ARCHITECTURE.md`.
const ARROWS: &[(&str, &[&str])] = &[
    ("callboard-contracts", &[]),
    ("callboard-domain", &["callboard-contracts"]),
    ("callboard-ports", &["callboard-domain"]),
    ("callboard-backends", &["callboard-domain", "callboard-ports"]),
    ("callboard-runtime", &["callboard-contracts", "callboard-domain", "callboard-ports"]),
    ("callboard-sdk", &["callboard-domain"]),
    ("callboard-kinds", &["callboard-domain", "callboard-sdk"]),
    ("callboard-client", &["callboard-contracts"]),
    ("callboard-supervisor", ACTOR),
    ("callboard-provider-broker", ACTOR),
    ("callboard-alert", ACTOR),
    (
        "callboard-worker",
        &["callboard-contracts", "callboard-domain", "callboard-ports", "callboard-runtime", "callboard-sdk"],
    ),
    (
        "callboard",
        &[
            "callboard-alert",
            "callboard-backends",
            "callboard-client",
            "callboard-contracts",
            "callboard-domain",
            "callboard-kinds",
            "callboard-ports",
            "callboard-provider-broker",
            "callboard-runtime",
            "callboard-sdk",
            "callboard-supervisor",
            "callboard-worker",
        ],
    ),
    (TESTKIT, &["callboard-contracts", "callboard-domain", "callboard-ports", "callboard-services"]),
    ("callboard-model", &["callboard-domain"]),
    ("callboard-services", &[]),
    ("xtask", &["callboard-services"]),
];

/// What an actor stands on. No actor uses another: they talk through the clients of `contracts`.
const ACTOR: &[&str] = &["callboard-contracts", "callboard-domain", "callboard-ports", "callboard-runtime"];

/// Every crate's tests may use it, and nothing else may.
const TESTKIT: &str = "callboard-testkit";

/// Compares the packages with [`ARROWS`].
pub(super) fn check(workspace: &Workspace) -> Result<Problems> {
    Ok(problems(&workspace.packages, ARROWS))
}

fn problems(packages: &[Package], arrows: &[(&str, &[&str])]) -> Problems {
    let mut problems = Vec::new();
    for package in packages {
        let Some((_, allowed)) = arrows.iter().find(|(name, _)| *name == package.name) else {
            problems.push(format!("{} has no line in the table of arrows", package.name));
            continue;
        };
        for used in &package.uses {
            // A crate that names itself for its tests turns on one of its own features.
            let for_tests = used.dev && (used.name == TESTKIT || used.name == package.name);
            let fits = for_tests || allowed.contains(&used.name.as_str());
            if !fits {
                let how = if used.dev { "its tests use" } else { "it uses" };
                problems.push(format!("{}: {how} {}, which the arrows forbid", package.name, used.name));
            }
        }
    }
    for (name, _) in arrows {
        if !packages.iter().any(|package| package.name == *name) {
            problems.push(format!("{name} is in the table of arrows, but is no package"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Use;

    const TABLE: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];

    fn package(name: &str, uses: &[(&str, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            manifest: format!("nodes/{name}/Cargo.toml"),
            uses: uses.iter().map(|(name, dev)| Use { name: (*name).to_owned(), dev: *dev }).collect(),
            roots: Vec::new(),
        }
    }

    #[test]
    fn allowed_arrows_and_in_tests_the_testkit_and_the_crate_itself_pass() {
        let high = package("high", &[("low", false), ("low", true), ("high", true), (TESTKIT, true)]);
        assert_eq!(problems(&[package("low", &[]), high], TABLE), Problems::new());
    }

    #[test]
    fn an_arrow_that_points_back_is_found() {
        let found = problems(&[package("low", &[("high", false)]), package("high", &[])], TABLE);
        assert_eq!(found, ["low: it uses high, which the arrows forbid"]);
    }

    #[test]
    fn the_testkit_outside_tests_is_found() {
        let found = problems(&[package("low", &[]), package("high", &[(TESTKIT, false)])], TABLE);
        assert_eq!(found, ["high: it uses callboard-testkit, which the arrows forbid"]);
    }

    #[test]
    fn a_forbidden_crate_in_tests_is_found() {
        let found = problems(&[package("low", &[("high", true)]), package("high", &[])], TABLE);
        assert_eq!(found, ["low: its tests use high, which the arrows forbid"]);
    }

    #[test]
    fn table_and_packages_must_agree() {
        let found = problems(&[package("low", &[]), package("new", &[])], TABLE);
        assert_eq!(
            found,
            ["new has no line in the table of arrows", "high is in the table of arrows, but is no package"]
        );
    }

    #[test]
    fn the_table_has_no_cycle_and_no_arrow_between_actors() {
        let allowed = |name: &str| ARROWS.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, a)| *a);
        let mut seen = Vec::new();
        for (name, _) in ARROWS {
            let mut open: Vec<&str> = allowed(name).to_vec();
            seen.clear();
            while let Some(next) = open.pop() {
                assert_ne!(next, *name, "{name} reaches itself");
                if !seen.contains(&next) {
                    seen.push(next);
                    open.extend(allowed(next));
                }
            }
        }
        let actors =
            ["callboard-supervisor", "callboard-worker", "callboard-provider-broker", "callboard-alert"];
        for actor in actors {
            assert!(!allowed(actor).iter().any(|used| actors.contains(used)), "{actor} uses an actor");
        }
    }
}
