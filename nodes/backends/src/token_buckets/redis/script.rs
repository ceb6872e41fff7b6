//! Calls of the script, and what it answers.

use crate::redis_link::{Error, Link, Script};
use callboard_ports::token_buckets::Level;
use std::time::Duration;

/// Millionths in a token.
pub(super) const MICRO: f64 = 1e6;
/// The most millionths that a number of the script holds exactly.
const MOST: f64 = 9e15;
/// The most buckets of one call.
pub const LEVELS: usize = 64;

/// A number of tokens in millionths.
pub(super) fn micro(tokens: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
    let whole = (tokens * MICRO).round().clamp(-MOST, MOST) as i64;
    whole
}

/// A bucket, in the script's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) key: String,
    /// Millionths of a token a second.
    pub(super) rate: i64,
    pub(super) burst: i64,
}

impl Bucket {
    pub(super) fn of(level: &Level) -> Self {
        Self { key: level.key.clone(), rate: micro(level.rate), burst: micro(level.burst) }
    }

    /// What comes back in a span.
    pub(super) fn comes_back(&self, span: Duration) -> i64 {
        let micros = i128::try_from(span.as_micros()).unwrap_or(i128::MAX);
        let back = i128::from(self.rate).saturating_mul(micros) / 1_000_000;
        i64::try_from(back).unwrap_or(i64::MAX)
    }

    /// When so much will have come back.
    pub(super) fn wait(&self, missing: i64) -> Option<Duration> {
        let micros = (i128::from(missing.max(0)) * 1_000_000 + i128::from(self.rate) - 1)
            / i128::from(self.rate.max(1));
        let micros = u64::try_from(micros).ok()?;
        (self.rate > 0).then(|| Duration::from_micros(micros))
    }
}

/// A bucket that lacks tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// Which of those that were named.
    pub(super) at: usize,
    /// When it will have enough; `None`: never.
    pub(super) wait: Option<Duration>,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leased {
    Granted {
        granted: i64,
        /// What the bucket has left.
        tokens: i64,
    },
    /// It has fewer than the least that was asked for.
    Lacking { wait: Option<Duration>, tokens: i64 },
}

/// The script, over a connection.
#[derive(Debug)]
pub(super) struct Calls {
    link: Link,
    script: Script,
    life: String,
}

impl Calls {
    pub(super) fn new(link: Link) -> Self {
        let life = link.key("life", "");
        Self { link, script: Script::new(include_str!("buckets.lua")), life }
    }

    /// Debits every bucket by its cost, or none.
    pub(super) async fn take(&self, debits: &[(Bucket, i64)]) -> Result<Option<Lack>, Error> {
        self.check("take", debits).await
    }

    /// What [`Self::take`] would answer.
    pub(super) async fn peek(&self, debits: &[(Bucket, i64)]) -> Result<Option<Lack>, Error> {
        self.check("peek", debits).await
    }

    /// Debits every bucket by its cost, below zero if need be.
    pub(super) async fn settle(&self, debits: &[(Bucket, i64)]) -> Result<(), Error> {
        self.run("settle", 0, 0, debits).await.map(drop)
    }

    /// Debits every bucket by its cost, to zero at most.
    pub(super) async fn repay(&self, debits: &[(Bucket, i64)]) -> Result<(), Error> {
        self.run("repay", 0, 0, debits).await.map(drop)
    }

    /// Debits a bucket by what it has, from `least` to `most`. What is left of an earlier lease is given back
    /// with it, if it is granted.
    pub(super) async fn lease(
        &self,
        bucket: &Bucket,
        least: i64,
        most: i64,
        back: i64,
    ) -> Result<Leased, Error> {
        let answer = self.run("lease", most, back, &[(bucket.clone(), least)]).await?;
        match *answer {
            [1, granted, tokens] => Ok(Leased::Granted { granted, tokens }),
            [0, _, wait, tokens] => Ok(Leased::Lacking { wait: micros(wait), tokens }),
            _ => Err(strange(&answer)),
        }
    }

    /// Whether Redis takes writes.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        self.link.probe().await
    }

    async fn check(&self, action: &'static str, debits: &[(Bucket, i64)]) -> Result<Option<Lack>, Error> {
        let answer = self.run(action, 0, 0, debits).await?;
        match *answer {
            [1] => Ok(None),
            [0, at, wait] => {
                let at = usize::try_from(at).ok().and_then(|at| at.checked_sub(1));
                let at = at.filter(|at| *at < debits.len()).ok_or_else(|| strange(&answer))?;
                Ok(Some(Lack { at, wait: micros(wait) }))
            }
            _ => Err(strange(&answer)),
        }
    }

    async fn run(
        &self,
        action: &'static str,
        most: i64,
        back: i64,
        debits: &[(Bucket, i64)],
    ) -> Result<Vec<i64>, Error> {
        let mut keys = Vec::with_capacity(1 + debits.len());
        keys.push(self.life.clone());
        keys.extend(debits.iter().map(|(bucket, _)| self.link.key("bucket", &bucket.key)));
        let numbers: Vec<i64> = [most, back]
            .into_iter()
            .chain(debits.iter().flat_map(|(bucket, cost)| [bucket.rate, bucket.burst, *cost]))
            .collect();
        self.link.run(&self.script, &keys, (action, numbers)).await
    }
}

fn micros(wait: i64) -> Option<Duration> {
    u64::try_from(wait).ok().map(Duration::from_micros)
}

fn strange(answer: &[i64]) -> Error {
    Error::Failed(format!("the script of the buckets answered {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_in_millionths() {
        for (tokens, wanted) in [(0.25, 250_000), (-4.0, -4_000_000), (1e30, 9_000_000_000_000_000)] {
            assert_eq!(micro(tokens), wanted);
        }
        assert_eq!(micro(f64::NAN), 0);
    }

    #[test]
    fn what_was_waited_for_has_come_back() {
        for rate in [1, 7, 1_000, 333_333, 1_000_000_000] {
            let bucket = Bucket { key: String::new(), rate, burst: 0 };
            for missing in [1, 999, 1_000_001] {
                let wait = bucket.wait(missing).unwrap();
                assert!(bucket.comes_back(wait) >= missing, "{missing} at {rate}");
                let earlier = wait.saturating_sub(Duration::from_micros(1));
                assert!(bucket.comes_back(earlier) < missing, "{missing} at {rate}");
            }
        }
        assert_eq!(Bucket { key: String::new(), rate: 0, burst: 0 }.wait(1), None);
    }
}
