//! The wires between the nodes and their servers: TCP proxies that read along.
//!
//! A proxy knows what goes through it: which statement of a transaction a node has just sent, which message
//! awaits its confirm. A [`Trap`] waits for such a moment on one node, holds that connection still in exactly
//! that state, and says so; then the fault is injected, and the connection is let go or cut. So a fault hits
//! its window by construction, and the product needs no fail points for it.

use crate::sandbox::Place;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A moment in which a fault hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Window {
    /// An admission's transaction is open.
    Admit,
    /// A claim's transaction is open and holds its session's lock.
    Claim,
    /// A transaction that records results is open.
    Finish,
    /// A message was published and not yet confirmed.
    Publish,
}

/// Where in its window a transaction is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// As soon as it is known for what it is.
    Open,
    /// At its COMMIT, which has not reached the server.
    BeforeCommit,
    /// At its COMMIT, which the server has carried out; its answer has not left.
    AfterCommit,
}

struct Armed {
    node: Option<u8>,
    window: Window,
    at: At,
    hit: oneshot::Sender<Caught>,
}

/// A connection that is held still.
pub(crate) struct Caught {
    /// Lets it go on.
    release: oneshot::Sender<Fate>,
}

enum Fate {
    GoOn,
    Cut,
}

impl Caught {
    /// Lets the connection go on.
    pub(crate) fn release(self) {
        // A connection that has ended meanwhile needs no leave.
        let _ = self.release.send(Fate::GoOn);
    }

    /// Cuts it.
    pub(crate) fn cut(self) {
        let _ = self.release.send(Fate::Cut);
    }
}

/// What a proxy reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Postgres,
    Amqp,
    Opaque,
}

/// The traps that wait, over all proxies.
#[derive(Clone, Default)]
pub(crate) struct Traps(Arc<Mutex<Vec<Armed>>>);

impl Traps {
    /// Waits for a window; on one node, or any. The first connection that gets there is held.
    pub(crate) fn arm(&self, node: Option<u8>, window: Window, at: At) -> oneshot::Receiver<Caught> {
        let (hit, caught) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Armed { node, window, at, hit });
        caught
    }

    /// Forgets the traps that nobody waits for any more.
    fn spring(&self, node: u8, window: Window, at: At) -> Option<oneshot::Receiver<Fate>> {
        let mut traps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        traps.retain(|trap| !trap.hit.is_closed());
        let fits = |t: &Armed| t.window == window && t.at == at && t.node.is_none_or(|n| n == node);
        let first = traps.iter().position(fits)?;
        let trap = traps.swap_remove(first);
        let (release, fate) = oneshot::channel();
        trap.hit.send(Caught { release }).ok()?;
        Some(fate)
    }
}

/// Passes connections to `server` on to `target`, until `stop`.
pub(crate) async fn serve(
    server: Place,
    port: u16,
    target: SocketAddr,
    protocol: Protocol,
    traps: Traps,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind((server.address(), port)).await?;
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        let Ok((client, peer)) = accepted else { continue };
        let (traps, stop) = (traps.clone(), stop.clone());
        connections.spawn(async move {
            let Some(node) = node_of(peer) else { return };
            // A server that is away refuses; so does its proxy, by closing.
            let Ok(upstream) = TcpStream::connect(target).await else { return };
            let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
            stop.run_until_cancelled(connection(client, upstream, node, protocol, traps)).await;
        });
    }
}

fn node_of(peer: SocketAddr) -> Option<u8> {
    match peer {
        SocketAddr::V4(v4) => match v4.ip().octets() {
            [10, 91, net @ 1..=200, 2] => Some(net - 1),
            // The harness itself.
            _ if *v4.ip() != Ipv4Addr::UNSPECIFIED => Some(u8::MAX),
            _ => None,
        },
        SocketAddr::V6(_) => None,
    }
}

async fn connection(client: TcpStream, upstream: TcpStream, node: u8, protocol: Protocol, traps: Traps) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let gate = Arc::new(tokio::sync::RwLock::new(()));
    let up = async {
        let mut reader = Reader::new(protocol);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match from_client.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            };
            let seen = reader.read(&buffer[..read]);
            for (window, at) in &seen {
                // What the client is held at before it reaches the server.
                let before = *at == At::BeforeCommit || (*at == At::Open && *window != Window::Publish);
                if before
                    && let Some(fate) = traps.spring(node, *window, *at)
                    && matches!(fate.await, Ok(Fate::Cut))
                {
                    return;
                }
            }
            // What it is held at afterwards: the server's answers wait behind the gate.
            let after = seen.iter().find_map(|(window, at)| match (window, at) {
                (Window::Publish, At::Open) => traps.spring(node, Window::Publish, At::Open),
                (window, At::BeforeCommit) => traps.spring(node, *window, At::AfterCommit),
                _ => None,
            });
            let held = if after.is_some() { Some(gate.write().await) } else { None };
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            if let Some(fate) = after
                && matches!(fate.await, Ok(Fate::Cut))
            {
                return;
            }
            drop(held);
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match from_server.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            };
            let _open = gate.read().await;
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Follows one direction of a protocol over chunks of any size.
enum Reader {
    Postgres(Postgres),
    Amqp(Amqp),
    Opaque,
}

