//! What a person writes a task kind against.
//!
//! A kind is a [`Kind`]: a specification with JSON schemas, and an async function from input to output.
//! It runs at least once: an attempt may be repeated when its node is lost, so whatever it does outside
//! takes a stable key from [`TaskContext::idempotency_key`].
//!
//! ```
//! use callboard_sdk::{Failure, Kind, KindSpec, Registry, TaskContext};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     name: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     greeting: String,
//! }
//!
//! struct Greet;
//!
//! impl Kind for Greet {
//!     type Input = Input;
//!     type Output = Output;
//!
//!     fn spec(&self) -> KindSpec {
//!         callboard_sdk::spec("greet", "Greets somebody.")
//!             .input(r#"{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}"#)
//!             .result(r#"{"type": "object", "required": ["greeting"]}"#)
//!             .example(r#"{"name": "Ada"}"#)
//!             .build()
//!     }
//!
//!     async fn run(&self, ctx: &TaskContext, input: Input) -> Result<Output, Failure> {
//!         ctx.progress(50, "thinking of something nice");
//!         Ok(Output { greeting: format!("Hello, {}!", input.name) })
//!     }
//! }
//!
//! let registry = Registry::new().with(Greet)?;
//! assert!(registry.get("greet").is_some());
//! # Ok::<(), callboard_sdk::registry::Error>(())
//! ```
//!
//! This crate runs nothing: the Worker does.

mod context;
mod failure;
mod json;
mod kind;
pub mod registry;
pub mod schema;

pub use callboard_domain::{KindSpec, limits, llm};
pub use context::{ArtifactSink, Llm, Parts, ProgressSink, TaskContext};
pub use failure::Failure;
pub use kind::{Handler, Kind, SpecBuilder, spec};
pub use registry::Registry;
