//! What is asked for on the command line.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// How the command is used.
pub(super) const USAGE: &str = "\
usage: cargo xtask loadtest [NAME [--duration D] [--rate N] [--keep DIR] [--no-build]]

  --duration D   how long it lasts, such as 90s, 5m, 1h30m, instead of the script's own
  --rate N       iterations a second, instead of the script's own; what it means, the script says
  --keep DIR     keep what replicas and k6 said, and every row k6 wrote, in DIR
  --no-build     take the release build as it is";

/// One run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The script's name.
    pub(super) name: String,
    /// How long it lasts, in seconds. None: as long as the script says.
    pub(super) seconds: Option<u64>,
    /// Iterations a second. None: as the script says.
    pub(super) rate: Option<u64>,
    /// Where logs and raw rows are kept.
    pub(super) keep: Option<PathBuf>,
    /// Whether to build first.
    pub(super) build: bool,
}

impl Asked {
    /// Reads the arguments. None if there are none: then the scripts are listed.
    ///
    /// # Errors
    /// Says which argument is none, and how the command is used.
    pub(super) fn parse(args: &[String]) -> Result<Option<Self>> {
        let Some((name, mut rest)) = args.split_first() else { return Ok(None) };
        if name.starts_with('-') {
            bail!("the script's name comes first\n{USAGE}");
        }
        let mut asked = Self { name: name.clone(), seconds: None, rate: None, keep: None, build: true };
        while let Some((option, after)) = rest.split_first() {
            rest = after;
            if option == "--no-build" {
                asked.build = false;
                continue;
            }
            if !["--duration", "--rate", "--keep"].contains(&option.as_str()) {
                bail!("there is no option `{option}`\n{USAGE}");
            }
            let (value, after) = rest.split_first().with_context(|| format!("{option} needs a value"))?;
            rest = after;
            match option.as_str() {
                "--duration" => asked.seconds = Some(seconds(value)?),
                "--rate" => asked.rate = Some(rate(value)?),
                _ => asked.keep = Some(PathBuf::from(value)),
            }
        }
        Ok(Some(asked))
    }
}

/// A span with units, in whole seconds. The scripts divide it, so that less than six make no sense.
fn seconds(text: &str) -> Result<u64> {
    match span(text) {
        Some(seconds) if seconds >= 6.0 && seconds.fract() == 0.0 => Ok(seconds as u64),
        _ => bail!("`{text}` is no duration of whole seconds, at least 6s, such as 90s, 5m or 1h30m"),
    }
}

fn rate(text: &str) -> Result<u64> {
    match text.parse() {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => bail!("`{text}` is no number of iterations a second"),
    }
}

/// A span as people and k6 write it, in seconds: `90s`, `1h30m`, `1m0s`, `500ms`. None if it is none.
pub(super) fn span(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let one = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * one;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// The scripts of a folder by name, each with its first line, which says what it is for.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn scripts(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "js") {
            continue;
        }
        let Some(name) = path.file_stem() else { continue };
        let text = std::fs::read_to_string(&path)?;
        let first = text.lines().next().unwrap_or_default().trim_start_matches('/').trim();
        scripts.push((name.to_string_lossy().into_owned(), first.to_owned()));
    }
    scripts.sort();
    Ok(scripts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Asked>> {
        Asked::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_run_is_asked_for_by_name_with_options() {
        let asked = parse("soak --duration 1h30m --rate 20 --keep out --no-build").unwrap().unwrap();
        let keep = Some(PathBuf::from("out"));
        assert_eq!(
            asked,
            Asked { name: "soak".into(), seconds: Some(5400), rate: Some(20), keep, build: false }
        );
        let plain = parse("smoke").unwrap().unwrap();
        assert_eq!((plain.seconds, plain.rate, plain.keep, plain.build), (None, None, None, true));
        assert_eq!(parse("").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, said) in [
            ("--rate 5", "the script's name comes first"),
            ("smoke --speed 5", "there is no option `--speed`"),
            ("smoke --rate", "--rate needs a value"),
            ("smoke --rate 0", "`0` is no number"),
            ("smoke --duration 5", "`5` is no duration"),
            ("smoke --duration 2s", "`2s` is no duration"),
            ("smoke --duration 7500ms", "`7500ms` is no duration"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.starts_with(said), "{line}: {error}");
        }
    }

    #[test]
    fn spans_are_read_as_k6_writes_them() {
        for (text, seconds) in
            [("90s", 90.0), ("1m0s", 60.0), ("1h0m30s", 3630.0), ("500ms", 0.5), ("1.5s", 1.5)]
        {
            assert_eq!(span(text), Some(seconds), "{text}");
        }
        for text in ["", "5", "s", "5d", "1m5", "1.2.3s"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn every_script_says_what_it_is_for() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest");
        let scripts = scripts(&folder).unwrap();
        let names: Vec<_> = scripts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["failover", "mixed", "ramp", "smoke", "soak", "spike", "steady"]);
        assert!(scripts.iter().all(|(_, line)| line.len() > 20), "{scripts:?}");
    }
}
