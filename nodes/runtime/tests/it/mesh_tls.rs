//! Who is let in, and who is believed: in both directions, over real connections.

use crate::mesh_support::*;
use callboard_runtime::mesh::Error;
use callboard_runtime::mesh::tls::{Error as TlsError, Files, Identity, NODE};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Connects as somebody who believes the server, with whatever certificate; says what the server thinks of it.
async fn knock(at: &str, ca: &Ca, shown: Option<(String, String)>) -> Result<(), String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain(&ca.pem()).remove(0)).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match shown {
        Some((cert, of)) => builder.with_client_auth_cert(chain(&cert), key(&of)).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(at).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let talk = async {
        let mut io = connector.connect(ServerName::try_from(NODE).unwrap(), stream).await?;
        io.read_u8().await
    };
    let first = tokio::time::timeout(SOON, talk).await.unwrap();
    first.map(|_| ()).map_err(|e| e.to_string())
}

/// A server that shows a certificate and lets everybody in.
async fn impostor(cert: String, of: String) -> String {
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain(&cert), key(&of)).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            assert!(acceptor.accept(stream).await.is_err(), "the client believed it");
        }
    });
    at
}

fn not_run(result: Result<u32, Error>) -> String {
    match result {
        Err(Error::DidNotRun(status)) => status.message().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nodes_of_one_cluster_meet() {
    let ca = Ca::new("ca");
    let server = served(Node::new("b"), Some(ca.node())).await;
    let link = link(&server.address(), Some(ca.node()));
    assert_eq!(load(&link, SOON).await.unwrap(), 7);
    assert_eq!(load(&link, SOON).await.unwrap(), 7);
    assert_eq!(server.node.count(), 2);
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_believed_and_nothing_runs() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = served(Node::new("b"), Some(other.node())).await;
    let why = not_run(load(&link(&server.address(), Some(ca.node())), SOON).await);
    assert!(why.contains("the certificate is of another CA"), "{why}");
    assert_eq!(server.node.count(), 0);
}

#[tokio::test]
async fn a_client_of_another_ca_is_not_let_in_and_knows_that_nothing_ran() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = served(Node::new("b"), Some(ca.node())).await;
    // It believes both CAs, as while one replaces the other; the server believes only the one.
    let folder = tempfile::tempdir().unwrap();
    let (cert, of) = other.issue(NODE, |_| ());
    let both = format!("{}{}", ca.pem(), other.pem());
    let identity = Identity::load(&files(folder.path(), &both, &cert, &of)).unwrap();
    let why = not_run(load(&link(&server.address(), Some(Arc::new(identity))), SOON).await);
    assert!(why.contains("the other node refused this one's certificate"), "{why}");
    assert_eq!(server.node.count(), 0);
}

#[tokio::test]
async fn the_server_wants_a_certificate_of_a_node_that_is_valid_now() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = served(Node::new("b"), Some(ca.node())).await;
    let at = server.address();
    assert_eq!(knock(&at, &ca, Some(ca.issue(NODE, |_| ()))).await, Ok(()), "a right one is let in");
    let cases = [
        ("none", None, "CertificateRequired"),
        ("of another CA", Some(other.issue(NODE, |_| ())), "UnknownCA"),
        ("expired", Some(ca.issue(NODE, expired)), "CertificateExpired"),
        ("not a node's", Some(ca.issue("database", |_| ())), "BadCertificate"),
    ];
    for (what, shown, expected) in cases {
        let alert = knock(&at, &ca, shown).await.unwrap_err();
        assert!(alert.contains(expected), "{what}: {alert}");
    }
    assert_eq!(server.node.count(), 0);
}

#[tokio::test]
async fn the_client_wants_a_certificate_of_a_node_that_is_valid_now() {
    let ca = Ca::new("ca");
    let cases = [
        (ca.issue(NODE, expired), "has expired"),
        (ca.issue("database", |_| ()), "is not a node's"),
        (Ca::new("other").issue(NODE, |_| ()), "of another CA"),
    ];
    for ((cert, of), expected) in cases {
        let at = impostor(cert, of).await;
        let why = not_run(load(&link(&at, Some(ca.node())), SOON).await);
        assert!(why.contains(expected), "{why}");
    }
}

#[tokio::test]
async fn with_and_without_certificates_do_not_mix() {
    let ca = Ca::new("ca");
    let open = served(Node::new("b"), None).await;
    not_run(load(&link(&open.address(), Some(ca.node())), SOON).await);
    let closed = served(Node::new("c"), Some(ca.node())).await;
    assert!(load(&link(&closed.address(), None), SOON).await.is_err());
    assert_eq!((open.node.count(), closed.node.count()), (0, 0));
}

#[test]
fn what_is_wrong_with_an_identity_is_told_with_key_and_file() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let folder = tempfile::tempdir().unwrap();
    let good = ca.files(folder.path(), NODE);
    let load = |files: &_| Identity::load(files).unwrap_err();
    let text = |error: TlsError| error.to_string();

    for (key, missing) in [
        ("mesh.ca_file", Files { ca: "no/ca".into(), ..good.clone() }),
        ("mesh.cert_file", Files { cert: "no/cert".into(), ..good.clone() }),
        ("mesh.key_file", Files { key: "no/key".into(), ..good.clone() }),
    ] {
        let error = load(&missing);
        assert!(matches!(error, TlsError::Read { .. }), "{error:?}");
        let error = text(error);
        assert!(error.starts_with(&format!("{key}: cannot read no/")), "{error}");
    }
    // The certificate in place of the key, and the other way round.
    let swapped = Files { cert: good.key.clone(), ..good.clone() };
    assert!(text(load(&swapped)).starts_with("mesh.cert_file: "), "{}", text(load(&swapped)));
    let swapped = Files { key: good.cert.clone(), ..good.clone() };
    assert!(text(load(&swapped)).contains("no private key"), "{}", text(load(&swapped)));

    let cases = [
        (ca.pem(), ca.issue(NODE, |_| ()).0, ca.issue(NODE, |_| ()).1, "is not the key of"),
        (ca.pem(), other.issue(NODE, |_| ()).0, String::new(), "of another CA"),
        (ca.pem(), ca.issue(NODE, expired).0, String::new(), "has expired"),
        (ca.pem(), ca.issue("database", |_| ()).0, String::new(), "is not a node's"),
    ];
    for (ca_pem, cert, of, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let of = if of.is_empty() { ca.issue(NODE, |_| ()).1 } else { of };
        let error = text(load(&files(folder.path(), &ca_pem, &cert, &of)));
        assert!(error.contains(expected) && error.contains("cert.pem"), "{error}");
    }
}
