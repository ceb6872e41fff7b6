use crate::context::TaskContext;
use crate::failure::Failure;
use bytes::Bytes;
use callboard_domain::KindSpec;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::time::Duration;

/// A task kind: what it takes, what it gives, and how it gets there.
pub trait Kind: Send + Sync + 'static {
    /// Its input. Valid against the kind's schema by the time it gets here.
    type Input: DeserializeOwned + Send;
    /// Its result, at most 1 MiB as JSON. Larger ones are artifacts.
    type Output: Serialize + Send;

    /// Its name, schemas and defaults.
    fn spec(&self) -> KindSpec;

    /// Does the work. Dropped at the attempt's deadline, and a grace after a cancel: whatever must not
    /// be left half done watches [`TaskContext::cancelled`]. A panic fails the attempt and nothing else.
    ///
    /// # Errors
    /// A [`Failure`] says whether another attempt could help.
    fn run(
        &self,
        ctx: &TaskContext,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// A task kind on bytes: for kinds that pass JSON through untouched, and for workers in other languages.
pub trait Handler: Send + Sync + 'static {
    /// Its name, schemas and defaults.
    fn spec(&self) -> KindSpec;

    /// Does the work, as [`Kind::run`] does, on the input's JSON; the result is JSON.
    fn run<'a>(&'a self, ctx: &'a TaskContext, input: Bytes) -> BoxFuture<'a, Result<Bytes, Failure>>;
}

/// Makes a [`Handler`] of a [`Kind`].
pub(crate) struct Typed<K>(pub(crate) K);

impl<K: Kind> Handler for Typed<K> {
    fn spec(&self) -> KindSpec {
        self.0.spec()
    }

    fn run<'a>(&'a self, ctx: &'a TaskContext, input: Bytes) -> BoxFuture<'a, Result<Bytes, Failure>> {
        Box::pin(async move {
            let input = serde_json::from_slice(&input).map_err(|e| {
                Failure::permanent(format!("the input fits its schema but not the handler: {e}"))
                    .reason("TASK_UNREADABLE")
            })?;
            let output = self.0.run(ctx, input).await?;
            let json = serde_json::to_vec(&output).map_err(|e| {
                Failure::permanent(format!("the result is no JSON: {e}")).reason("INVALID_RESULT")
            })?;
            Ok(json.into())
        })
    }
}

/// Starts a kind's specification: version 1, the queue `default`, 5 minutes an attempt, 5 attempts,
/// schemas that accept any object.
#[must_use]
pub fn spec(name: &str, description: &str) -> SpecBuilder {
    SpecBuilder(KindSpec {
        name: name.to_owned(),
        version: 1,
        description: description.to_owned(),
        input_schema: r#"{"type": "object"}"#.to_owned(),
        result_schema: "true".to_owned(),
        example_input: "{}".to_owned(),
        queue: "default".to_owned(),
        timeout: Duration::from_secs(300),
        max_attempts: 5,
    })
}

/// A kind's specification in the making.
#[derive(Clone, Debug)]
pub struct SpecBuilder(KindSpec);

impl SpecBuilder {
    /// The version: raise it when a schema changes.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.0.version = version;
        self
    }

    /// The JSON schema of the input. The schema `true` accepts anything.
    #[must_use]
    pub fn input(mut self, schema: impl Into<String>) -> Self {
        self.0.input_schema = schema.into();
        self
    }

    /// The JSON schema of the result.
    #[must_use]
    pub fn result(mut self, schema: impl Into<String>) -> Self {
        self.0.result_schema = schema.into();
        self
    }

    /// An input to try.
    #[must_use]
    pub fn example(mut self, input: impl Into<String>) -> Self {
        self.0.example_input = input.into();
        self
    }

    /// The queue its tasks wait in by default.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.0.queue = queue.into();
        self
    }

    /// The time an attempt may take by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = timeout;
        self
    }

    /// How many failed attempts are allowed by default.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.0.max_attempts = attempts;
        self
    }

    /// The specification.
    #[must_use]
    pub fn build(self) -> KindSpec {
        self.0
    }
}
