//! Shared answers in Redis: a key for each, with its time as expiry. What takes memory there is for Redis to bound, by
//! `maxmemory` and a policy that evicts; it may drop any of them.

use crate::redis_link::{self, Link};
use async_trait::async_trait;
use bytes::Bytes;
use callboard_ports::answers::{self, BYTES, Error};
use std::time::Duration;

/// Shared answers in Redis. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Answers {
    link: Link,
}

impl Answers {
    /// Answers behind a connection.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link }
    }

    fn key(&self, name: &str) -> String {
        self.link.key("answer", name)
    }
}

#[async_trait]
impl answers::Answers for Answers {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let mut get = redis::cmd("GET");
        get.arg(self.key(key));
        let found: Option<Vec<u8>> = self.link.call(&get).await.map_err(unavailable)?;
        Ok(found.map(Bytes::from))
    }

    async fn put(&self, key: &str, answer: Bytes, ttl: Duration) -> Result<(), Error> {
        if answer.len() > BYTES {
            return Ok(());
        }
        // Redis refuses an expiry of nothing.
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut set = redis::cmd("SET");
        set.arg(self.key(key)).arg(&answer[..]).arg("PX").arg(millis);
        self.link.call(&set).await.map_err(unavailable)
    }
}

fn unavailable(error: redis_link::Error) -> Error {
    Error::Unavailable(error.to_string())
}
