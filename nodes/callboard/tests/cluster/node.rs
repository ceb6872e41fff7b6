//! A replica with kinds that the product does not have: this very program, started as one.

use bytes::Bytes;
use callboard::config::{self, Overrides};
use callboard_sdk::{Failure, Handler, KindSpec, TaskContext};
use futures::future::BoxFuture;
use std::io::Write as _;
use std::time::Duration;

/// Says that this process is to be a replica.
pub(crate) const IS_NODE: &str = "CLUSTER_TEST_IS_NODE";
/// What to run of this program then.
pub(crate) const ARGS: [&str; 5] =
    ["node::is_a_replica_when_started_as_one", "--exact", "--nocapture", "--test-threads", "2"];

/// Ends its whole process, some time after it has started.
struct Poison;

impl Handler for Poison {
    fn spec(&self) -> KindSpec {
        callboard_sdk::spec("test.poison", "Kills the node that runs it.").build()
    }

    fn run<'a>(&'a self, _: &'a TaskContext, _: Bytes) -> BoxFuture<'a, Result<Bytes, Failure>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            std::process::abort()
        })
    }
}

/// Nothing, unless a replica was asked for: then it never returns.
#[test]
fn is_a_replica_when_started_as_one() {
    if std::env::var_os(IS_NODE).is_none() {
        return;
    }
    let config = config::load(None, &|name| std::env::var(name).ok(), &Overrides::default()).unwrap();
    let registry = callboard_kinds::all().unwrap().with_handler(Poison).unwrap();
    let code = callboard::up::run(config, registry, |ready| {
        let ready = serde_json::json!({ "api": ready.node.public, "admin": ready.node.admin });
        // The test harness may have left a line unfinished.
        writeln!(std::io::stdout(), "\n{ready}")?;
        Ok(())
    });
    std::process::exit(i32::from(code.unwrap() != std::process::ExitCode::SUCCESS));
}
