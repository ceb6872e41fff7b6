//! Locks inside one process. They end with it, as do all who could hold them.
//!
//! A time to live is measured on tokio's clock, so that tests can move it. At most [`LOCKS`] are held at once.

use async_trait::async_trait;
use callboard_ports::locks::{self, Error};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The most locks that are held at once. One more is refused as [`Error::Unavailable`].
pub const LOCKS: usize = 10_000;

/// A time to live that is over every use.
const FOREVER: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Locks inside one process.
#[derive(Debug, Default)]
pub struct Locks {
    held: Mutex<Table>,
}

impl Locks {
    /// Locks that nobody holds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn held(&self) -> MutexGuard<'_, Table> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl locks::Locks for Locks {
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), Error> {
        self.held().acquire(name, owner, ttl, Instant::now())
    }

    async fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), Error> {
        self.held().renew(name, owner, ttl, Instant::now())
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), Error> {
        self.held().release(name, owner);
        Ok(())
    }
}

/// Who holds what.
#[derive(Debug, Default)]
struct Table(HashMap<String, Held>);

#[derive(Debug)]
struct Held {
    owner: String,
    until: Instant,
}

impl Table {
    fn acquire(&mut self, name: &str, owner: &str, ttl: Duration, now: Instant) -> Result<(), Error> {
        match self.0.get(name) {
            Some(held) if held.until > now && held.owner != owner => {
                return Err(Error::Held { holder: held.owner.clone() });
            }
            None if self.0.len() >= LOCKS => {
                self.0.retain(|_, held| held.until > now);
                if self.0.len() >= LOCKS {
                    return Err(Error::Unavailable(format!("{LOCKS} locks are held already")));
                }
            }
            _ => {}
        }
        self.0.insert(name.to_owned(), Held { owner: owner.to_owned(), until: now + ttl.min(FOREVER) });
        Ok(())
    }

    fn renew(&mut self, name: &str, owner: &str, ttl: Duration, now: Instant) -> Result<(), Error> {
        let held = self.0.get_mut(name).filter(|held| held.owner == owner && held.until > now);
        held.ok_or(Error::Lost)?.until = now + ttl.min(FOREVER);
        Ok(())
    }

    fn release(&mut self, name: &str, owner: &str) {
        if self.0.get(name).is_some_and(|held| held.owner == owner) {
            self.0.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn a_lock_expires_to_the_microsecond() {
        let (mut locks, now) = (Table::default(), Instant::now());
        assert_eq!(locks.acquire("a", "one", TTL, now), Ok(()));
        let before = now + TTL - Duration::from_micros(1);
        assert_eq!(locks.acquire("a", "two", TTL, before), Err(Error::Held { holder: "one".into() }));
        assert_eq!(locks.renew("a", "one", TTL, now + TTL), Err(Error::Lost));
        assert_eq!(locks.acquire("a", "two", TTL, now + TTL), Ok(()));
    }

    #[test]
    fn expired_locks_make_room_and_no_more_than_the_bound_are_held() {
        let (mut locks, now) = (Table::default(), Instant::now());
        for i in 0..LOCKS {
            assert_eq!(locks.acquire(&i.to_string(), "one", TTL, now), Ok(()));
        }
        assert!(matches!(locks.acquire("more", "one", TTL, now), Err(Error::Unavailable(_))));
        assert_eq!(locks.acquire("7", "one", TTL, now), Ok(()), "who holds one keeps it");
        assert_eq!(locks.acquire("more", "one", Duration::MAX, now + TTL), Ok(()));
        assert_eq!(locks.0.len(), 1);
    }
}
