use callboard_backends::ledger::sqlite::{self, OpenError};
use callboard_ports::Ledger;
use callboard_ports::contract::ledger::Fixture;
use std::sync::Arc;
use tempfile::TempDir;

/// Two that have the same file open.
struct File {
    folder: TempDir,
    both: [Arc<sqlite::Ledger>; 2],
}

fn open(folder: &TempDir) -> Arc<sqlite::Ledger> {
    Arc::new(sqlite::Ledger::open(&folder.path().join("ledger.db")).unwrap())
}

#[async_trait::async_trait]
impl Fixture for File {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.both[0].clone()
    }

    fn other(&self) -> Arc<dyn Ledger> {
        self.both[1].clone()
    }

    async fn reopened(&self) -> Arc<dyn Ledger> {
        open(&self.folder)
    }
}

callboard_ports::ledger_contract!(|| async {
    let folder = tempfile::tempdir().unwrap();
    let both = [open(&folder), open(&folder)];
    File { folder, both }
});

#[test]
fn what_is_no_ledger_or_of_a_newer_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(sqlite::Ledger::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = sqlite::Ledger::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::NewerVersion { found: 7, .. }), "{error}");
    std::fs::write(
        folder.path().join("text"),
        "this is no ledger, but a text that is long enough to be seen as one",
    )
    .unwrap();
    let error = sqlite::Ledger::open(&folder.path().join("text")).unwrap_err();
    assert!(error.to_string().contains("text cannot be opened"), "{error}");
}
