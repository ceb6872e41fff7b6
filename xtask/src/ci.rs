//! `cargo xtask ci`: the checks that every change must pass.
//!
//! Every check runs, whatever the others find, and prints one line. The quick ones come first.

use crate::checks::{self, Check, Problems, Skipped};
use crate::shell;
use crate::workspace::Workspace;
use anyhow::{Result, bail};

/// Runs the checks that are named, or all.
///
/// # Errors
/// Names the checks that failed, or that there is no check of a name.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let chosen = choose(names)?;
    let workspace = Workspace::load()?;
    let mut failed = Vec::new();
    for check in &chosen {
        let found = (check.run)(&workspace);
        shell::say(&verdict(check.name, &found));
        let is_fine = match &found {
            Ok(problems) => problems.is_empty(),
            Err(error) => error.is::<Skipped>(),
        };
        if !is_fine {
            failed.push(check.name);
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), chosen.len(), failed.join(", "));
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Check>> {
    if let Some(unknown) = names.iter().find(|name| checks::ALL.iter().all(|check| check.name != **name)) {
        let known: Vec<_> = checks::ALL.iter().map(|check| check.name).collect();
        bail!("there is no check `{unknown}`: they are {}", known.join(", "));
    }
    let chosen = |check: &&Check| names.is_empty() || names.iter().any(|name| name == check.name);
    Ok(checks::ALL.iter().filter(chosen).collect())
}

/// One line for a check that passed or found one problem; a line more for each of several.
fn verdict(name: &str, found: &Result<Problems>) -> String {
    match found {
        Ok(problems) => match problems.as_slice() {
            [] => format!("ok   {name}"),
            [one] => format!("FAIL {name}: {one}"),
            many => format!("FAIL {name}: {} problems\n     {}", many.len(), many.join("\n     ")),
        },
        Err(error) if error.is::<Skipped>() => format!("skip {name}: {error}"),
        Err(error) => format!("FAIL {name}: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_checks_run_unless_some_are_named() {
        assert_eq!(choose(&[]).unwrap().len(), checks::ALL.len());
        let named: Vec<_> = choose(&["marks".into(), "arrows".into()]).unwrap();
        assert_eq!(named.iter().map(|check| check.name).collect::<Vec<_>>(), ["arrows", "marks"]);
        let error = choose(&["arrow".into()]).err().unwrap().to_string();
        assert!(error.starts_with("there is no check `arrow`: they are arrows, "), "{error}");
    }

    #[test]
    fn a_verdict_says_what_was_found() {
        assert_eq!(verdict("arrows", &Ok(vec![])), "ok   arrows");
        assert_eq!(verdict("arrows", &Ok(vec!["a -> b".into()])), "FAIL arrows: a -> b");
        assert_eq!(
            verdict("arrows", &Ok(vec!["a -> b".into(), "b -> c".into()])),
            "FAIL arrows: 2 problems\n     a -> b\n     b -> c"
        );
        assert_eq!(verdict("arrows", &Err(anyhow::anyhow!("no cargo"))), "FAIL arrows: no cargo");
        assert_eq!(verdict("arrows", &Err(Skipped("no tool".into()).into())), "skip arrows: no tool");
    }
}
