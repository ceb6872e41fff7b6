//! Who may be part of the mesh: whoever shows a certificate that the cluster's CA made for a node.
//!
//! - Both sides verify: the certificate is of the CA, is valid now, and is a node's: it names [`NODE`].
//!   Names of nodes and addresses in a certificate are for people; nodes move.
//! - TLS 1.3 alone, with aws-lc-rs, and no resumption: each connection is verified anew.
//!
//! It makes no certificates: `callboard certs init` does.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name that stands in the certificate of every node (as DNS name), and of nothing else.
pub const NODE: &str = "callboard-node";

const H2: &[u8] = b"h2";

/// The files of a node's identity, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The cluster's CA.
    pub ca: PathBuf,
    /// The node's certificate, followed by intermediate ones if there are any.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why an identity cannot be used. Each names the configuration key and the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{key}: cannot read {path}")]
    Read {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key}: {path} holds {what}")]
    Content {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The certificate is of no use with this CA, now.
    #[error("mesh.cert_file: {cert} cannot be used with the CA {ca}: {why}")]
    Refused {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the CA.
        ca: PathBuf,
        /// Why.
        why: String,
    },
    /// The files do not go together.
    #[error("mesh.key_file: {key} is not the key of {cert}: {why}")]
    Key {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        cert: PathBuf,
        /// Why.
        why: String,
    },
}

/// What a node shows others, and how it verifies them.
#[derive(Clone)]
pub struct Identity {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl std::fmt::Debug for Identity {
    /// The configurations hold the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Loads a node's identity and verifies it as another node would. A key that others on the machine can
    /// read is used, with a warning.
    ///
    /// # Errors
    /// [`Error`] names the file and the configuration key.
    pub fn load(files: &Files) -> Result<Self, Error> {
        warn_of_mode(&files.key);
        let ca = certificates("mesh.ca_file", &files.ca)?;
        let chain = certificates("mesh.cert_file", &files.cert)?;
        let key = private_key(&files.key)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(roots(&files.ca, ca)?);
        let refused = |why: String| Error::Refused { cert: files.cert.clone(), ca: files.ca.clone(), why };
        verify_own(&roots, &provider, &chain).map_err(|e| refused(explain(&e)))?;
        let wrong = |error: rustls::Error| Error::Key {
            key: files.key.clone(),
            cert: files.cert.clone(),
            why: error.to_string(),
        };

        let versions = &[&rustls::version::TLS13];
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).map_err(wrong)?;
        let mut client = builder
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(wrong)?;
        client.alpn_protocols = vec![H2.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();

        let inner = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let verifier = NodesOnly { inner: inner.map_err(|e| refused(e.to_string()))?, name: node_name() };
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).map_err(wrong)?;
        let mut server = builder
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain, key)
            .map_err(wrong)?;
        server.alpn_protocols = vec![H2.to_vec()];
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    pub(super) fn connector(&self) -> tokio_rustls::TlsConnector {
        Arc::clone(&self.client).into()
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.server).into()
    }
}

/// The name that clients ask for.
pub(super) fn node_name() -> ServerName<'static> {
    rustls::pki_types::DnsName::try_from_str(NODE).map_or_else(
        // Cannot be: the name is a constant, and a test parses it. An address that no certificate has.
        |_| ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into()),
        |name| ServerName::DnsName(name.to_owned()),
    )
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { key, path: path.to_owned(), source })
}

fn content(key: &'static str, path: &Path, what: impl Into<String>) -> Error {
    Error::Content { key, path: path.to_owned(), what: what.into() }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|e| content(key, path, format!("no readable certificate: {e}")))?;
    if found.is_empty() {
        return Err(content(key, path, "no certificate (a section `BEGIN CERTIFICATE`)"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    const KEY: &str = "mesh.key_file";
    let pem = read(KEY, path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| content(KEY, path, "no private key (a section `BEGIN PRIVATE KEY`)"))
}

fn roots(path: &Path, ca: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        let wrong = |e: rustls::Error| content("mesh.ca_file", path, format!("a CA that is wrong: {e}"));
        roots.add(certificate).map_err(wrong)?;
    }
    Ok(roots)
}

fn verify_own(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    chain: &[CertificateDer<'static>],
) -> Result<(), rustls::Error> {
    let general = |e: rustls::server::VerifierBuilderError| rustls::Error::General(e.to_string());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let verifier = verifier.build().map_err(general)?;
    let [own, intermediates @ ..] = chain else {
        return Err(rustls::Error::NoCertificatesPresented);
    };
    verifier.verify_server_cert(own, intermediates, &node_name(), &[], UnixTime::now())?;
    Ok(())
}

/// A refusal in words that say what to do.
pub(super) fn explain(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "the certificate is of another CA".into()
        }
        E::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the certificate has expired; `callboard certs init --force` makes another".into()
        }
        E::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the certificate is not valid yet: compare the clocks of the nodes".into()
        }
        E::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("the certificate is not a node's: it does not name {NODE}")
        }
        E::NoCertificatesPresented => "no certificate was shown".into(),
        E::AlertReceived(alert) => format!("the other node refused this one's certificate ({alert:?})"),
        other => other.to_string(),
    }
}

#[cfg(unix)]
fn warn_of_mode(key: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // A file that cannot be looked at cannot be read either: that is told by who reads it.
    let Ok(found) = std::fs::metadata(key) else { return };
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let (mode, path) = (format!("{mode:o}"), key.display());
        tracing::warn!(%path, mode, "the key of mesh.key_file can be read by others; give it mode 600");
    }
}

#[cfg(not(unix))]
fn warn_of_mode(_: &Path) {}

/// Lets in only certificates of nodes: a CA may have made others.
#[derive(Debug)]
struct NodesOnly {
    inner: Arc<dyn ClientCertVerifier>,
    name: ServerName<'static>,
}

impl ClientCertVerifier for NodesOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, &self.name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_nodes_is_a_dns_name() {
        assert!(matches!(node_name(), ServerName::DnsName(name) if name.as_ref() == NODE));
    }
}
