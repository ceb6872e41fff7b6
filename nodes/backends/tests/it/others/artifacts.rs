use callboard_backends::artifacts::folder;
use callboard_domain::ArtifactDigest;
use callboard_ports::Artifacts;
use callboard_ports::contract::artifacts::Fixture;
use std::sync::Arc;
use tempfile::TempDir;

struct Folder {
    folder: TempDir,
    artifacts: Arc<folder::Artifacts>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Arc::new(folder::Artifacts::open(folder.path()).unwrap());
        Self { folder, artifacts }
    }
}

#[async_trait::async_trait]
impl Fixture for Folder {
    fn artifacts(&self) -> Arc<dyn Artifacts> {
        self.artifacts.clone()
    }

    async fn reopened(&self) -> Arc<dyn Artifacts> {
        Arc::new(folder::Artifacts::open(self.folder.path()).unwrap())
    }

    async fn damage(&self, digest: ArtifactDigest) {
        // The layout is a promise: people look into the folder.
        let hex = digest.hex();
        let path = self.folder.path().join("sha256").join(&hex[..2]).join(&hex[2..]);
        let mut data = std::fs::read(&path).unwrap();
        let middle = data.len() / 2;
        data[middle] ^= 1;
        std::fs::write(&path, data).unwrap();
    }
}

callboard_ports::artifacts_contract!(|| async { Folder::new() });
