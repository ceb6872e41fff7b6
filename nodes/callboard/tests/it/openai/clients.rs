//! OpenAI's own clients, of Python and of Node.js, against the endpoint. `cargo xtask openai-clients` installs them and
//! says where in [`FOLDER`]; without it there is nothing to run.

use super::{Bench, provider};
use callboard::config::{Alias, Key, KeyHash, KeyRole};
use callboard_testkit::FakeProvider;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// The variable that names the folder they are in.
const FOLDER: &str = "CALLBOARD_TEST_OPENAI_CLIENTS";
const KEY: &str = "cb-one";
const DEADLINE: Duration = Duration::from_secs(120);

/// Where they are, if they are anywhere.
fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openai/clients")
}

/// Runs a script to its end. It says what failed.
async fn run(mut command: Command) {
    let second = FakeProvider::start().await.unwrap();
    let also = provider("second", &second);
    let bench = Bench::with(|builder| {
        builder.config(|config| {
            let key = Key {
                name: "clients".into(),
                hash: KeyHash::of(KEY),
                namespace: String::new(),
                role: KeyRole::Caller,
            };
            config.openai.keys = vec![key];
            let fast = Alias { provider: "second".into(), model: "small".into() };
            config.openai.models.insert("fast".into(), fast);
            config.broker.providers.push(also);
        })
    })
    .await;
    command.env("OPENAI_BASE_URL", format!("http://{}/v1", bench.node.running.public));
    command.env("OPENAI_API_KEY", KEY).env("FAULTS_URL", bench.fake.faults_url());
    command.kill_on_drop(true).stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(DEADLINE, command.output()).await.unwrap().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 16, "{said}");
    eprintln!("{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_of_python_understands_answers_streams_and_errors() {
    let Some(folder) = folder() else { return };
    let mut python = Command::new(folder.join("python/bin/python"));
    python.arg(scripts().join("check.py"));
    run(python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_of_node_understands_answers_streams_and_errors() {
    let Some(folder) = folder() else { return };
    // Modules are found from where a script lies.
    let script = folder.join("node/check.mjs");
    std::fs::copy(scripts().join("check.mjs"), &script).unwrap();
    let mut node = Command::new("node");
    node.arg(script);
    run(node).await;
}
