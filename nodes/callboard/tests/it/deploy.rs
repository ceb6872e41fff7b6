//! The files under `deploy/` and the compose file name only keys that exist, and pages only what is there.

use callboard::config;
use callboard::node::METRICS;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// `NAME: value` and `ENV NAME=value` lines that set a key of the configuration.
fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("ENV "));
    let pairs = lines.filter(|line| line.starts_with("CALLBOARD_")).map(|line| {
        let (name, value) = line.split_once([':', '=']).unwrap();
        (name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned())
    });
    pairs.collect()
}

/// Sets each variable as a key in a file of its own, the way the environment would, and reads the whole.
fn load(variables: &BTreeMap<String, String>) -> Result<config::Config, config::Error> {
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in variables {
        let key = name.strip_prefix("CALLBOARD_").unwrap().to_lowercase();
        let (section, key) = key.split_once("__").unwrap_or_else(|| panic!("{name} names no section"));
        let bare = value == "true" || value == "false" || value.starts_with('[');
        let value = if bare { value.clone() } else { format!("{value:?}") };
        sections.entry(section.to_owned()).or_default().push_str(&format!("{key} = {value}\n"));
    }
    let text: String = sections.iter().map(|(section, keys)| format!("[{section}]\n{keys}")).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    config::load(Some(&path), &|_| None, &config::Overrides::default())
}

#[test]
fn every_variable_of_the_containers_is_a_key_that_exists() {
    for file in ["docker-compose.yml", "deploy/docker/Dockerfile"] {
        let variables = variables(&read(file));
        assert!(!variables.is_empty(), "{file}");
        if let Err(error) = load(&variables) {
            panic!("{file}: {error}");
        }
    }
    let mut wrong = variables(&read("docker-compose.yml"));
    wrong.insert("CALLBOARD_STORE__URI".into(), "x".into());
    assert!(load(&wrong).unwrap_err().to_string().contains("uri"));
}

#[test]
fn the_cluster_file_needs_only_the_addresses() {
    let overrides = config::Overrides::default();
    let error = config::load(Some(&root().join("deploy/cluster.toml")), &|_| None, &overrides).unwrap_err();
    let error = error.to_string();
    for key in ["store.url", "rabbitmq.url", "redis.url"] {
        assert!(error.contains(&format!("{key}: is needed")), "{error}");
    }
    assert_eq!(error.matches("is needed").count(), 3, "{error}");
}

/// What an expression names that looks like a metric of ours, with the labels it is asked for.
fn named(text: &str) -> Vec<(String, Vec<String>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let begins = ["callboard_", "process_", "gen_ai_client_"];
    for (at, _) in begins.into_iter().flat_map(|begin| text.match_indices(begin)) {
        // In the middle of a word, or of a text.
        if text[..at].ends_with(|c: char| is_part(c) || c == '-') {
            continue;
        }
        let end = text[at..].find(|c| !is_part(c)).map_or(text.len(), |length| at + length);
        let selector = text[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = selector.map_or("", |(matchers, _)| matchers).replace("\\\"", "\"");
        let labels = matchers.split(',').filter_map(|one| one.split_once(['=', '!']));
        let labels =
            labels.map(|(label, _)| label.trim().to_owned()).filter(|label| label.chars().all(is_part));
        found.push((text[at..end].to_owned(), labels.collect()));
    }
    found
}

/// What is wrong with the metrics that a text names.
fn wrong(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, labels) in named(text) {
        let of_histogram = |suffix: &str| {
            let base = name.strip_suffix(suffix)?;
            METRICS.iter().find(|metric| metric.name == base && metric.kind.name() == "histogram")
        };
        let plain = METRICS.iter().find(|metric| metric.name == name && metric.kind.name() != "histogram");
        let Some(metric) = plain.or_else(|| ["_bucket", "_sum", "_count"].into_iter().find_map(of_histogram))
        else {
            wrong.push(format!("there is no metric {name}"));
            continue;
        };
        // Prometheus itself adds these.
        let known =
            |label: &str| ["instance", "job", "le"].contains(&label) || metric.labels.contains(&label);
        wrong.extend(labels.iter().filter(|l| !known(l)).map(|label| format!("{name} has no label {label}")));
    }
    wrong
}

#[test]
fn dashboards_and_rules_name_metrics_and_labels_that_exist() {
    let dashboards =
        ["overview", "tasks", "providers", "mesh"].map(|d| format!("deploy/grafana/dashboards/{d}.json"));
    let rules = ["deploy/prometheus/rules.yml".to_owned(), "deploy/prometheus/rules_test.yml".to_owned()];
    let mut used = String::new();
    for file in dashboards.iter().chain(&rules) {
        let text = read(file);
        assert!(named(&text).len() > 5, "{file} names few metrics");
        assert_eq!(wrong(&text), Vec::<String>::new(), "{file}");
        used += &text;
    }
    // What nobody would ever look at needs no series.
    for metric in METRICS {
        assert!(used.contains(metric.name), "no dashboard and no rule uses {}", metric.name);
    }
}

#[test]
fn a_metric_or_a_label_that_is_not_there_is_found() {
    assert_eq!(wrong("sum(callboard_made_up_total)"), ["there is no metric callboard_made_up_total"]);
    assert_eq!(
        wrong("rate(callboard_handoff_lag_seconds[5m])"),
        ["there is no metric callboard_handoff_lag_seconds"]
    );
    assert_eq!(
        wrong("callboard_tasks{state=\\\"queued\\\", made_up!=\\\"x\\\"}"),
        ["callboard_tasks has no label made_up"]
    );
    assert_eq!(wrong("callboard_rpc_open{service=~\"callboard.v1.*\"} \"uid\": \"callboard-mesh\""), [""; 0]);
}

#[test]
fn the_page_about_metrics_has_a_row_for_each() {
    let page = read("docs/operations/metrics.md");
    let rows: Vec<_> = page
        .lines()
        .filter(|line| {
            ["callboard_", "process_", "gen_ai_"].iter().any(|of| line.starts_with(&format!("| `{of}")))
        })
        .collect();
    for metric in METRICS {
        let labels = metric.labels.join(", ");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let row = format!("| `{}{labels}` | {} | {} |", metric.name, metric.kind.name(), metric.help);
        let found = rows.iter().find(|line| line.starts_with(&row));
        let found =
            found.unwrap_or_else(|| panic!("docs/operations/metrics.md lacks a row that begins:\n{row}"));
        assert!(found[row.len()..].trim_matches([' ', '|']).len() > 2, "{} says not what to do", metric.name);
    }
    assert_eq!(rows.len(), METRICS.len(), "a row for what is not there");
    let rules = read("deploy/prometheus/rules.yml");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(
            page.contains(&format!("`{alert}`")),
            "docs/operations/metrics.md does not say what to do about {alert}"
        );
    }
}

#[test]
fn every_complaint_has_its_test() {
    let page = read("docs/complaints.md");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && line.contains(".rs |")).collect();
    assert!(rows.len() >= 20, "{} complaints", rows.len());
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, _, test, file, _] = cells[..] else { panic!("{row}") };
        let test = test.trim_matches('`');
        assert!(read(file).contains(&format!("fn {test}(")), "there is no test {test} in {file}");
    }
}
