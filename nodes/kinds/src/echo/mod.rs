//! `echo`: gives its input back. It sleeps, fails and panics on demand, for tests and for trying things.
//!
//! It works on bytes: the input is looked through once, nothing is built, and the very same bytes are
//! the result. The benchmark measures the runtime with it.

use crate::{model, whole};
use bytes::Bytes;
use callboard_sdk::{Failure, Handler, KindSpec, TaskContext};
use futures::future::BoxFuture;
use serde::Deserialize;
use std::time::Duration;

/// The kind.
pub(crate) struct Echo;

/// What an input may ask for beside being given back. It happens in this order: sleep, panic, fail.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wish {
    #[serde(deserialize_with = "whole::number")]
    sleep_ms: u64,
    panic: bool,
    #[serde(deserialize_with = "whole::number")]
    panic_times: u32,
    #[serde(deserialize_with = "whole::number")]
    fail_times: u32,
}

impl Handler for Echo {
    fn spec(&self) -> KindSpec {
        callboard_sdk::spec("echo", "Gives its input back; sleeps, fails or panics if the input says so.")
            .input(include_str!("input.schema.json"))
            .result(include_str!("result.schema.json"))
            .example(r#"{"hello": "world", "sleep_ms": 100}"#)
            .build()
    }

    fn run<'a>(&'a self, ctx: &'a TaskContext, input: Bytes) -> BoxFuture<'a, Result<Bytes, Failure>> {
        Box::pin(async move {
            let wish: Wish = serde_json::from_slice(&input).map_err(|e| {
                Failure::permanent(format!("the input cannot be read: {e}")).reason("TASK_UNREADABLE")
            })?;
            if wish.sleep_ms > 0 {
                let sleep = tokio::time::sleep(Duration::from_millis(wish.sleep_ms));
                model::unless_cancelled(ctx, sleep).await?;
            }
            // A panic counts as a failed attempt, so both count the same failures.
            if wish.panic || ctx.failures() < wish.panic_times {
                panic_as_asked();
            }
            if ctx.failures() < wish.fail_times {
                let (nth, of) = (ctx.failures() + 1, wish.fail_times);
                return Err(Failure::retryable(format!("failed as asked: {nth} of {of}")));
            }
            Ok(input)
        })
    }
}

#[expect(clippy::panic, reason = "the input asks for it: it shows that a handler's panic is survived")]
fn panic_as_asked() -> ! {
    panic!("panicked as asked")
}
