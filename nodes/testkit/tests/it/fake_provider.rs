use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Endpoint, Fault, Rule};
use serde_json::{Value, json};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

fn request(stream: bool) -> Value {
    json!({
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello you"}],
        "stream": stream,
        "stream_options": {"include_usage": true},
    })
}

async fn post(fake: &FakeProvider, path: &str, body: &Value) -> reqwest::Result<reqwest::Response> {
    reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(format!("{}{path}", fake.base_url()))
        .json(body)
        .send()
        .await
}

#[tokio::test]
async fn it_answers_in_one_piece_and_remembers() {
    let fake = FakeProvider::builder().key("sk-1").start().await.unwrap();
    let refused = post(&fake, "/chat/completions", &request(false)).await.unwrap();
    assert_eq!(refused.status(), 401);

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/chat/completions", fake.base_url());
    let ask = || client.post(&url).bearer_auth("sk-1").json(&request(false)).send();
    let body: Value = ask().await.unwrap().json().await.unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "fake: hello you");
    assert_eq!(body["usage"]["prompt_tokens"], 4);
    fake.answers(["scripted"]);
    let body: Value = ask().await.unwrap().json().await.unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "scripted");

    let log = fake.requests();
    assert_eq!((log.len(), log[1].endpoint), (3, Endpoint::Chat));
    assert_eq!(log[1].headers["authorization"], "Bearer sk-1");
    assert_eq!(log[1].body["messages"][1]["content"], "hello you");
}

#[tokio::test]
async fn its_stream_is_that_of_the_real_one() {
    let fake = FakeProvider::start().await.unwrap();
    let text = post(&fake, "/chat/completions", &request(true)).await.unwrap().text().await.unwrap();
    let events: Vec<_> =
        text.split("\n\n").filter(|e| !e.is_empty()).map(|e| e.strip_prefix("data: ").unwrap()).collect();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|c| serde_json::from_str(c).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let said: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "fake: hello you");
    let [.., finish, usage] = &chunks[..] else { panic!("too few chunks") };
    assert_eq!((&finish["choices"][0]["finish_reason"], &finish["usage"]), (&json!("stop"), &Value::Null));
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(7)));
}

