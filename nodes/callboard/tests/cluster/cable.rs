//! The wire between replicas: a TCP proxy in front of one's mesh listener that can be cut and mended.
//!
//! While it is cut nothing passes in either direction, and nothing is refused: connections open and stay open,
//! as over a cable that was pulled. A replica is put behind it by the address that it advertises.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy in front of a replica. It goes away when dropped.
pub(crate) struct Cable {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    _serves: JoinSet<()>,
}

impl Cable {
    /// A cable to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let mut serves = JoinSet::new();
        serves.spawn(serve(listener, (Ipv4Addr::LOCALHOST, port).into(), is_cut));
        Self { address, cut, _serves: serves }
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing through from now on.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Lets everything through again, what was on its way included.
    pub(crate) fn mend(&self) {
        self.cut.send_replace(false);
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, is_cut: watch::Receiver<bool>) {
    // Dropped with it, so that nothing outlives the proxy.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (mut waits, up, down) = (is_cut.clone(), is_cut.clone(), is_cut.clone());
        connections.spawn(async move {
            // Its sender lives as long as this task.
            let _ = waits.wait_for(|cut| !cut).await;
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::select! {
                () = pass(from_client, to_server, up) => {}
                () = pass(from_server, to_client, down) => {}
            }
        });
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut is_cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let _ = is_cut.wait_for(|cut| !cut).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
