//! As much of HTTP as it takes to ask a replica how it is.

use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The most bytes that are read of an answer.
const ANSWER_BYTES: u64 = 1 << 20;

/// The body of a page, if it is there.
///
/// # Errors
/// Nobody answers in time, or not with 200.
pub(crate) fn get(address: SocketAddr, page: &str, within: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, within).context("cannot connect")?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    write!(stream, "GET {page} HTTP/1.0\r\n\r\n").context("cannot ask")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer).context("no answer")?;
    body(&answer).map(str::to_owned)
}

fn body(answer: &str) -> Result<&str> {
    let (head, body) = answer.split_once("\r\n\r\n").context("what answers does not speak HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split_whitespace().nth(1) != Some("200") {
        bail!("{status}: {}", body.trim());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_is_well_has_a_body() {
        assert_eq!(body("HTTP/1.0 200 OK\r\na: b\r\n\r\nhello\n").unwrap(), "hello\n");
        let error = body("HTTP/1.0 503 Service Unavailable\r\n\r\ndraining\n").unwrap_err().to_string();
        assert_eq!(error, "HTTP/1.0 503 Service Unavailable: draining");
        assert!(body("nothing").is_err());
    }
}
