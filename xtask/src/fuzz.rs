//! `cargo xtask fuzz`: tries any bytes on the parsers of what providers send.
//!
//! It needs `cargo-fuzz`, which it does not install. No nightly toolchain is needed: the sanitizer is switched on by
//! telling the compiler that it may be. What is found is kept in `fuzz/artifacts`; with a fix it becomes a file of the
//! corpus, which the suite reads too.

use crate::{shell, workspace};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// How long each target is run unless it is said.
const SECONDS: u64 = 60;
/// The most bytes that are tried at once: more than any file of the corpus.
const BYTES: usize = 16 << 10;

struct Asked {
    seconds: u64,
    /// All of them if none is named.
    targets: Vec<String>,
}

fn read(args: &[String]) -> Result<Asked> {
    let mut asked = Asked { seconds: SECONDS, targets: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let number = args.next().context("--seconds: a number is missing")?;
                asked.seconds = number.parse().with_context(|| format!("--seconds: `{number}`"))?;
                // To libFuzzer it means: for ever.
                if asked.seconds == 0 {
                    bail!("--seconds: must be over zero");
                }
            }
            option if option.starts_with('-') => bail!("`{option}` is no option; there is: --seconds N"),
            target => asked.targets.push(target.to_owned()),
        }
    }
    Ok(asked)
}

/// The targets there are: each has a folder of the corpus.
fn all(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/corpus");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Runs each target for a while, or those that are named.
///
/// # Errors
/// If `cargo-fuzz` is missing, a target does not build, or something is found.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let asked = read(args)?;
    let root = workspace::root()?;
    let there = Command::new("cargo").args(["fuzz", "--version"]).stderr(Stdio::null()).output();
    if !there.is_ok_and(|output| output.status.success()) {
        bail!("cargo-fuzz is missing: cargo install cargo-fuzz");
    }
    let known = all(&root)?;
    if let Some(unknown) = asked.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target `{unknown}`; there are: {}", known.join(", "));
    }
    let targets = if asked.targets.is_empty() { known } else { asked.targets };
    for target in targets {
        shell::say(&format!("{target}, {} s", asked.seconds));
        // What is new goes into the first of the two folders: the tree stays as it is.
        let new = root.join("fuzz/target/corpus").join(&target);
        std::fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
        let mut command = shell::cargo(&root, ["fuzz", "run", &target]);
        command.env("RUSTC_BOOTSTRAP", "1").arg(&new).arg(root.join("fuzz/corpus").join(&target)).arg("--");
        command.arg(format!("-max_total_time={}", asked.seconds)).arg(format!("-max_len={BYTES}"));
        command.args(["-timeout=10", "-print_final_stats=1", "-verbosity=0"]);
        shell::run(command).with_context(|| {
            format!("{target} has found something: see fuzz/artifacts/{target}; mend it, and put the file into the corpus")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_and_what_makes_no_sense_is_not() {
        let read = |text: &str| read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let asked = read("--seconds 5 openai_stream").unwrap();
        assert_eq!((asked.seconds, asked.targets), (5, vec!["openai_stream".to_owned()]));
        for wrong in ["--seconds", "--seconds 0", "--seconds x", "--second 1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        let root = workspace::root().unwrap();
        let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let mut named: Vec<_> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
            .collect();
        named.sort_unstable();
        assert_eq!(all(&root).unwrap(), named);
    }
}
