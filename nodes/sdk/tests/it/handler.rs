use crate::stage::context;
use bytes::Bytes;
use callboard_sdk::{Failure, Kind, KindSpec, Registry, TaskContext};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Deserialize)]
struct Sum {
    numbers: Vec<u32>,
}

struct Add;

impl Kind for Add {
    type Input = Sum;
    type Output = BTreeMap<Vec<u8>, u32>;

    fn spec(&self) -> KindSpec {
        callboard_sdk::spec("add", "Adds numbers, and answers in a form that JSON does not have.").build()
    }

    async fn run(&self, _: &TaskContext, input: Sum) -> Result<Self::Output, Failure> {
        let sum = input.numbers.iter().sum();
        Ok(if sum == 0 { BTreeMap::new() } else { BTreeMap::from([(vec![1], sum)]) })
    }
}

async fn run(input: &'static str) -> Result<Bytes, Failure> {
    let registry = Registry::new().with(Add).unwrap();
    let entry = registry.get("add").unwrap();
    entry.handler.run(&context(1, Arc::default()), Bytes::from(input)).await
}

#[tokio::test]
async fn a_kind_runs_on_the_bytes_of_its_json() {
    assert_eq!(run(r#"{"numbers": []}"#).await.unwrap(), Bytes::from("{}"));
}

#[tokio::test]
async fn an_input_that_the_handler_cannot_read_fails_for_good() {
    for input in ["", "{}", r#"{"numbers": ["one"]}"#] {
        let error = run(input).await.unwrap_err().error;
        assert_eq!((error.reason.as_str(), error.retryable), ("TASK_UNREADABLE", false), "{input}");
    }
}

#[tokio::test]
async fn a_result_that_is_no_json_fails_for_good() {
    let error = run(r#"{"numbers": [1, 2]}"#).await.unwrap_err().error;
    assert_eq!((error.reason.as_str(), error.retryable), ("INVALID_RESULT", false));
}
