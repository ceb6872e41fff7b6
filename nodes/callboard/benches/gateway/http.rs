//! As much of HTTP/1.1 as the bench needs, by hand: what the load costs is taken from the same core as the fake provider,
//! and is the limit of what can be seen.

use crate::Result;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The most bytes of a message.
const MOST: usize = 4 << 20;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const END_OF_CHUNKS: &[u8] = b"\r\n0\r\n\r\n";

/// Where a text is in another.
pub(crate) fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    loop {
        from += text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text[from..].starts_with(what) {
            return Some(from);
        }
        from += 1;
    }
}

/// A connection, and what was read from it and is not used up.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Where a message ends.
enum End {
    /// After so many bytes.
    At(usize),
    /// With its last chunk.
    Chunked,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Self::of(TcpStream::connect(address).await?)
    }

    pub(crate) fn of(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(8 << 10) })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads the next message, head and body, and hands it to `used`. `seen` is shown all that has come of it each time
    /// that more comes. `None`: the other side has closed the connection between two messages.
    pub(crate) async fn message<T>(
        &mut self,
        mut seen: impl FnMut(&[u8]),
        used: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut end = None;
        loop {
            if end.is_none()
                && let Some(head) = find(&self.read, END_OF_HEAD)
            {
                end = Some(ends(&self.read[..head], head + END_OF_HEAD.len())?);
            }
            let length = match end {
                Some(End::At(length)) if self.read.len() >= length => Some(length),
                // One message at a time is under way, so nothing follows its last chunk.
                Some(End::Chunked) if self.read.ends_with(END_OF_CHUNKS) => Some(self.read.len()),
                _ => None,
            };
            if let Some(length) = length {
                let outcome = used(&self.read[..length]);
                self.read.drain(..length);
                return outcome.map(Some);
            }
            if self.read.len() > MOST {
                return Err("a message is too long".into());
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return if self.read.is_empty() { Ok(None) } else { Err("a message was cut".into()) };
            }
            seen(&self.read);
        }
    }
}

/// Where the message of a head ends, whose body begins at `body`.
fn ends(head: &[u8], body: usize) -> Result<End> {
    let head = std::str::from_utf8(head)?;
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(End::At(body + value.trim().parse::<usize>()?));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(End::Chunked);
        }
    }
    Ok(End::At(body))
}
