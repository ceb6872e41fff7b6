//! Certificates to start a cluster with: a CA of its own, and a certificate for each node.
//!
//! - Everything lies in one folder: `ca.pem` and `ca-key.pem`, and for each node `NAME.pem` and
//!   `NAME-key.pem`. Keys are readable by their owner alone.
//! - A CA that is there is used again and never replaced; a node's files only if that is asked for.
//! - What was made is verified as a node verifies it, before it is put in place.
//!
//! It revokes nothing and renews nothing by itself: a cluster with a CA of its company makes its nodes'
//! certificates there, with the DNS name [`NODE`] in each.

mod issue;
mod place;

use callboard_runtime::mesh::tls::{self, Files, Identity};
use chrono::{Days, NaiveDate};
use issue::Authority;
use place::{PRIVATE, PUBLIC, put};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use callboard_runtime::mesh::tls::NODE;

/// How long a new CA is valid, in days.
const CA_DAYS: u64 = 3_650;
/// The longest a node's certificate may be valid, in days.
pub const DAYS_MAX: u32 = 3_650;
/// The longest label of a DNS name.
const LABEL: usize = 63;

/// What to make.
#[derive(Clone, Debug)]
pub struct Request {
    /// The folder, made if it is not there.
    pub folder: PathBuf,
    /// The nodes to make certificates for. Empty: only the CA.
    pub nodes: Vec<Node>,
    /// How long the nodes' certificates are valid.
    pub days: u32,
    /// Replace the nodes' files that are there.
    pub force: bool,
    /// The present day, in UTC.
    pub today: NaiveDate,
}

/// A node to make a certificate for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, as in `node.name`: 1 to 64 of letters, digits, '.', '_' and '-'.
    pub name: String,
    /// Hosts or IP addresses it is reached at, without ports. They stand in the certificate for people and
    /// other tools; nodes find each other by the CA and [`NODE`].
    pub addresses: Vec<String>,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// Its key.
    pub ca_key: PathBuf,
    /// Whether the CA is new.
    pub ca_is_new: bool,
    /// What each node needs, in the order they were named.
    pub nodes: Vec<MadeNode>,
}

/// What one node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeNode {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: Files,
    /// The last day of its certificate.
    pub until: NaiveDate,
}

/// Why certificates are not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name or an address is wrong.
    #[error("{0}")]
    Name(String),
    /// A file is there.
    #[error("{0} exists and is not replaced; to replace a node's files give --force")]
    Exists(PathBuf),
    /// Of the CA's two files one is missing.
    #[error("{found} is there, but {missing} is not: put it back, or name another folder with --out")]
    HalfOfCa {
        /// The one that is there.
        found: PathBuf,
        /// The one that is not.
        missing: PathBuf,
    },
    /// The CA's key cannot be used.
    #[error("{path} is no key that can sign: {why}")]
    CaKey {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What the CA's key signs is not of the CA.
    #[error(
        "a certificate that {key} signs is not accepted by {ca}: {source}; `certs init` uses only a CA it made \
         itself, so with another make the nodes' certificates there, each with the DNS name {NODE}"
    )]
    NotOfCa {
        /// The file of the CA's certificate.
        ca: PathBuf,
        /// The file of its key.
        key: PathBuf,
        /// Why.
        source: Box<tls::Error>,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// Makes the CA if there is none, and the nodes' certificates. If a name is wrong or a file in the way, nothing
/// is made.
///
/// # Errors
/// [`Error`] says what to do.
pub fn init(request: &Request) -> Result<Made, Error> {
    for node in &request.nodes {
        check(node)?;
    }
    let folder = &request.folder;
    std::fs::create_dir_all(folder).map_err(|e| file("make the folder", folder, e))?;
    let files = |name: &str| Files {
        ca: folder.join("ca.pem"),
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}-key.pem")),
    };
    if !request.force {
        let wanted = request.nodes.iter().map(|node| files(&node.name));
        let mut wanted = wanted.flat_map(|files| [files.cert, files.key]);
        if let Some(there) = wanted.find(|path| path.exists()) {
            return Err(Error::Exists(there));
        }
    }
    let (authority, ca_is_new) = authority(folder, request.today)?;
    let mut made = Made {
        ca: folder.join("ca.pem"),
        ca_key: folder.join("ca-key.pem"),
        ca_is_new,
        nodes: Vec::with_capacity(request.nodes.len()),
    };
    for node in &request.nodes {
        let files = files(&node.name);
        let until = request.today.checked_add_days(Days::new(request.days.into())).unwrap_or(NaiveDate::MAX);
        let issued = authority.issue(node, request.today, until)?;
        verify(&made, &issued)?;
        // The key first: a certificate without its key would be in the way of the next attempt.
        put(&files.key, &issued.key, PRIVATE, request.force)?;
        put(&files.cert, &issued.cert, PUBLIC, request.force)?;
        made.nodes.push(MadeNode { name: node.name.clone(), files, until });
    }
    Ok(made)
}