impl Reader {
    fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Postgres => Self::Postgres(Postgres::default()),
            Protocol::Amqp => Self::Amqp(Amqp::default()),
            Protocol::Opaque => Self::Opaque,
        }
    }

    fn read(&mut self, chunk: &[u8]) -> Vec<(Window, At)> {
        match self {
            Self::Postgres(reader) => reader.read(chunk),
            Self::Amqp(reader) => reader.read(chunk),
            Self::Opaque => Vec::new(),
        }
    }
}

/// The frontend's side of PostgreSQL's protocol, version 3.
#[derive(Default)]
struct Postgres {
    pending: Vec<u8>,
    started: bool,
    /// The window that each prepared statement opens.
    statements: HashMap<Vec<u8>, Option<Window>>,
    open: Option<Window>,
}

impl Postgres {
    fn read(&mut self, chunk: &[u8]) -> Vec<(Window, At)> {
        self.pending.extend_from_slice(chunk);
        let mut seen = Vec::new();
        loop {
            // The startup message has no type byte.
            let header = if self.started { 1 } else { 0 };
            let Some(length) = self.pending.get(header..header + 4) else { return seen };
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if self.pending.len() < header + length {
                return seen;
            }
            let message: Vec<u8> = self.pending.drain(..header + length).collect();
            if !self.started {
                // A request for TLS is answered by the server; the startup message follows.
                self.started = message.get(4..8) != Some(&[0x04, 0xd2, 0x16, 0x2f]);
                continue;
            }
            self.message(message[0], &message[5..], &mut seen);
        }
    }

    fn message(&mut self, kind: u8, body: &[u8], seen: &mut Vec<(Window, At)>) {
        let mut parts = body.split(|byte| *byte == 0);
        match kind {
            b'P' => {
                let (name, sql) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                self.statements.insert(name.to_vec(), window_of(sql));
            }
            b'B' => {
                let name = parts.nth(1).unwrap_or_default();
                if let Some(Some(window)) = self.statements.get(name)
                    && self.open != Some(*window)
                    && (*window != Window::Finish || has_results(body))
                {
                    self.open = Some(*window);
                    seen.push((*window, At::Open));
                }
            }
            b'Q' => {
                let sql = parts.next().unwrap_or_default();
                // A claim holds its session with the first words of its transaction.
                if let Some(window) = window_of(sql) {
                    self.open = Some(window);
                    seen.push((window, At::Open));
                }
                // The last words of a transaction may do something more.
                if sql.trim_ascii_end().ends_with(b"COMMIT")
                    && let Some(window) = self.open.take()
                {
                    seen.push((window, At::BeforeCommit));
                }
                if sql.eq_ignore_ascii_case(b"ROLLBACK") {
                    self.open = None;
                }
            }
            _ => {}
        }
    }
}

/// Whether the statement that writes a transition is given results: its 32nd parameter, an array of ids, is longer
/// than the head of an empty one.
fn has_results(bind: &[u8]) -> bool {
    const RESULTS: usize = 31;
    // Dimensions, flags, type, length and lower bound.
    const EMPTY: usize = 20;
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*bind.get(at)?, *bind.get(at + 1)?])));
    let length = |at: usize| {
        let bytes = [*bind.get(at)?, *bind.get(at + 1)?, *bind.get(at + 2)?, *bind.get(at + 3)?];
        // A null has the length -1.
        Some(usize::try_from(i32::from_be_bytes(bytes)).unwrap_or(0))
    };
    let ids = || {
        let names = bind.iter().enumerate().filter(|(_, byte)| **byte == 0).nth(1)?.0 + 1;
        // The formats, then how many parameters.
        let mut at = names + 2 + 2 * word(names)? + 2;
        for _ in 0..RESULTS {
            at += 4 + length(at)?;
        }
        length(at)
    };
    ids().is_some_and(|length| length > EMPTY)
}

/// The window that a statement stands for: the statements of the store that nothing else sends, but for
/// [`has_results`].
fn window_of(sql: &[u8]) -> Option<Window> {
    let sql = String::from_utf8_lossy(sql);
    let has = |text: &str| sql.contains(text);
    if has("INSERT INTO task_inputs") {
        Some(Window::Admit)
    } else if has("FOR KEY SHARE") && has("node_sessions") {
        Some(Window::Claim)
    } else if has("INSERT INTO task_results") {
        Some(Window::Finish)
    } else {
        None
    }
}

/// The client's side of AMQP 0-9-1.
#[derive(Default)]
struct Amqp {
    pending: Vec<u8>,
    started: bool,
}

impl Amqp {
    fn read(&mut self, chunk: &[u8]) -> Vec<(Window, At)> {
        self.pending.extend_from_slice(chunk);
        let mut seen = Vec::new();
        if !self.started {
            // "AMQP" and a version.
            if self.pending.len() < 8 {
                return seen;
            }
            self.pending.drain(..8);
            self.started = true;
        }
        while let Some(head) = self.pending.get(..7) {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            if self.pending.len() < size + 8 {
                break;
            }
            let frame: Vec<u8> = self.pending.drain(..size + 8).collect();
            // A method frame of basic.publish: class 60, method 40.
            if frame[0] == 1 && frame.get(7..11) == Some(&[0, 60, 0, 40]) {
                seen.push((Window::Publish, At::Open));
            }
        }
        seen
    }
}
