//! Shared answers in Redis: a key for each, with its time as expiry. What takes memory there is for Redis to bound, by
//! `maxmemory` and a policy that evicts; it may drop any of them.

use crate::redis_link::{self, Link, Script};
use async_trait::async_trait;
use bytes::Bytes;
use callboard_ports::answers::{self, BYTES, Error};
use std::sync::Arc;
use std::time::Duration;

/// Shared answers in Redis. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Answers {
    link: Link,
    put_first: Arc<Script>,
}

impl Answers {
    /// Answers behind a connection.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link, put_first: Arc::new(Script::new(include_str!("put_first.lua"))) }
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
        let mut set = redis::cmd("SET");
        set.arg(self.key(key)).arg(&answer[..]).arg("PX").arg(millis(ttl));
        self.link.call(&set).await.map_err(unavailable)
    }

    async fn put_first(&self, key: &str, answer: Bytes, ttl: Duration) -> Result<Option<Bytes>, Error> {
        if answer.len() > BYTES {
            return self.get(key).await;
        }
        let keys = [self.key(key)];
        let kept: Option<Vec<u8>> =
            self.link.run(&self.put_first, &keys, (&answer[..], millis(ttl))).await.map_err(unavailable)?;
        // A command is sent again after a connection that broke, and then may find what it kept itself.
        Ok(kept.filter(|kept| *kept != answer).map(Bytes::from))
    }
}

/// Redis refuses an expiry of nothing.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn unavailable(error: redis_link::Error) -> Error {
    Error::Unavailable(error.to_string())
}
