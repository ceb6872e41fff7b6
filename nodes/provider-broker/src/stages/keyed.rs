//! Calls with an idempotency key, as one of several nodes makes them.

use super::asked::Key;
use super::claim::{TTL, Taken};
use super::shelf::Kept;
use super::{Answer, Asked, Route, Stages, again};
use callboard_domain::llm::{CacheSource, Error, ErrorKind, TextResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

impl<R: Route> Stages<R> {
    /// Answers a call with a key that this node knows no answer of: as another one did, or does now; else it makes the call.
    pub(super) async fn of_all_nodes(
        self: &Arc<Self>,
        key: Key,
        mut asked: Asked,
        patience: Duration,
    ) -> Answer {
        let (began, mut looks) = (Instant::now(), 0);
        let claim = loop {
            let taken = self.claims.take(key).await;
            // After it was claimed: whoever held it before may have kept an answer. What is kept stands for the key, whoever
            // claims it now.
            if let Some(answer) = self.replay_of_others(key, &asked).await.transpose() {
                if let Taken::Ours(claim) = taken {
                    claim.release().await;
                }
                return answer;
            }
            match taken {
                Taken::Ours(claim) => break Some(claim),
                Taken::Unknown => break None,
                Taken::Other => return Err(self.claimed_for_another()),
                Taken::Held if began.elapsed() >= patience => return Err(late(patience)),
                Taken::Held => sleep(self.claims.pause(looks)).await,
            }
            looks += 1;
        };
        if looks > 0 {
            // What it may take is over all.
            asked.request.timeout = Some(patience.saturating_sub(began.elapsed()));
        }
        let Some(claim) = claim else {
            let answer = self.cached(asked.clone()).await?;
            return Ok(self.remember(key, &asked, answer).await);
        };
        match claim.during(self.cached(asked.clone())).await {
            // The claim ends by itself: those who find it look for the answer, and find that too.
            Ok(answer) if self.is_kept(&answer) => Ok(self.remember(key, &asked, answer).await),
            answer => {
                claim.release().await;
                answer
            }
        }
    }

    /// A key is claimed for another call, which may be over: a claim outlives its caller.
    fn claimed_for_another(&self) -> Error {
        self.counters.conflicts.one();
        let message = format!(
            "another call with the idempotency key, and another request, may still be under way: use a new key for each \
             request, or try again in {} s",
            TTL.as_secs()
        );
        Error::new(ErrorKind::InvalidRequest, message)
    }

    /// Whether an answer stands for its key. One that nobody was paid for, as no provider answered, may be a better one
    /// later.
    fn is_kept(&self, answer: &TextResponse) -> bool {
        let makeshift = matches!(answer.summary.from_cache, Some(CacheSource::Similar(_)));
        !makeshift && !self.route.is_local(&answer.summary.provider)
    }

    /// Keeps an answer for calls with the same key, and gives the one that stands for it: that which was kept first, if
    /// another node made the call too.
    pub(super) async fn remember(&self, key: Key, asked: &Asked, answer: TextResponse) -> TextResponse {
        if !self.is_kept(&answer) {
            return answer;
        }
        let ttl = self.rules().replay_ttl();
        let (answer, given) = match self.second.put_first(key.at, key.of, &answer, ttl).await {
            Some((first, true)) => (first.clone(), again(&first, CacheSource::Replayed)),
            // The key stands for another request.
            Some((_, false)) => return answer,
            None => (answer.clone(), answer),
        };
        self.replays.put(key.at, Kept::new(key.of, &asked.scope, answer, ttl));
        given
    }
}

fn late(patience: Duration) -> Error {
    let message = format!(
        "another node makes the call with this idempotency key, and has no answer after {patience:?}"
    );
    Error::new(ErrorKind::Timeout, message)
}
