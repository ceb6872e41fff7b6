//! Ports of this machine.

use std::net::{Ipv4Addr, TcpListener};

/// A port of 127.0.0.1 that nobody listens on just now.
///
/// Somebody else may take it before it is used: prefer port 0 where the listener can be asked for its
/// address. It is right for an address that must refuse connections.
///
/// # Errors
/// If the machine has no port left.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