#[tokio::test]
async fn faults_are_set_over_http() {
    let fake = FakeProvider::start().await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let plan = json!({"rules": [{"endpoint": "chat", "fault": {"type": "rate_limit", "retry_after": 9}, "times": 1}]});
    assert_eq!(client.put(fake.faults_url()).json(&plan).send().await.unwrap().status(), 204);
    let limited = post(&fake, "/chat/completions", &request(false)).await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "9"));
    assert_eq!(post(&fake, "/chat/completions", &request(false)).await.unwrap().status(), 200);
    assert_eq!(client.put(fake.faults_url()).body("{}").send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn connections_are_reset_and_streams_cut() {
    let fake = FakeProvider::start().await.unwrap();
    for after_bytes in [0, 40, 300] {
        fake.rules([Rule::times(Fault::ConnectionReset { after_bytes }, 1)]);
        let broken = match post(&fake, "/chat/completions", &request(true)).await {
            Ok(response) => response.text().await.is_err(),
            Err(_) => true,
        };
        assert!(broken, "after {after_bytes} bytes");
    }
    fake.fault(Fault::StreamCut { after_chunks: 1 });
    let cut = post(&fake, "/chat/completions", &request(true)).await.unwrap().text().await.unwrap();
    assert!(cut.contains("fake: ") && !cut.contains("hello") && !cut.contains("DONE"), "{cut}");
}

#[tokio::test]
async fn it_sees_a_client_go() {
    let fake = FakeProvider::start().await.unwrap();
    fake.fault(Fault::Hang);
    let hello = request(false);
    let call = post(&fake, "/chat/completions", &hello);
    tokio::select! {
        _ = call => panic!("answered"),
        waiting = fake.wait(|c| c.in_flight == 1, DEADLINE) => { waiting.unwrap(); }
    }
    let after = fake.wait(|c| c.in_flight == 0, DEADLINE).await.unwrap();
    assert_eq!(after.aborted, 1);
}

#[tokio::test]
async fn its_anthropic_is_as_strict_as_the_real_one() {
    let fake = FakeProvider::builder().key("sk-1").start().await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let good = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello you"}]});
    let ask = async |change: Value, headers: &[(&str, &str)]| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let mut request = client.post(format!("{}/v1/messages", fake.root_url())).json(&body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let headers = [("x-api-key", "sk-1"), ("anthropic-version", "2023-06-01")];
    let (status, answer) = ask(json!({}), &headers).await;
    assert_eq!((status, &answer["content"][0]["text"]), (200, &json!("fake: hello you")));
    assert_eq!(ask(json!({}), &headers[..1]).await.0, 400);
    let (status, refused) = ask(json!({}), &headers[1..]).await;
    assert_eq!((status, &refused["error"]["type"]), (401, &json!("authentication_error")));
    for wrong in [
        json!({"max_tokens": null}),
        json!({"temperature": 1.5}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"messages": [{"role": "system", "content": "be brief"}]}),
        json!({"messages": [{"role": "user", "content": ""}]}),
    ] {
        let (status, refused) = ask(wrong.clone(), &headers).await;
        assert_eq!((status, &refused["error"]["type"]), (400, &json!("invalid_request_error")), "{wrong}");
    }
}

#[tokio::test]
async fn its_gemini_knows_its_own_fields_and_methods_only() {
    let fake = FakeProvider::builder().key("key").start().await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let good = json!({"contents": [{"role": "user", "parts": [{"text": "hello you"}]}]});
    let ask = async |method: &str, body: &Value, key: &str| {
        let url = format!("{}/v1beta/models/m:{method}", fake.root_url());
        let answer = client.post(url).header("x-goog-api-key", key).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = ask("generateContent", &good, "key").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["candidates"][0]["finishReason"]), (200, &json!("STOP")));
    let (status, text) = ask("streamGenerateContent?alt=sse", &good, "key").await;
    assert!(status == 200 && text.starts_with("data: {") && !text.contains("[DONE]"), "{text}");
    let (status, text) = ask("generateContent", &good, "other").await;
    assert!(status == 400 && text.contains("API_KEY_INVALID"), "{text}");
    for (method, body) in [
        ("streamGenerateContent", good.clone()),
        ("generateContent", json!({"contents": good["contents"], "messages": []})),
        ("generateContent", json!({"contents": good["contents"], "generationConfig": {"max_tokens": 5}})),
        ("generateContent", json!({"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]})),
    ] {
        let (status, text) = ask(method, &body, "key").await;
        assert!(status == 400 && text.contains("INVALID_ARGUMENT"), "{method} {body}: {text}");
    }
}

#[tokio::test]
async fn its_ollama_streams_lines_unless_it_is_told_not_to() {
    let fake = FakeProvider::start().await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |stream: Option<bool>| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hello you"}]});
        if let Some(stream) = stream {
            body["stream"] = json!(stream);
        }
        let answer = client.post(format!("{}/api/chat", fake.root_url())).json(&body).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let whole: Value = serde_json::from_str(&ask(Some(false)).await).unwrap();
    assert_eq!((&whole["message"]["content"], &whole["done"]), (&json!("fake: hello you"), &json!(true)));
    for stream in [None, Some(true)] {
        let lines: Vec<Value> =
            ask(stream).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said: String = lines.iter().filter_map(|l| l["message"]["content"].as_str()).collect();
        assert_eq!(said, "fake: hello you");
        let done: Vec<_> = lines.iter().map(|l| l["done"] == json!(true)).collect();
        assert_eq!(done, [false, false, false, false, true]);
    }
}
