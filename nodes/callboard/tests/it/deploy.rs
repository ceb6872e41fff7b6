//! The files under `deploy/` and the compose file name only keys that exist.

use callboard::config;
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
