//! One connection to Redis, for those backends that share it.
//!
//! It is made when it is first needed and again when it breaks, and every call has a deadline: whoever calls
//! learns soon that Redis is away. Commands of many callers travel together on it.
//!
//! Scripts are called by their hash, and sent whole where the server does not know them: some proxies refuse
//! `SCRIPT LOAD`, and a server that was restarted has forgotten all of them. Keys begin with a prefix and a
//! version, so that two versions of this program may share a server; the prefix is a hash tag, so that the
//! keys of one call are in one slot.

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, Cmd, FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, ToRedisArgs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest a call may be set to take.
pub const TIMEOUT: Duration = Duration::from_millis(500);

/// How many calls are on their way at once. More wait, within their deadline.
const IN_FLIGHT: usize = 4_096;
/// A peer that does not acknowledge data for so long is gone.
const DEAD_AFTER: Duration = Duration::from_secs(2);

/// Where Redis is.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// Its address: `redis://[user:password@]host[:port][/database]`, or `rediss://` with TLS.
    pub url: String,
    /// What every key begins with: clusters that share a server have different ones.
    pub prefix: String,
    /// How long a call may take, connecting included; at most [`TIMEOUT`].
    pub timeout: Duration,
}

impl Options {
    /// An address and a prefix; calls may take [`TIMEOUT`].
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: prefix.into(), timeout: TIMEOUT }
    }
}

impl std::fmt::Debug for Options {
    /// Without the address: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Options");
        shown.field("prefix", &self.prefix).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Why Redis did not do what was asked. Whether it ran is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is none. It is not repeated: it may hold a password.
    #[error("the address of redis is not one: {0}")]
    Address(String),
    /// No answer in time.
    #[error("redis did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It cannot be reached, or refused.
    #[error("{0}")]
    Failed(String),
}

/// A connection to Redis. Clones share it.
#[derive(Clone)]
pub struct Link {
    manager: ConnectionManager,
    shared: Arc<Shared>,
}

struct Shared {
    prefix: String,
    timeout: Duration,
    /// Set once the server is found not to know calls by hash.
    sends_code: AtomicBool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("prefix", &self.shared.prefix).finish_non_exhaustive()
    }
}

impl Link {
    /// A connection that is made at the first call. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(options: &Options) -> Result<Self, Error> {
        let address = |error: RedisError| Error::Address(error.to_string());
        let info = options.url.as_str().into_connection_info().map_err(address)?.set_tcp_settings(tcp());
        let timeout = options.timeout.min(TIMEOUT);
        // A failed attempt is not repeated in the background of a call: the next call tries again.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_pipeline_buffer_size(1_024)
            .set_concurrency_limit(IN_FLIGHT);
        let client = Client::open(info).map_err(address)?;
        let manager = ConnectionManager::new_lazy_with_config(client, config).map_err(address)?;
        let prefix = options.prefix.clone();
        Ok(Self { manager, shared: Arc::new(Shared { prefix, timeout, sends_code: AtomicBool::new(false) }) })
    }

    /// A key of ours.
    pub(crate) fn key(&self, kind: &str, name: &str) -> String {
        format!("{{{}}}:v1:{kind}:{name}", self.shared.prefix)
    }

    /// Runs a script. It may run twice if the connection breaks: what it does must bear that.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: impl ToRedisArgs,
    ) -> Result<T, Error> {
        self.in_time(async {
            if !self.shared.sends_code.load(Ordering::Relaxed) {
                match self.send(&script.command("EVALSHA", &script.hash, keys, &args)).await {
                    Err(error) if error.code() == Some("NOSCRIPT") => {}
                    Err(error) if is_refused_command(&error) => {
                        self.shared.sends_code.store(true, Ordering::Relaxed);
                    }
                    answer => return answer,
                }
            }
            self.send(&script.command("EVAL", script.code, keys, &args)).await
        })
        .await
    }

    /// Runs a command. It may run twice if the connection breaks: what it does must bear that.
    pub(crate) async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.in_time(self.send(command)).await
    }

    /// Whether Redis takes writes: it answers, is no replica and has memory.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let mut write = redis::cmd("SET");
        write.arg(self.key("probe", "")).arg(1).arg("PX").arg(60_000);
        self.in_time(self.send(&write)).await
    }

    async fn in_time<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, Error> {
        match tokio::time::timeout(self.shared.timeout, call).await {
            Ok(answer) => answer.map_err(|error| self.error(&error)),
            Err(_) => Err(Error::Late(self.shared.timeout)),
        }
    }

    /// Once more where the connection was found broken: an idle one may have been for long, and the failure of
    /// an earlier attempt to connect is told to the next who calls.
    async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut manager = self.manager.clone();
        match command.query_async(&mut manager).await {
            Err(error) if error.is_unrecoverable_error() => command.query_async(&mut manager).await,
            answer => answer,
        }
    }

    fn error(&self, error: &RedisError) -> Error {
        if error.is_timeout() { Error::Late(self.shared.timeout) } else { Error::Failed(error.to_string()) }
    }
}

/// Whether a server or a proxy does not take this command at all.
fn is_refused_command(error: &RedisError) -> bool {
    let is_unknown = || error.detail().is_some_and(|text| text.to_lowercase().contains("unknown command"));
    error.code() == Some("NOPERM") || is_unknown()
}

fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(DEAD_AFTER / 2);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    // Without it a connection that was cut off is kept for a quarter of an hour.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(DEAD_AFTER);
    settings
}

/// A script and its hash. To change what one does, change the version of its keys.
#[derive(Debug)]
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    fn command(&self, command: &str, script: &str, keys: &[String], args: &impl ToRedisArgs) -> Cmd {
        let mut call = redis::cmd(command);
        call.arg(script).arg(keys.len()).arg(keys).arg(args);
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_address_is_named_without_repeating_it() {
        for url in ["http://user:secret@host", "redis//secret"] {
            let error = Link::new(&Options::new(url, "x")).unwrap_err();
            assert!(matches!(error, Error::Address(_)), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn options_are_shown_without_the_password() {
        let shown = format!("{:?}", Options::new("redis://user:secret@host", "mine"));
        assert!(shown.contains("mine") && !shown.contains("secret"), "{shown}");
    }

    #[tokio::test]
    async fn keys_of_one_prefix_are_in_one_slot() {
        let link = Link::new(&Options::new("redis://127.0.0.1:1", "mine")).unwrap();
        assert_eq!(link.key("lock", "a"), "{mine}:v1:lock:a");
    }

    #[tokio::test]
    async fn nobody_there_is_said_at_once() {
        let link = Link::new(&Options::new("redis://127.0.0.1:1", "mine")).unwrap();
        for _ in 0..3 {
            assert!(matches!(link.probe().await, Err(Error::Failed(_))));
        }
    }
}
