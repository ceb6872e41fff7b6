//! What a client is made with.

use std::time::Duration;

/// The port that an address without one means.
pub(crate) const DEFAULT_PORT: u16 = 7070;

/// How a [`Client`](crate::Client) behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The nodes to talk to, as `host:port` or `http://host:port`. The first that answers is used until it
    /// goes away. At least one.
    pub addresses: Vec<String>,
    /// The time a call may take over all its attempts. Streams are bound by it only until they open.
    pub timeout: Duration,
    /// The time a direct LLM call may take, where the request itself gives none.
    pub generate_timeout: Duration,
    /// The time one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long a call goes on trying while no address answers. Each is tried at least once.
    pub patience: Duration,
    /// How long a watch that was open goes on trying after it was cut.
    pub watch_patience: Duration,
    /// The key for an admin's calls, where the nodes ask for one. It is sent with those alone.
    pub key: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addresses: vec![format!("127.0.0.1:{DEFAULT_PORT}")],
            timeout: Duration::from_secs(30),
            generate_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(2),
            patience: Duration::from_secs(10),
            watch_patience: Duration::from_secs(300),
            key: None,
        }
    }
}
