//! `cargo xtask loadtest`: the k6 scripts of `loadtest/` against three replicas on servers of their own.
//!
//! It builds the release binary, starts PostgreSQL, RabbitMQ, Redis and the replicas, runs a script, and looks at the
//! replicas once a second meanwhile. What comes out is k6's summary and a page with charts, under
//! `target/loadtest/NAME`. Everything it started ends with it, however it ends: see `replicas::guard`.

mod asked;
mod k6;
mod page;
mod plot;
mod rows;
mod samples;
mod schedule;
mod verdict;
mod watch;

use crate::replicas::guard::Guard;
use crate::replicas::{Cluster, NAMES, Plan, last_words};
use crate::{shell, workspace};
use anyhow::{Context as _, Result, bail};
use asked::{Asked, USAGE};
use callboard_services::target_folder;
use k6::{K6, Settings};
use page::Page;
use plot::Mark;
use rows::Rows;
use samples::Sample;
use schedule::Schedule;
use serde_json::Value;
use std::path::PathBuf;
use verdict::{Left, Line};
use watch::Watch;

/// The script in which a replica is killed.
const FAILOVER: &str = "failover";

/// Lists the scripts, or runs one.
///
/// # Errors
/// It cannot be run here, or something does not hold: k6's thresholds, or what is looked for beside k6.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = workspace::root()?;
    let scripts = asked::scripts(&root.join("loadtest"))?;
    let list =
        || -> Vec<String> { scripts.iter().map(|(name, line)| format!("  {name:<9} {line}")).collect() };
    let Some(asked) = Asked::parse(args)? else {
        shell::say(&format!("{USAGE}\n\nscripts:\n{}", list().join("\n")));
        return Ok(());
    };
    let Some((_, purpose)) = scripts.iter().find(|(name, _)| *name == asked.name) else {
        bail!("there is no script `{}`; there are:\n{}", asked.name, list().join("\n"));
    };
    let target = target_folder().parent().context("there is no target folder")?.to_owned();
    let k6 = K6::find(&target.join("loadtest"))?;
    if asked.build {
        shell::run(shell::cargo(&root, ["build", "--release", "--package", "callboard"]))?;
    }
    let out = target.join("loadtest").join(&asked.name);
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out).with_context(|| format!("cannot write {}", out.display()))?;
    let test = Test { root, target, out, asked, k6 };
    let seen = test.carry_out()?;
    let lines = test.judge(&seen, purpose)?;
    for line in &lines {
        shell::say(&shown(line));
    }
    shell::say(&format!("\n{}", test.out.join("summary.html").display()));
    let failed = lines.iter().filter(|line| line.passed == Some(false)).count();
    if failed > 0 {
        bail!("{failed} of the above do not hold");
    }
    Ok(())
}

/// One run and where it happens.
struct Test {
    root: PathBuf,
    target: PathBuf,
    /// Where the summary goes.
    out: PathBuf,
    asked: Asked,
    k6: K6,
}

/// What was seen of a run.
struct Seen {
    rows: Rows,
    schedule: Schedule,
    samples: Vec<Sample>,
    marks: Vec<Mark>,
    drained: Option<f64>,
    ended: Vec<&'static str>,
    replicas: Vec<&'static str>,
    /// Whether k6 says that its thresholds hold.
    holds: bool,
}

impl Test {
    /// Starts everything, runs the script, and ends everything.
    fn carry_out(&self) -> Result<Seen> {
        let (data, logs) = self.folders()?;
        let guard = Guard::start(Some(&data))?;
        shell::complain("starting PostgreSQL, RabbitMQ, Redis and three replicas");
        let binary = self.target.join("release/callboard");
        let settings = NAMES.map(|_| {
            // A model that answers as fast as it is asked would be no load.
            vec![("CALLBOARD_BROKER__OFFLINE_LATENCY", "100ms".to_owned())]
        });
        let plan = Plan { root: &self.root, binary: &binary, data: &data, logs: &logs, settings };
        let mut cluster = Cluster::start(&guard, plan)?;
        let settings = Settings {
            script: self.root.join("loadtest").join(format!("{}.js", self.asked.name)),
            addresses: cluster.addresses(),
            summary: self.out.join("k6.json"),
            seconds: self.asked.seconds,
            rate: self.asked.rate,
        };
        let schedule = self.k6.schedule(&settings)?;
        shell::complain(&format!("running {} for {:.0} s", self.asked.name, schedule.ends()));
        let log = logs.join("k6.log");
        let raw = self.asked.keep.as_ref().map(|_| logs.join("rows.csv"));
        let run = self.k6.start(&guard, &settings, &log, raw.as_deref())?;
        let mut watch = Watch::new(&mut cluster, &guard);
        let kills = (self.asked.name == FAILOVER).then(|| schedule.ends() / 3.0);
        let (holds, rows) = watch.until_k6_ends(run, kills).with_context(|| last_words(&log))?;
        let drained = watch.until_drained();
        let (samples, marks) = watch.seen();
        let ended = cluster.ended()?;
        let replicas = cluster.replicas.iter().map(|replica| replica.name).collect();
        if !holds {
            shell::complain(&format!("what k6 said last:\n{}", last_words(&log)));
        }
        Ok(Seen { rows, schedule, samples, marks, drained, ended, replicas, holds })
    }

