//! The connections that are let in.

use super::Options;
use crate::mesh::connect::chain;
use crate::mesh::tls::{self, Identity};
use futures::Stream;
use futures::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

/// How long accepting pauses when the system has no more sockets to give.
const PAUSE: Duration = Duration::from_millis(50);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that was let in. It counts until it is dropped, and ends when it is cut.
pub(super) struct Accepted {
    io: Box<dyn Io>,
    cut: BoxFuture<'static, ()>,
    _permit: OwnedSemaphorePermit,
}

/// Accepts connections until it is stopped; then the listener is closed.
pub(super) fn accept(
    listener: TcpListener,
    options: &Options,
    stop: CancellationToken,
    cut: CancellationToken,
    tracker: &TaskTracker,
) -> impl Stream<Item = io::Result<Accepted>> + use<> {
    let (ready, accepted) = mpsc::channel(16);
    let door = Door {
        identity: options.identity.clone(),
        handshake_within: options.handshake_within,
        ready,
        cut: cut.clone(),
    };
    let places = Arc::new(Semaphore::new(options.connections));
    let handshakes = tracker.clone();
    let work = async move {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let door = door.clone();
                    let cut = door.cut.clone();
                    let shake = async move { door.let_in(stream, from, permit).await };
                    handshakes.spawn(async move { cut.run_until_cancelled(shake).await });
                }
                // The other side may have gone again, or the system is out of sockets: it goes on.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the mesh");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tracker.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = cut.cancelled() => {}
            () = work => {}
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(accepted)
}

#[derive(Clone)]
struct Door {
    identity: Option<Arc<Identity>>,
    handshake_within: Duration,
    ready: mpsc::Sender<io::Result<Accepted>>,
    cut: CancellationToken,
}

impl Door {
    async fn let_in(self, stream: TcpStream, from: SocketAddr, permit: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, peer = %from, "a connection to the mesh has gone again");
            return;
        }
        let io: Box<dyn Io> = match &self.identity {
            None => Box::new(stream),
            Some(identity) => {
                let shake = identity.acceptor().accept(stream);
                match tokio::time::timeout(self.handshake_within, shake).await {
                    Ok(Ok(secured)) => Box::new(secured),
                    Ok(Err(error)) => return refused(from, &error),
                    Err(_) => return refused(from, &io::ErrorKind::TimedOut.into()),
                }
            }
        };
        let cut = Box::pin(self.cut.clone().cancelled_owned());
        // Nobody takes connections any more once the server has stopped.
        let _ = self.ready.send(Ok(Accepted { io, cut, _permit: permit })).await;
    }
}

fn refused(from: SocketAddr, error: &io::Error) {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(reason) => {
            let reason = tls::explain(reason);
            tracing::warn!(peer = %from, reason, "refused a connection to the mesh");
        }
        // Health checks of load balancers connect and go.
        None => {
            tracing::debug!(peer = %from, error = chain(error), "a handshake of the mesh was not finished")
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the node closes its mesh")
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A connection always waits to read, so this is where it learns of its end.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(was_cut()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