fn file(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { what, path: path.to_owned(), source }
}

fn check(node: &Node) -> Result<(), Error> {
    let name = &node.name;
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let bad = name.is_empty()
        || name.len() > callboard_domain::limits::NAME_CHARS
        || name.starts_with('.')
        || !name.chars().all(known);
    if bad {
        return Err(Error::Name(format!(
            "`{name}` is no name for a node here: 1 to {} of letters, digits, '.', '_' and '-'",
            callboard_domain::limits::NAME_CHARS
        )));
    }
    // `x-key` would have its certificate where the key of `x` is.
    if name == "ca" || name.ends_with("-key") {
        return Err(Error::Name(format!("a node `{name}` would use the file of another's key or of the CA")));
    }
    for address in &node.addresses {
        if address.parse::<IpAddr>().is_err() && !is_host(address) {
            return Err(Error::Name(format!("`{address}` is no host and no IP address (without a port)")));
        }
    }
    Ok(())
}

/// Whether a text can stand in a certificate as a DNS name.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=LABEL).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The CA that is there, or a new one.
fn authority(folder: &Path, today: NaiveDate) -> Result<(Authority, bool), Error> {
    let (cert, key) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
    match (cert.exists(), key.exists()) {
        (true, true) => {
            let pem = std::fs::read_to_string(&key).map_err(|e| file("read", &key, e))?;
            let wrong = |e: rcgen::Error| Error::CaKey { path: key.clone(), why: e.to_string() };
            Ok((Authority::from_key(&pem).map_err(wrong)?, false))
        }
        (false, false) => {
            let until = today.checked_add_days(Days::new(CA_DAYS)).unwrap_or(NaiveDate::MAX);
            let (authority, new) = Authority::new(today, until)?;
            put(&key, &new.key, PRIVATE, false)?;
            put(&cert, &new.cert, PUBLIC, false)?;
            Ok((authority, true))
        }
        (there, _) => {
            let (found, missing) = if there { (cert, key) } else { (key, cert) };
            Err(Error::HalfOfCa { found, missing })
        }
    }
}

/// Verifies a certificate as its node will.
fn verify(made: &Made, issued: &issue::Issued) -> Result<(), Error> {
    let aside = tempfile::tempdir().map_err(|e| file("make a folder in", &std::env::temp_dir(), e))?;
    let files =
        Files { ca: made.ca.clone(), cert: aside.path().join("cert.pem"), key: aside.path().join("key.pem") };
    put(&files.cert, &issued.cert, PUBLIC, false)?;
    put(&files.key, &issued.key, PRIVATE, false)?;
    match Identity::load(&files) {
        Ok(_) => Ok(()),
        Err(source) => {
            let (ca, key) = (made.ca.clone(), made.ca_key.clone());
            Err(Error::NotOfCa { ca, key, source: Box::new(source) })
        }
    }
}

#[cfg(test)]
mod tests;
