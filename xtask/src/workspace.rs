//! What the checks look at: the packages as cargo sees them, and the text of the tree.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folders whose text is checked. Everything else in the root is configuration or not ours.
const FOLDERS: &[&str] = &["nodes", "xtask", "proto", "migrations", "docs"];
const EXTENSIONS: &[&str] = &["rs", "proto", "sql", "toml", "md"];

/// The workspace at one moment.
pub(crate) struct Workspace {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Its packages, by name.
    pub(crate) packages: Vec<Package>,
    /// Its text files, by path.
    pub(crate) files: Vec<File>,
}

/// A package of the workspace.
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// The path of its `Cargo.toml` from the root.
    pub(crate) manifest: String,
    /// The other packages of the workspace that it names.
    pub(crate) uses: Vec<Use>,
    /// The paths of its library's and its binaries' root files from the root.
    pub(crate) roots: Vec<String>,
}

/// One package of the workspace named by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The package that is named.
    pub(crate) name: String,
    /// Whether it is for tests, benches and examples only.
    pub(crate) dev: bool,
}

/// A text file.
pub(crate) struct File {
    /// Its path from the root, with `/` between its parts.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// The workspace's folder: the one above the package that cargo runs.
///
/// # Errors
/// If neither cargo nor the current folder says where it is.
pub(crate) fn root() -> Result<PathBuf> {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(xtask) => {
            let root = Path::new(&xtask).parent().context("the package has no folder above it")?;
            Ok(root.to_owned())
        }
        None => std::env::current_dir().context("there is no current folder"),
    }
}

impl Workspace {
    /// Reads the workspace.
    ///
    /// # Errors
    /// If cargo cannot describe it or a file cannot be read.
    pub(crate) fn load() -> Result<Self> {
        let root = root()?;
        let metadata = shell::read(shell::cargo(&root, ["metadata", "--no-deps", "--format-version", "1"]))?;
        let packages = packages(&metadata).context("`cargo metadata` printed something unexpected")?;
        let mut files = Vec::new();
        for folder in FOLDERS {
            collect(&root, folder, &mut files)?;
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root, packages, files })
    }

    /// The text of a file.
    ///
    /// # Errors
    /// If it is not among [`Self::files`].
    pub(crate) fn text(&self, path: &str) -> Result<&str> {
        let found = self.files.binary_search_by(|file| file.path.as_str().cmp(path));
        let at = found.ok().with_context(|| format!("there is no file {path}"))?;
        self.files.get(at).map(|file| file.text.as_str()).with_context(|| format!("there is no file {path}"))
    }
}

fn collect(root: &Path, folder: &str, files: &mut Vec<File>) -> Result<()> {
    let full = root.join(folder);
    let entries = std::fs::read_dir(&full).with_context(|| format!("cannot read {}", full.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", full.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if entry.file_type().with_context(|| format!("cannot read {path}"))?.is_dir() {
            // A crate built by itself leaves a target folder of its own.
            if name != "target" && !name.starts_with('.') {
                collect(root, &path, files)?;
            }
        } else if Path::new(&name).extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)) {
            let text =
                std::fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.push(File { path, text });
        }
    }
    Ok(())
}

/// The packages in what `cargo metadata` prints; `None` if it has another shape.
fn packages(metadata: &str) -> Option<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let root = metadata["workspace_root"].as_str()?;
    let listed = metadata["packages"].as_array()?;
    let mut packages: Vec<_> =
        listed.iter().map(|package| self::package(package, root)).collect::<Option<_>>()?;
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Some(packages)
}

fn package(package: &Value, root: &str) -> Option<Package> {
    let mut uses = Vec::new();
    for dependency in package["dependencies"].as_array()? {
        // Only what comes from a path is ours.
        if dependency["path"].is_string() {
            let name = dependency["name"].as_str()?.to_owned();
            uses.push(Use { name, dev: dependency["kind"].as_str() == Some("dev") });
        }
    }
    let mut roots = Vec::new();
    for target in package["targets"].as_array()? {
        let kinds = target["kind"].as_array()?;
        if kinds.iter().any(|kind| kind == "lib" || kind == "bin" || kind == "proc-macro") {
            roots.push(relative(target["src_path"].as_str()?, root));
        }
    }
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        manifest: relative(package["manifest_path"].as_str()?, root),
        uses,
        roots,
    })
}

fn relative(path: &str, root: &str) -> String {
    path.strip_prefix(root).unwrap_or(path).replace('\\', "/").trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_what_cargo_prints() {
        let metadata = r#"{"workspace_root": "/w", "packages": [{
            "name": "callboard-worker", "manifest_path": "/w/nodes/worker/Cargo.toml",
            "dependencies": [
                {"name": "actix", "kind": null},
                {"name": "callboard-sdk", "kind": null, "path": "/w/nodes/sdk"},
                {"name": "callboard-testkit", "kind": "dev", "path": "/w/nodes/testkit"}],
            "targets": [
                {"kind": ["lib"], "src_path": "/w/nodes/worker/src/lib.rs"},
                {"kind": ["test"], "src_path": "/w/nodes/worker/tests/it/main.rs"}]}]}"#;
        let packages = packages(metadata).unwrap();
        let [worker] = packages.as_slice() else { panic!("one package was given") };
        assert_eq!(worker.name, "callboard-worker");
        assert_eq!(worker.manifest, "nodes/worker/Cargo.toml");
        assert_eq!(worker.roots, ["nodes/worker/src/lib.rs"]);
        let named: Vec<_> = worker.uses.iter().map(|used| (used.name.as_str(), used.dev)).collect();
        assert_eq!(named, [("callboard-sdk", false), ("callboard-testkit", true)]);
    }

    #[test]
    fn another_shape_is_refused() {
        assert!(packages("{}").is_none());
        assert!(packages("not json").is_none());
    }

    #[test]
    fn this_workspace_can_be_read() {
        let workspace = Workspace::load().unwrap();
        assert!(workspace.packages.iter().any(|package| package.name == "xtask"));
        assert!(workspace.text("xtask/src/workspace.rs").unwrap().contains("fn this_workspace_can_be_read"));
        assert!(workspace.text("xtask/src/nowhere.rs").is_err());
    }
}
