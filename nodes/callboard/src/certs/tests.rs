use super::*;
use std::collections::BTreeMap;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn today() -> NaiveDate {
    chrono::Utc::now().date_naive()
}

fn request(folder: &Path, nodes: &[&str]) -> Request {
    let node =
        |name: &&str| Node { name: (*name).to_owned(), addresses: vec!["10.0.0.1".into(), "host-1".into()] };
    Request {
        folder: folder.join("certs"),
        nodes: nodes.iter().map(node).collect(),
        days: 365,
        force: false,
        today: today(),
    }
}

/// Every file of the folder with its content.
fn content(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder.join("certs")).unwrap().map(Result::unwrap);
    entries
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read_to_string(e.path()).unwrap()))
        .collect()
}

#[test]
fn a_ca_and_nodes_are_made_and_a_later_run_uses_the_same_ca() {
    let folder = tempfile::tempdir().unwrap();
    let made = init(&request(folder.path(), &["a", "b"])).unwrap();
    assert!(made.ca_is_new);
    let before = content(folder.path());
    let names: Vec<_> = before.keys().map(String::as_str).collect();
    assert_eq!(names, ["a-key.pem", "a.pem", "b-key.pem", "b.pem", "ca-key.pem", "ca.pem"]);
    let later = init(&request(folder.path(), &["c"])).unwrap();
    assert!(!later.ca_is_new);
    let after = content(folder.path());
    assert!(before.iter().all(|(name, text)| after[name] == *text), "what was there is untouched");
    for node in made.nodes.iter().chain(&later.nodes) {
        assert!(Identity::load(&node.files).is_ok(), "{node:?}");
    }
    assert_eq!(made.nodes[0].until, today() + Days::new(365));
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let made = init(&request(folder.path(), &["a"])).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&made.ca_key), mode(&made.nodes[0].files.key)), (0o600, 0o600));
    // What others may read also depends on the umask; that its owner can, does not.
    assert_eq!(mode(&made.ca) & 0o600, 0o600);
}

#[test]
fn what_is_there_is_replaced_only_if_asked_and_the_ca_never() {
    let folder = tempfile::tempdir().unwrap();
    init(&request(folder.path(), &["a"])).unwrap();
    let before = content(folder.path());
    // One name of two is taken: nothing at all is made.
    let error = init(&request(folder.path(), &["b", "a"])).unwrap_err();
    assert!(error.to_string().contains("a.pem exists") && error.to_string().contains("--force"), "{error}");
    assert_eq!(content(folder.path()), before);
    init(&Request { force: true, ..request(folder.path(), &["a"]) }).unwrap();
    let after = content(folder.path());
    assert_ne!(after["a.pem"], before["a.pem"]);
    assert_ne!(after["a-key.pem"], before["a-key.pem"]);
    assert_eq!((&after["ca.pem"], &after["ca-key.pem"]), (&before["ca.pem"], &before["ca-key.pem"]));
}

#[test]
fn half_a_ca_and_another_ca_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let made = init(&request(folder.path(), &[])).unwrap();
    assert!(made.nodes.is_empty());
    let key = std::fs::read(&made.ca_key).unwrap();
    std::fs::remove_file(&made.ca_key).unwrap();
    let error = init(&request(folder.path(), &["a"])).unwrap_err().to_string();
    assert!(error.contains("ca.pem is there, but ") && error.contains("ca-key.pem is not"), "{error}");

    let other = tempfile::tempdir().unwrap();
    let stranger = init(&request(other.path(), &[])).unwrap();
    std::fs::copy(&stranger.ca_key, &made.ca_key).unwrap();
    let error = init(&request(folder.path(), &["a"])).unwrap_err();
    assert!(matches!(&error, Error::NotOfCa { .. }), "{error:?}");
    assert!(error.to_string().contains("callboard-node"), "{error}");
    assert!(!content(folder.path()).contains_key("a.pem"), "nothing is left of the attempt");

    std::fs::write(&made.ca_key, "no key").unwrap();
    let error = init(&request(folder.path(), &["a"])).unwrap_err();
    assert!(matches!(error, Error::CaKey { .. }), "{error:?}");
    std::fs::write(&made.ca_key, key).unwrap();
    assert!(init(&request(folder.path(), &["a"])).is_ok());
}

#[test]
fn names_that_would_leave_the_folder_or_meet_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "../a", "a/b", ".a", "ca", "a-key", "ca-key", "ä", &"a".repeat(65)] {
        let error = init(&request(folder.path(), &[name])).unwrap_err();
        assert!(matches!(error, Error::Name(_)), "{name}: {error:?}");
    }
    let mut with_port = request(folder.path(), &["a"]);
    with_port.nodes[0].addresses = vec!["10.0.0.1:7071".into()];
    let error = init(&with_port).unwrap_err().to_string();
    assert!(error.contains("without a port"), "{error}");
    assert!(!folder.path().join("certs").exists(), "nothing was made");
    // No host, and yet a name.
    assert!(init(&request(folder.path(), &["a_1.-b"])).is_ok());
}

#[test]
fn a_certificate_that_would_have_expired_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let long_ago = Request { today: day("2020-01-01"), ..request(folder.path(), &["a"]) };
    let error = init(&long_ago).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("has expired"), "{source}");
}
