//! Certificates that were made, and which configuration key each belongs to.

use crate::certs::Made;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// What was made, in JSON.
#[derive(Debug, Serialize)]
pub struct Json<'a> {
    ca_file: &'a Path,
    ca_key_file: &'a Path,
    ca_is_new: bool,
    nodes: Vec<JsonNode<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonNode<'a> {
    name: &'a str,
    cert_file: &'a Path,
    key_file: &'a Path,
    valid_until: String,
}

impl<'a> From<&'a Made> for Json<'a> {
    fn from(made: &'a Made) -> Self {
        let nodes = made.nodes.iter().map(|node| JsonNode {
            name: &node.name,
            cert_file: &node.files.cert,
            key_file: &node.files.key,
            valid_until: node.until.to_string(),
        });
        Self {
            ca_file: &made.ca,
            ca_key_file: &made.ca_key,
            ca_is_new: made.ca_is_new,
            nodes: nodes.collect(),
        }
    }
}

/// What was made, and what goes into the configuration of each node.
#[must_use]
pub fn render(made: &Made) -> String {
    let (what, ca, key) =
        (if made.ca_is_new { "new CA" } else { "CA" }, made.ca.display(), made.ca_key.display());
    let mut out = format!("{what}: {ca}\nits key: {key} (keep it away from the nodes)\n");
    if made.nodes.is_empty() {
        out.push_str("\nNo node was named: `callboard certs init --node NAME` makes its certificate.\n");
    }
    for node in &made.nodes {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n# for the configuration of node {}, valid until {}\n[mesh]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
            node.name, node.until, node.files.ca, node.files.cert, node.files.key
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::MadeNode;
    use callboard_runtime::mesh::tls::Files;

    fn made() -> Made {
        let files = Files { ca: "/c/ca.pem".into(), cert: "/c/a.pem".into(), key: "/c/a-key.pem".into() };
        Made {
            ca: files.ca.clone(),
            ca_key: "/c/ca-key.pem".into(),
            ca_is_new: true,
            nodes: vec![MadeNode { name: "a".into(), files, until: "2027-11-23".parse().unwrap() }],
        }
    }

    #[test]
    fn it_is_told_what_goes_where() {
        insta::assert_snapshot!(render(&made()));
        insta::assert_snapshot!(render(&Made { ca_is_new: false, nodes: Vec::new(), ..made() }));
        insta::assert_snapshot!(serde_json::to_string_pretty(&Json::from(&made())).unwrap());
    }

    #[test]
    fn what_is_shown_for_a_node_is_a_configuration() {
        let shown = render(&made());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("callboard.toml");
        std::fs::write(&file, &shown[shown.find("[mesh]").unwrap()..]).unwrap();
        let config = crate::config::load(Some(&file), &|_| None, &crate::config::Overrides::default());
        let mesh = config.unwrap().mesh;
        assert!(mesh.has_tls());
        assert_eq!((mesh.ca_file, mesh.cert_file), ("/c/ca.pem".into(), "/c/a.pem".into()));
    }
}
