//! Locks in Redis: a key for each, with its owner as value and its time to live as expiry.
//!
//! They make work efficient, never correct. A lock that is held twice (Redis lost its data, or failed over to a
//! replica that had not heard of it) does no harm, because the store fences what its holders write. Taking,
//! keeping and giving back a lock look at the owner and change it in one step, so nobody ends another's lock.
//!
//! Every call may be repeated without harm, and ends within the connection's timeout. While Redis is away each
//! says [`Error::Unavailable`]; once it is back, calls succeed again by themselves.

use crate::redis_link::{self, Link, Script};
use async_trait::async_trait;
use callboard_ports::locks::{self, Error};
use callboard_ports::planted::Bug;
use std::sync::Arc;
use std::time::Duration;

/// A time to live that is over every use.
const FOREVER: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Locks in Redis. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Locks {
    link: Link,
    scripts: Arc<Scripts>,
}

#[derive(Debug)]
struct Scripts {
    acquire: Script,
    renew: Script,
    release: Script,
}

impl Locks {
    /// Locks behind a connection.
    #[must_use]
    pub fn new(link: Link) -> Self {
        let release = if Bug::BlindLockDelete.is_planted() {
            "return redis.call('DEL', KEYS[1])"
        } else {
            include_str!("release.lua")
        };
        let scripts = Scripts {
            acquire: Script::new(include_str!("acquire.lua")),
            renew: Script::new(include_str!("renew.lua")),
            release: Script::new(release),
        };
        Self { link, scripts: Arc::new(scripts) }
    }

    fn key(&self, name: &str) -> [String; 1] {
        [self.link.key("lock", name)]
    }
}

#[async_trait]
impl locks::Locks for Locks {
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), Error> {
        let args = (owner, millis(ttl));
        let holder: Option<String> =
            self.link.run(&self.scripts.acquire, &self.key(name), args).await.map_err(unavailable)?;
        holder.map_or(Ok(()), |holder| Err(Error::Held { holder }))
    }

    async fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), Error> {
        let args = (owner, millis(ttl));
        let kept: bool =
            self.link.run(&self.scripts.renew, &self.key(name), args).await.map_err(unavailable)?;
        kept.then_some(()).ok_or(Error::Lost)
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), Error> {
        let _: bool =
            self.link.run(&self.scripts.release, &self.key(name), owner).await.map_err(unavailable)?;
        Ok(())
    }
}

/// Redis refuses an expiry of nothing.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.min(FOREVER).as_millis()).unwrap_or(u64::MAX).max(1)
}

fn unavailable(error: redis_link::Error) -> Error {
    Error::Unavailable(error.to_string())
}
