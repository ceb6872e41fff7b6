//! Answers as streams of events.

use super::{Bench, ask_stream, header};
use crate::node::DEADLINE;
use callboard_testkit::fake_provider::Fault;
use futures::StreamExt;
use reqwest::Response;
use serde_json::{Value, json};

/// The data of the events of an answer, and whether its body came to an end.
pub(super) async fn events(response: Response) -> (Vec<String>, bool) {
    let mut bytes = response.bytes_stream();
    let mut text = Vec::new();
    let mut ended = true;
    while let Some(piece) = bytes.next().await {
        match piece {
            Ok(piece) => text.extend_from_slice(&piece),
            Err(_) => ended = false,
        }
    }
    let text = String::from_utf8(text).unwrap();
    let events = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned());
    (events.collect(), ended)
}

/// A chunk without what all of a stream have alike, which is looked at.
fn chunk(event: &str, id: &mut Option<Value>) -> Value {
    let mut chunk: Value = serde_json::from_str(event).unwrap();
    let object = chunk.as_object_mut().unwrap();
    assert_eq!(object.remove("object"), Some(json!("chat.completion.chunk")));
    assert_eq!(object.remove("model"), Some(json!("gpt-x")));
    assert!(object.remove("created").unwrap().as_i64().unwrap() > 1_700_000_000);
    let this = object.remove("id").unwrap();
    assert!(this.as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(*id.get_or_insert_with(|| this.clone()), this, "one id for all chunks");
    chunk
}

#[tokio::test]
async fn a_stream_has_the_role_the_pieces_the_end_and_done() {
    let bench = Bench::start().await;
    for with_usage in [false, true] {
        let mut body = ask_stream("gpt-x");
        body["stream_options"] = json!({"include_usage": with_usage});
        let response = bench.chat(&body).await;
        assert_eq!(response.status(), 200);
        let told = ["content-type", "x-callboard-provider", "x-callboard-model", "x-callboard-attempts"];
        let expected = ["text/event-stream; charset=utf-8", "main", "gpt-x", "1"];
        assert_eq!(told.map(|name| header(&response, name)), expected);
        assert_ne!(header(&response, "x-request-id"), "");
        let (mut events, ended) = events(response).await;
        assert!(ended);
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        let mut id = None;
        let chunks: Vec<_> = events.iter().map(|event| chunk(event, &mut id)).collect();
        let choice = |delta: Value, finish: Value| {
            let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
            match with_usage {
                true => json!({"choices": [choice], "usage": null}),
                false => json!({"choices": [choice]}),
            }
        };
        let mut expected = vec![
            choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null),
            choice(json!({"content": "fake: "}), Value::Null),
            choice(json!({"content": "hello "}), Value::Null),
            choice(json!({"content": "you"}), Value::Null),
            choice(json!({}), json!("stop")),
        ];
        if with_usage {
            let usage = json!({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1}});
            expected.push(json!({"choices": [], "usage": usage}));
        }
        assert_eq!(chunks, expected);
    }
}

#[tokio::test]
async fn text_of_any_kind_comes_as_it_is() {
    let bench = Bench::start().await;
    let text = "\"quoted\" \\ new\nline \u{2028} ü data: [DONE]\n\n \u{1f375}";
    bench.fake.answers([text]);
    let (events, ended) = events(bench.chat(&ask_stream("gpt-x")).await).await;
    let contents = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let contents: String =
        contents.filter_map(|c| Some(c["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect();
    assert_eq!((contents.as_str(), ended), (text, true));
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_and_does_not_end_as_if_it_had() {
    let bench = Bench::with(|builder| {
        builder.config(|config| config.broker.stall_timeout = std::time::Duration::from_millis(200))
    })
    .await;
    for (fault, code) in [
        (Fault::StreamCut { after_chunks: 2 }, "provider_connection"),
        (Fault::StreamErrorMid { after_chunks: 2 }, "provider_server_fault"),
        (Fault::StreamStall { after_chunks: 2 }, "provider_timeout"),
        (Fault::ContentFilterFinish, "content_filter"),
    ] {
        bench.fake.fault(fault.clone());
        let response = bench.chat(&ask_stream("gpt-x")).await;
        assert_eq!(response.status(), 200, "it had begun");
        let (events, ended) = events(response).await;
        assert!(!ended, "{fault:?} ended as if it were whole: {events:?}");
        assert!(events.iter().all(|event| event != "[DONE]"), "{fault:?}: {events:?}");
        assert!(events.iter().any(|event| event.contains("fake: ")), "{fault:?}: {events:?}");
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], code, "{fault:?}: {last}");
        assert_ne!(last["error"]["message"], "");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_a_stream_ends_the_call_at_the_provider() {
    let bench = Bench::start().await;
    bench.fake.fault(Fault::StreamStall { after_chunks: 1 });
    let response = bench.chat(&ask_stream("gpt-x")).await;
    let mut bytes = response.bytes_stream();
    assert!(bytes.next().await.unwrap().is_ok());
    assert_eq!(bench.fake.counts().in_flight, 1);
    drop(bytes);
    assert_eq!(bench.fake.wait(|c| c.in_flight == 0, DEADLINE).await.unwrap().aborted, 1);
}

#[tokio::test]
async fn the_first_piece_does_not_wait_for_the_next() {
    let bench = Bench::start().await;
    bench.fake.fault(Fault::StreamStall { after_chunks: 1 });
    let mut bytes = bench.chat(&ask_stream("gpt-x")).await.bytes_stream();
    let mut text = String::new();
    let first = async {
        while !text.contains("fake: ") {
            text.push_str(std::str::from_utf8(&bytes.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, first).await.unwrap();
}