    /// Where the replicas' data goes, and where logs go.
    fn folders(&self) -> Result<(PathBuf, PathBuf)> {
        let data = std::env::temp_dir().join(format!("callboard-loadtest-{}", std::process::id()));
        let logs = match &self.asked.keep {
            Some(keep) => std::env::current_dir()?.join(keep),
            None => data.clone(),
        };
        for folder in [&data, &logs] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        }
        Ok((data, logs))
    }

    /// Writes the page, and returns the verdict.
    fn judge(&self, seen: &Seen, purpose: &str) -> Result<Vec<Line>> {
        let path = self.out.join("k6.json");
        let text = std::fs::read_to_string(&path).context("k6 wrote no summary")?;
        let summary: Value = serde_json::from_str(&text).context("k6's summary is no JSON")?;
        let from = seen.rows.first().context("no task was accepted")?;
        let left = Left {
            rows: &seen.rows,
            from,
            schedule: &seen.schedule,
            samples: &seen.samples,
            tasks: seen.samples.iter().rev().find_map(|sample| sample.tasks),
            drained: seen.drained,
            ended: &seen.ended,
        };
        let mut lines = verdict::thresholds(&summary)?;
        if !seen.holds && lines.iter().all(|line| line.passed == Some(true)) {
            bail!("k6 says that a threshold does not hold, and its summary that all do");
        }
        lines.extend(verdict::of_every_run(&summary, &left));
        match self.asked.name.as_str() {
            "spike" => lines.extend(verdict::recovery(&left)),
            "ramp" => lines.push(verdict::knee(&left)),
            "soak" => lines.extend(verdict::drift(&left)),
            FAILOVER => {
                let killed = seen.marks.first().map_or(0.0, |mark| mark.at - from as f64);
                lines.push(verdict::pause(&left, killed));
            }
            _ => {}
        }
        let marks: Vec<Mark> = seen
            .marks
            .iter()
            .map(|mark| Mark { name: mark.name.clone(), at: mark.at - from as f64 })
            .collect();
        let page = Page {
            name: &self.asked.name,
            purpose,
            about: &self.about(),
            verdict: &lines,
            summary: &summary,
            rows: &seen.rows,
            samples: &seen.samples,
            from,
            schedule: &seen.schedule,
            marks: &marks,
            replicas: &seen.replicas,
        };
        let html = self.out.join("summary.html");
        std::fs::write(&html, page.html()).with_context(|| format!("cannot write {}", html.display()))?;
        for (name, figures) in page::latencies(&summary) {
            shell::say(&format!("{name:<42} {}", figures.join("  ")));
        }
        Ok(lines)
    }

    fn about(&self) -> Vec<String> {
        let asked = &self.asked;
        let set = |name: &str, value: Option<u64>| value.map(|value| format!(", {name} {value}"));
        let settings = set("seconds", asked.seconds).unwrap_or_default()
            + &set("iterations a second", asked.rate).unwrap_or_default();
        vec![
            format!("{}; servers, replicas and k6 share it", samples::machine()),
            format!(
                "callboard {}, {}, three replicas{settings}",
                env!("CARGO_PKG_VERSION"),
                self.k6.version()
            ),
        ]
    }
}

fn shown(line: &Line) -> String {
    let verdict = match line.passed {
        Some(true) => "ok  ",
        Some(false) => "FAIL",
        None => "    ",
    };
    let expected = if line.expected.is_empty() { String::new() } else { format!(" [{}]", line.expected) };
    format!("{verdict} {}{expected}: {}", line.what, line.seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_expected_and_seen() {
        let line =
            |passed| Line { what: "checks".into(), expected: "rate==1".into(), seen: "0.9".into(), passed };
        assert_eq!(shown(&line(Some(false))), "FAIL checks [rate==1]: 0.9");
        let told = Line { expected: String::new(), ..line(None) };
        assert_eq!(shown(&told), "     checks: 0.9");
    }

    #[test]
    fn an_unknown_script_is_named_with_those_there_are() {
        let error = run(&["smokes".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("there is no script `smokes`; there are:\n  failover "), "{error}");
    }
}
