//! The floor: what anything between a client and a provider costs at least. It reads the body, parses model and usage, and
//! sends on, with hyper and nothing else: no key, no limit, no breaker, no trace.

use crate::Result;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Answered {
    usage: Tokens,
}

#[derive(Deserialize)]
struct Tokens {
    prompt_tokens: u64,
    completion_tokens: u64,
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// Serves until it is killed. It says on its standard output where.
pub(crate) async fn serve(provider: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let http = http.clone();
        connections.spawn(async move {
            let pass = service_fn(move |request| pass(http.clone(), provider, request));
            // What ends badly is seen by who called.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), pass).await;
        });
    }
}

async fn pass(
    http: Http,
    provider: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let model_bytes = serde_json::from_slice::<Asked<'_>>(&body)?.model.len();
    let mut onward = Request::post(format!("http://{provider}{}", head.uri.path()));
    for name in [AUTHORIZATION, CONTENT_TYPE] {
        if let Some(value) = head.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let (mut head, body) = http.request(onward.body(Full::new(body))?).await?.into_parts();
    head.headers.remove(HOST);
    if !head.headers.contains_key("content-length") {
        return Ok(Response::from_parts(head, body.boxed()));
    }
    let body = body.collect().await?.to_bytes();
    let Tokens { prompt_tokens, completion_tokens } = serde_json::from_slice::<Answered>(&body)?.usage;
    std::hint::black_box((model_bytes, prompt_tokens, completion_tokens));
    let body = Full::new(body).map_err(|never| match never {}).boxed();
    Ok(Response::from_parts(head, body))
}
