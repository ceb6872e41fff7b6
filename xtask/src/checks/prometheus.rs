//! The rules of Prometheus, by its own tool: they are rules, their tests pass, and the expressions of the dashboards are
//! expressions. That what they name exists is a test of `callboard`.
//!
//! `promtool` is found on the path, or where `PROMTOOL` says; Debian has it in the package `prometheus`.

use super::{Problems, Skipped};
use crate::shell;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const RULES: &str = "deploy/prometheus/rules.yml";
const TESTS: &str = "deploy/prometheus/rules_test.yml";
const DASHBOARDS: &str = "deploy/grafana/dashboards";

/// Runs it on all of them.
pub(super) fn check(workspace: &Workspace) -> Result<Problems> {
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".into());
    if !shell::exists(&promtool) {
        let why =
            format!("no `{promtool}` here; it is in Debian's package `prometheus`, or name it in PROMTOOL");
        return Err(Skipped(why).into());
    }
    let root = &workspace.root;
    let expressions = tempfile(root)?;
    std::fs::write(&expressions, as_rules(&dashboards(root)?)?).context("cannot write the expressions")?;
    let expressions = expressions.display().to_string();
    let mut problems = Vec::new();
    for args in [["check", "rules", RULES], ["test", "rules", TESTS], ["check", "rules", &expressions]] {
        let mut command = Command::new(&promtool);
        command.current_dir(root).args(args);
        let output = command.output().with_context(|| format!("cannot start {promtool}"))?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            problems.push(format!("{}: {}", args.join(" "), String::from_utf8_lossy(&text).trim()));
        }
    }
    Ok(problems)
}

/// Where the expressions are put: below `target`, as everything that is made.
fn tempfile(root: &Path) -> Result<std::path::PathBuf> {
    let folder = root.join("target");
    std::fs::create_dir_all(&folder).context("cannot make target/")?;
    Ok(folder.join("dashboards.rules.yml"))
}

/// The dashboards, by name.
fn dashboards(root: &Path) -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root.join(DASHBOARDS)).context(DASHBOARDS)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        all.push((name, serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// Each expression as a rule, so that it can be checked as one. JSON is YAML.
fn as_rules(dashboards: &[(String, Value)]) -> Result<String> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut rules = Vec::new();
    for (name, dashboard) in dashboards {
        for panel in list(dashboard, "panels") {
            for target in list(&panel, "targets") {
                let expression = target["expr"].as_str().unwrap_or_default();
                // Grafana fills these in.
                let expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
                let record =
                    format!("{name}:panel{}:{}", panel["id"], target["refId"].as_str().unwrap_or("none"));
                rules.push(serde_json::json!({ "record": record, "expr": expression }));
            }
        }
    }
    anyhow::ensure!(!rules.is_empty(), "the dashboards have no expression");
    Ok(serde_json::json!({ "groups": [{ "name": "dashboards", "rules": rules }] }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expression_of_a_dashboard_becomes_a_rule() {
        let target = |expr: &str| serde_json::json!({ "refId": "A", "expr": expr });
        let panel = serde_json::json!({ "id": 7, "targets": [target("rate(a{i=~\"$instance\"}[$__rate_interval])")] });
        let dashboard = ("x".to_owned(), serde_json::json!({ "panels": [panel] }));
        let rules: Value = serde_json::from_str(&as_rules(&[dashboard]).unwrap()).unwrap();
        let rule = &rules["groups"][0]["rules"][0];
        assert_eq!(
            (&rule["record"], &rule["expr"]),
            (&"x:panel7:A".into(), &"rate(a{i=~\".*\"}[5m])".into())
        );
        assert!(as_rules(&[]).is_err(), "nothing to check is a mistake, not a success");
    }
}
