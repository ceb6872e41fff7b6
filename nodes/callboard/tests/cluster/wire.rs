//! The wire between a replica and PostgreSQL: a TCP proxy that can hold the answer to the commit of a result.
//!
//! Held so, the result is in the store, and the replica that wrote it does not know: what it would tell its
//! watchers is never told if it is killed now. So the fault hits its window by construction.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// What the last message of a transaction that records results holds: it counts them, and commits.
const RECORDS: [&str; 2] = ["succeeded = succeeded +", "COMMIT"];

type Trap = Arc<Mutex<Option<oneshot::Sender<()>>>>;

/// A proxy in front of a server. It goes away when dropped.
pub(crate) struct Wire {
    address: SocketAddr,
    trap: Trap,
    _serves: JoinSet<()>,
}

impl Wire {
    /// A proxy to a server of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let trap = Trap::default();
        let mut serves = JoinSet::new();
        serves.spawn(serve(listener, (Ipv4Addr::LOCALHOST, port).into(), Arc::clone(&trap)));
        Self { address, trap, _serves: serves }
    }

    /// Its port, in place of the server's.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Holds back the answer to the next commit of a result, and all that follows on that connection, for
    /// ever. The receiver is told when the commit is on its way to the server.
    pub(crate) fn hold_the_next_commit_of_a_result(&self) -> oneshot::Receiver<()> {
        let (hit, told) = oneshot::channel();
        *self.trap.lock().unwrap_or_else(PoisonError::into_inner) = Some(hit);
        told
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, trap: Trap) {
    // Dropped with it, so that nothing outlives the proxy.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let trap = Arc::clone(&trap);
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let (hold, held) = watch::channel(false);
            tokio::select! {
                () = up(from_client, to_server, trap, hold) => {}
                () = down(from_server, to_client, held) => {}
            }
        });
    }
}

async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trap: Trap, hold: watch::Sender<bool>) {
    let (mut messages, mut buffer) = (Messages::default(), vec![0; 64 << 10]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let commits = messages.read(&buffer[..read]);
        let hit = if commits { trap.lock().unwrap_or_else(PoisonError::into_inner).take() } else { None };
        if hit.is_some() {
            hold.send_replace(true);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        if let Some(hit) = hit {
            let _ = hit.send(());
        }
    }
}

async fn down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // Ends only with the connection.
        let _ = held.wait_for(|held| !held).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// What a client of PostgreSQL sends, cut into its messages.
#[derive(Default)]
struct Messages {
    pending: Vec<u8>,
    started: bool,
}

impl Messages {
    /// Takes bytes; whether a transaction that records results is committed by them.
    fn read(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        let mut commits = false;
        loop {
            // The first message has no type.
            let header = usize::from(self.started);
            let Some(length) = self.pending.get(header..header + 4) else { return commits };
            let length = u32::from_be_bytes(length.try_into().unwrap_or_default()) as usize;
            if self.pending.len() < header + length {
                return commits;
            }
            let message: Vec<u8> = self.pending.drain(..header + length).collect();
            if self.started {
                let text = String::from_utf8_lossy(&message[5..]);
                commits |= message[0] == b'Q' && RECORDS.iter().all(|part| text.contains(part));
            } else {
                // A question for TLS comes before it, and is answered with no.
                self.started = message.get(4..8) != Some(&[0x04, 0xd2, 0x16, 0x2f]);
            }
        }
    }
}
