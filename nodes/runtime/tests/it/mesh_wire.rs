//! What is known of a call when the other side breaks off: said byte by byte.

use crate::mesh_support::*;
use callboard_runtime::mesh::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const INTERNAL_ERROR: u32 = 2;

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, 0]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn go_away(last: u32, reason: u32) -> Vec<u8> {
    frame(GO_AWAY, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

fn reset(reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 1, &reason.to_be_bytes())
}

/// What the other side does once it has the headers of the first call.
enum Then {
    Say(Vec<u8>),
    SayAndClose(Vec<u8>),
}

async fn headers(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; PREFACE]).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, &[])).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            return;
        }
    }
}

/// Makes a call to somebody who takes its headers, and breaks off.
async fn call(then: Then) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let tasks = TaskTracker::new();
    let (over, stays) = tokio::sync::oneshot::channel::<()>();
    let other = tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        headers(&mut stream).await;
        match then {
            Then::Say(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                // What was said stands by itself: the connection stays open.
                let _ = stays.await;
            }
            Then::SayAndClose(bytes) => stream.write_all(&bytes).await.unwrap(),
        }
    });
    let result = load(&link(&at, None), SOON).await;
    drop(over);
    other.await.unwrap();
    result.unwrap_err()
}

#[tokio::test]
async fn what_the_other_side_says_it_will_not_process_did_not_run() {
    for said in [go_away(0, 0), go_away(0, INTERNAL_ERROR), reset(REFUSED_STREAM)] {
        let error = call(Then::Say(said.clone())).await;
        assert!(matches!(error, Error::DidNotRun(_)), "{said:?}: {error:?}");
    }
    let error = call(Then::SayAndClose(go_away(0, 0))).await;
    assert!(matches!(error, Error::DidNotRun(_)), "{error:?}");
}

#[tokio::test]
async fn what_it_may_have_begun_may_have_run() {
    for said in [reset(CANCEL), reset(INTERNAL_ERROR), reset(0)] {
        let error = call(Then::Say(said.clone())).await;
        assert!(matches!(error, Error::MayHaveRun(_)), "{said:?}: {error:?}");
    }
    // It goes away, but not before that call; then it is gone.
    for said in [go_away(1, 0), go_away(1, INTERNAL_ERROR), Vec::new()] {
        let error = call(Then::SayAndClose(said.clone())).await;
        assert!(matches!(error, Error::MayHaveRun(_)), "{said:?}: {error:?}");
    }
}
