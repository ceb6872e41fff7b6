use crate::support::Stage;
use bytes::Bytes;
use callboard_sdk::Failure;
use futures::FutureExt;
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn the_very_bytes_of_the_input_come_back() {
    for input in ["{}", r#"{ "b": [1, {"c": null}],  "a": "ä" }"#, r#"{"sleep_ms": 0.0, "fail_times": 0}"#] {
        let input = Bytes::from(input);
        let output = Stage::of("echo").run_bytes(input.clone()).await.unwrap();
        assert_eq!(output, input);
        // Not a copy.
        assert_eq!(output.as_ptr(), input.as_ptr());
    }
}

#[tokio::test]
async fn it_fails_as_often_as_asked_and_then_succeeds() {
    let input = json!({"fail_times": 2});
    for failures in 0..2 {
        let failure = Stage::of("echo").failures(failures).run(&input).await.unwrap_err();
        assert!(failure.error.retryable);
        assert_eq!(failure.error.message, format!("failed as asked: {} of 2", failures + 1));
    }
    assert_eq!(Stage::of("echo").failures(2).run(&input).await, Ok(input));
}

#[tokio::test]
async fn it_panics_as_often_as_asked_and_panics_come_first() {
    async fn run(failures: u32, input: serde_json::Value) -> Option<Result<serde_json::Value, Failure>> {
        let stage = Stage::of("echo").failures(failures);
        AssertUnwindSafe(stage.run(&input)).catch_unwind().await.ok()
    }
    let input = json!({"panic_times": 1, "fail_times": 2});
    assert!(run(0, input.clone()).await.is_none());
    assert!(run(1, input.clone()).await.unwrap().is_err());
    assert!(run(2, input).await.unwrap().is_ok());
    assert!(run(99, json!({"panic": true})).await.is_none());
    assert!(run(0, json!({"panic": false})).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn it_sleeps_as_long_as_asked() {
    let start = Instant::now();
    Stage::of("echo").run(&json!({"sleep_ms": 86_400_000})).await.unwrap();
    let slept = start.elapsed();
    assert!((86_400_000..86_400_010).contains(&slept.as_millis()), "{slept:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_sleep() {
    let (stage, input) = (Stage::of("echo"), json!({"sleep_ms": 60_000}));
    let start = Instant::now();
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stage.cancel();
    };
    let (result, ()) = tokio::join!(stage.run(&input), cancel);
    assert!(result.unwrap_err().error.message.contains("cancelled"));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}
