//! The provider that all three are measured with: it answers at once, always the same. Streams say a token every
//! [`TOKEN_EVERY`], the first at once.

use crate::Result;
use crate::http::{Connection, find};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How fast a stream's model speaks.
pub(crate) const TOKEN_EVERY: Duration = Duration::from_millis(10);
/// What each token begins with: nothing else that is sent holds it.
pub(crate) const TOKEN: &str = "tok-";

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_0123456789abcdef\r\n\
    openai-processing-ms: 1\r\nx-ratelimit-limit-requests: 30000000\r\nx-ratelimit-remaining-requests: 29999999\r\n";
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

/// A running provider.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Provider {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // What ends badly is seen by who called.
                connections.spawn(async move {
                    if let Ok(connection) = Connection::of(stream) {
                        let _ = serve(connection).await;
                    }
                });
            }
        });
        Ok(Self { address, _serving: serving })
    }
}

async fn serve(mut connection: Connection) -> Result<()> {
    let whole = answer();
    while let Some(tokens) = connection.message(|_| {}, |message| Ok(streamed(message))).await? {
        match tokens {
            None => connection.write(&whole).await?,
            Some(tokens) => stream(&mut connection, tokens).await?,
        }
    }
    Ok(())
}

/// How many tokens are to be streamed; none if it is no stream that is asked for.
fn streamed(message: &[u8]) -> Option<u32> {
    find(message, b"\"stream\":true")?;
    let number = b"\"max_tokens\":";
    let at = find(message, number)? + number.len();
    let digits = message[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |n, digit| n * 10 + u32::from(digit - b'0')))
}

/// An answer as OpenAI sends it, 64 tokens long.
fn answer() -> Vec<u8> {
    let text = "The answer is the same for everyone. ".repeat(8);
    let body = format!(
        r#"{{"id":"chatcmpl-BenchBenchBenchBenchBenchBench","object":"chat.completion","created":1760000000,"model":"bench-model-2026","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":120,"completion_tokens":64,"total_tokens":184,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_0123456789"}}"#
    );
    format!("{HEAD}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn event(rest: &str) -> String {
    let data = format!(
        "data: {{\"id\":\"chatcmpl-BenchBenchBenchBenchBenchBench\",\"object\":\"chat.completion.chunk\",\
         \"created\":1760000000,\"model\":\"bench-model-2026\",{rest}}}\n\n"
    );
    chunk(&data)
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn choice(delta: &str, finish: &str) -> String {
    event(&format!(
        r#""choices":[{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish}}}],"usage":null"#
    ))
}

async fn stream(connection: &mut Connection, tokens: u32) -> Result<()> {
    let token = |n: u32| choice(&format!(r#""content":"{TOKEN}{n} ""#), "null");
    let role = choice(r#""role":"assistant","content":"""#, "null");
    connection.write(format!("{STREAM_HEAD}{role}{}", token(0)).as_bytes()).await?;
    let mut every = tokio::time::interval(TOKEN_EVERY);
    every.tick().await;
    for n in 1..tokens {
        every.tick().await;
        connection.write(token(n).as_bytes()).await?;
    }
    let usage = event(&format!(
        r#""choices":[],"usage":{{"prompt_tokens":120,"completion_tokens":{tokens},"total_tokens":{}}}"#,
        120 + tokens
    ));
    let end = format!("{}{usage}{}0\r\n\r\n", choice("", "\"stop\""), chunk("data: [DONE]\n\n"));
    connection.write(end.as_bytes()).await
}
