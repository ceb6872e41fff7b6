//! How to call this program from where the person stands: after `cargo run` it is not on the PATH.

use std::path::{Path, PathBuf};

/// The words that start this program from the current folder, for hints.
#[must_use]
pub fn program() -> String {
    let Ok(executable) = std::env::current_exe() else { return "callboard".to_owned() };
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    let found = path.iter().map(|folder| folder.join("callboard")).find(|file| file.is_file());
    let on_path = found.and_then(|file| file.canonicalize().ok()) == executable.canonicalize().ok();
    let folder = std::env::current_dir().ok();
    words(&executable, on_path, folder.as_deref())
}

fn words(executable: &Path, on_path: bool, folder: Option<&Path>) -> String {
    if on_path {
        return "callboard".to_owned();
    }
    let path = match folder.and_then(|f| executable.strip_prefix(f).ok()) {
        // A bare name would be looked up on the PATH.
        Some(relative) if relative.components().count() == 1 => Path::new(".").join(relative),
        Some(relative) => relative.to_path_buf(),
        None => executable.to_path_buf(),
    };
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_work_from_where_the_person_stands() {
        let at = |exe: &str, on_path, folder: &str| words(Path::new(exe), on_path, Some(Path::new(folder)));
        assert_eq!(at("/usr/bin/callboard", true, "/home/a"), "callboard");
        assert_eq!(
            at("/home/a/cb/target/release/callboard", false, "/home/a/cb"),
            "target/release/callboard"
        );
        assert_eq!(at("/home/a/callboard", false, "/home/a"), "./callboard");
        assert_eq!(at("/opt/callboard", false, "/home/a"), "/opt/callboard");
        assert_eq!(at("/home/a/my code/callboard", false, "/"), "'home/a/my code/callboard'");
    }
}
