//! Stands between a store and its server, and cuts a connection at its commit, or holds it still.
//! Or it lets an answer disappear.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// When to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The server never hears of the commit.
    Before = 1,
    /// The server commits, and nobody hears its answer.
    After = 2,
    /// The server hears nothing more, of the commit or of the connection's end, until it is released.
    Hold = 3,
    /// The server answers the next statement, whatever it is, and nobody hears of it; nor of anything else: the
    /// connection stays open and silent, as one whose server was cut off and has forgotten it.
    Swallow = 4,
}

/// A proxy. Nothing is cut until it is armed, and then one connection.
pub(super) struct Proxy {
    armed: Arc<AtomicU8>,
    released: watch::Sender<bool>,
    /// A store's address of the same database through it.
    pub(super) url: String,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn new(url: &str) -> Self {
        let (user, rest) = url.split_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{name}", listener.local_addr().unwrap());
        let (server, armed) = (server.to_owned(), Arc::new(AtomicU8::new(0)));
        let (mut tasks, arm) = (JoinSet::new(), Arc::clone(&armed));
        let (released, is_released) = watch::channel(false);
        tasks.spawn(async move {
            let connections = Mutex::new(JoinSet::new());
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(&server).await.unwrap();
                connections.lock().unwrap().spawn(forward(
                    client,
                    upstream,
                    Arc::clone(&arm),
                    is_released.clone(),
                ));
            }
        });
        Self { armed, released, url, _tasks: tasks }
    }

    /// Cuts the next connection that commits; or that runs a statement, if an answer is to be swallowed.
    pub(super) fn arm(&self, cut: Cut) {
        self.armed.store(cut as u8, Ordering::SeqCst);
    }

    /// Lets what is held go on.
    pub(super) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Whether it has cut since it was armed.
    pub(super) fn has_cut(&self) -> bool {
        self.armed.load(Ordering::SeqCst) == 0
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    armed: Arc<AtomicU8>,
    mut released: watch::Receiver<bool>,
) {
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Some(bytes) = read.ok().filter(|n| *n > 0).map(|n| &from_client[..n]) else { return };
                if runs_a_statement(bytes)
                    && armed.compare_exchange(4, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
                {
                    server.write_all(bytes).await.unwrap();
                    while server.read(&mut from_server).await.is_ok_and(|n| n > 0) {}
                    // Not even its end is told.
                    std::future::pending().await
                }
                if bytes.windows(6).any(|word| word == b"COMMIT") {
                    match armed.swap(0, Ordering::SeqCst) {
                        0 => {}
                        1 => return,
                        4 => unreachable!("a commit is a statement"),
                        3 => drop(released.wait_for(|released| *released).await),
                        _ => {
                            server.write_all(bytes).await.unwrap();
                            // Its answer says that it is done.
                            assert!(server.read(&mut from_server).await.unwrap() > 0);
                            return;
                        }
                    }
                }
                if server.write_all(bytes).await.is_err() { return }
            }
            read = server.read(&mut from_server) => {
                let Some(bytes) = read.ok().filter(|n| *n > 0).map(|n| &from_server[..n]) else { return };
                if client.write_all(bytes).await.is_err() { return }
            }
        }
    }
}

/// Whether it is a query, or prepares or binds one; and not a beginning or a question whether all is well.
fn runs_a_statement(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'Q' | b'P' | b'B'))
}
