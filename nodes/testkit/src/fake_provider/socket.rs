//! Connections that can be torn down in the middle, as a failing provider's are.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

const NO_LIMIT: u64 = u64::MAX;

/// What a handler can do to the connection its request came on.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// How many more bytes may be written before the connection is reset.
    budget: Arc<AtomicU64>,
    reset: CancellationToken,
}

impl Connection {
    /// Resets the connection (RST, not FIN) once so many more bytes were written; at once for 0.
    pub(super) fn reset_after(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::SeqCst);
        if bytes == 0 {
            self.reset.cancel();
        }
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        stream.io().connection.clone()
    }
}

/// A listener whose connections end with `stop`.
pub(super) struct Listener {
    pub(super) inner: TcpListener,
    pub(super) stop: CancellationToken,
}

impl axum::serve::Listener for Listener {
    type Io = Io;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Io, SocketAddr) {
        let (stream, peer) = axum::serve::Listener::accept(&mut self.inner).await;
        let reset = self.stop.child_token();
        let connection = Connection { budget: Arc::new(AtomicU64::new(NO_LIMIT)), reset: reset.clone() };
        (Io { stream, connection, reset: Box::pin(reset.cancelled_owned()) }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that fails when it is told to.
pub(super) struct Io {
    stream: TcpStream,
    connection: Connection,
    reset: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Io {
    fn fail(&self) -> io::Error {
        // With a zero linger the close that follows sends RST. If it cannot be set, a FIN must do.
        let _ = self.stream.set_zero_linger();
        io::ErrorKind::ConnectionReset.into()
    }

    fn poll_alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.reset.as_mut().poll(cx) {
            Poll::Ready(()) => Err(self.fail()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_alive(cx)?;
        let budget = self.connection.budget.load(Ordering::SeqCst);
        let most = usize::try_from(budget).unwrap_or(usize::MAX).min(bytes.len());
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..most]);
        if budget != NO_LIMIT
            && let Poll::Ready(Ok(n)) = written
        {
            self.connection.reset_after(budget - n as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
