//! Reads the body of a request, within bounds.

use super::BODY_BYTES;
use super::error::Error;
use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use std::time::Duration;
use tokio::time::timeout;

/// How long a body may take to come.
const WITHIN: Duration = Duration::from_secs(60);
/// How much of a body that is too large is read and thrown away: a client that is still sending would not see the answer.
const DISCARDED_BYTES: usize = 2 * BODY_BYTES;

/// The whole body.
pub(super) async fn read(body: Body) -> Result<Bytes, Error> {
    timeout(WITHIN, whole(body)).await.unwrap_or_else(|_| Err(Error::slow_body()))
}

async fn whole(body: Body) -> Result<Bytes, Error> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(BODY_BYTES);
    let mut frames = body.into_data_stream();
    let mut read = BytesMut::new();
    let mut bytes = 0_usize;
    while let Some(frame) = frames.next().await {
        let frame =
            frame.map_err(|error| Error::invalid(None, format!("the body cannot be read: {error}")))?;
        bytes += frame.len();
        if bytes > DISCARDED_BYTES {
            break;
        }
        if bytes <= BODY_BYTES {
            // Most come in one piece, which is taken as it is.
            if read.is_empty() && frame.len() == expected {
                read = BytesMut::from(frame);
                continue;
            }
            read.reserve(expected.saturating_sub(read.len()));
            read.extend_from_slice(&frame);
        }
    }
    if bytes > BODY_BYTES {
        return Err(Error::too_large(format!("the body is over {BODY_BYTES} bytes")));
    }
    Ok(read.freeze())
}
