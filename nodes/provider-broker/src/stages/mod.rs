//! What a call for a text passes before its way to providers, and after it.
//!
//! ```text
//! redact -> idempotency key -> exact cache -> single flight -> the route -> similar content
//! ```
//!
//! Each stage is a module that knows nothing of the others; this one puts them together. A stage that a call has no use
//! for is a condition, and what is awaited is never boxed.
//!
//! - What goes into a cache is whole: the model stopped by itself, the first provider answered, there is a text. An error
//!   never does.
//! - An answer that no provider gave for this call says so ([`Summary::from_cache`]).
//! - Nobody gets what another namespace has asked for.
//! - The nodes of a cluster make one call for an idempotency key, as far as they can talk: see [`claim`].
//! - All that is kept is bounded in bytes and in time.

mod asked;
mod claim;
mod clears;
mod counts;
mod fingerprint;
mod flight;
mod frequent;
mod keyed;
mod redact;
mod second;
mod shelf;
mod similar;
mod streamed;

pub(crate) use claim::Claims;
pub use clears::Cleared;
pub use counts::{CacheCounts, StageCounts};
pub(crate) use frequent::{Begun, Due};

use crate::config::Config;
use crate::route::PieceStream;
use asked::{Asked, Key, Rules};
use callboard_domain::ProviderRecord;
use callboard_domain::limits;
use callboard_domain::llm::{
    CacheSource, EmbeddingRequest, Error, ErrorKind, ImageRequest, ProviderAttempt, Summary, TextRequest,
    TextResponse,
};
use callboard_ports::answers::Answers;
use callboard_runtime::mesh;
use clears::Clears;
use counts::Counters;
use fingerprint::Fingerprint;
use flight::{Answer, Flights, Part};
use frequent::Frequent;
use redact::Redactor;
use second::{COPIED, Second};
use shelf::{Kept, Room, Shelf};
use similar::Similar;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::timeout;

/// The way to the providers.
pub(crate) trait Route: Send + Sync + 'static {
    fn text(&self, request: &TextRequest) -> impl Future<Output = Answer> + Send;

    fn text_stream(
        self: &Arc<Self>,
        request: &TextRequest,
    ) -> impl Future<Output = Result<PieceStream, Error>> + Send;

    /// Whether this is no provider, but its stand-in, who makes answers from templates.
    fn is_local(&self, provider: &str) -> bool;
}

/// For whom a call is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The namespace of the caller.
    namespace: String,
    /// The kind of the task that calls; empty for a direct call.
    kind: String,
    /// How many attempts of that task failed by themselves before this one.
    failures: u32,
}

impl Scope {
    /// Of the call that is being served.
    fn current() -> Self {
        let mesh::Context { namespace, kind, failures, .. } = mesh::current();
        Self { namespace, kind, failures }
    }
}

/// What two calls must have in common to share one: what they ask, whether the answer is kept, their time.
type Flight = (Fingerprint, bool, Option<Duration>);

/// The stages, around a route.
pub(crate) struct Stages<R> {
    route: Arc<R>,
    redactor: Redactor,
    /// Those of now: a reload replaces them.
    rules: RwLock<Arc<Rules>>,
    cache: Shelf,
    flights: Flights<Flight>,
    replays: Shelf,
    keyed: Flights<Fingerprint>,
    claims: Claims,
    second: Second,
    clears: Clears,
    frequent: Option<Frequent>,
    similar: Option<Similar>,
    counters: Counters,
}

impl<R: Route> Stages<R> {
    /// The stages of a node; `shared` are the answers that it shares with others, if it does, and `claims` who makes calls
    /// for them.
    pub(crate) fn new(
        route: Arc<R>,
        config: &Config,
        shared: Option<Arc<dyn Answers>>,
        claims: Claims,
    ) -> Arc<Self> {
        Arc::new(Self {
            route,
            redactor: Redactor::new(&config.redact),
            rules: RwLock::new(Arc::new(Rules::new(config))),
            cache: Shelf::new(config.cache.max_mb, Room::Rare),
            flights: Flights::default(),
            replays: Shelf::new(config.idempotency.max_mb, Room::Old),
            keyed: Flights::default(),
            claims,
            second: Second::new(shared),
            clears: Clears::default(),
            frequent: Frequent::new(&config.cache),
            similar: Similar::new(&config.similar),
            counters: Counters::default(),
        })
    }

    /// Answers a call for a text.
    pub(crate) async fn text(self: &Arc<Self>, request: &TextRequest) -> Answer {
        let asked = self.read(request);
        match asked.key {
            Some(key) => self.by_key(key, asked).await,
            None => self.cached(asked).await,
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on with the providers of another configuration, once the route has: what others were asked is not what these are.
    /// What stages are made with, and how they keep answers, stays as it was at the start.
    pub(crate) fn reconfigure(&self, config: &Config) {
        let before = self.rules();
        let rules = Arc::new(before.with_route(config));
        let other = !rules.is_of_route(&before);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        if let Some(frequent) = self.frequent.as_ref().filter(|_| other) {
            // Their answers are of the providers of before.
            frequent.clear(&Cleared::default());
        }
    }

    /// A call for an image as providers may see it, if it is not as it was made.
    pub(crate) fn redacted(&self, request: &ImageRequest) -> Option<ImageRequest> {
        self.redactor.image(request)
    }

    /// A call for vectors as providers may see it, if it is not as it was made.
    pub(crate) fn redacted_embedding(&self, request: &EmbeddingRequest) -> Option<EmbeddingRequest> {
        self.redactor.embedding(request)
    }

    fn read(&self, request: &TextRequest) -> Asked {
        let mut request = request.clone();
        self.redactor.text(&mut request);
        let asked = self.rules().read(Scope::current(), request, &self.clears);
        if let Some(frequent) = &self.frequent {
            frequent.asked(&asked);
        }
        asked
    }

    /// Answers a call with an idempotency key: with what the first one with it got, or gets.
    async fn by_key(self: &Arc<Self>, key: Key, asked: Asked) -> Answer {
        if let Some(answer) = self.replay(key, &asked)? {
            return Ok(answer);
        }
        let (this, patience) = (Arc::clone(self), self.rules().patience(&asked));
        let scope = asked.scope.clone();
        let work = async move {
            // Another one may have ended since, or on another node.
            if let Some(answer) = this.replay(key, &asked)? {
                return Ok(answer);
            }
            this.of_all_nodes(key, asked, patience).await
        };
        match self.keyed.take_part(key.at, key.of, work) {
            Part::First(work) => work.await,
            Part::Joined(work) => {
                self.counters.of(&scope).replayed.one();
                self.joined(work, patience, CacheSource::Replayed).await
            }
            Part::Other => Err(self.refused()),
        }
    }

    /// What a call with this key was answered.
    fn replay(&self, key: Key, asked: &Asked) -> Result<Option<TextResponse>, Error> {
        match self.replays.get(&key.at) {
            None => Ok(None),
            Some(kept) if kept.of == key.of => {
                self.counters.of(&asked.scope).replayed.one();
                Ok(Some(again(&kept.answer, CacheSource::Replayed)))
            }
            Some(_) => Err(self.refused()),
        }
    }

    /// What a call with this key was answered on another node.
    async fn replay_of_others(&self, key: Key, asked: &Asked) -> Result<Option<TextResponse>, Error> {
        match self.second.get(key.at, key.of).await {
            None => Ok(None),
            Some((_, false)) => Err(self.refused()),
            Some((answer, true)) => {
                self.counters.of(&asked.scope).replayed.one();
                let again = again(&answer, CacheSource::Replayed);
                let ttl = self.rules().replay_ttl().min(COPIED);
                self.replays.put(key.at, Kept::new(key.of, &asked.scope, answer, ttl));
                Ok(Some(again))
            }
        }
    }

    /// A key stands for another call.
    fn refused(&self) -> Error {
        self.counters.conflicts.one();
        let message = "the idempotency key was used for another request, whose answer it still stands for: use a new \
                       key for each request";
        Error::new(ErrorKind::InvalidRequest, message)
    }

    /// Answers a call from the cache, or as others do that ask for the same now.
    async fn cached(self: &Arc<Self>, asked: Asked) -> Answer {
        if let Some(answer) = self.known(&asked) {
            return Ok(answer);
        }
        if !asked.shares {
            return self.routed(&asked).await;
        }
        let flight = (asked.at, asked.keep.is_some(), asked.request.timeout);
        let (this, of, patience) = (Arc::clone(self), asked.of, self.rules().patience(&asked));
        let scope = asked.scope.clone();
        match self.flights.take_part(flight, of, async move { this.routed(&asked).await }) {
            Part::First(work) => work.await,
            Part::Joined(work) => {
                self.counters.of(&scope).shared.one();
                self.joined(work, patience, CacheSource::Shared).await
            }
            // What is asked is a part of the key.
            Part::Other => Err(Error::new(ErrorKind::InvalidRequest, "two calls have the same hash")),
        }
    }

    /// Waits with others, no longer than the call may take.
    async fn joined(
        &self,
        work: impl Future<Output = Answer> + Send,
        patience: Duration,
        source: CacheSource,
    ) -> Answer {
        let late = |_| {
            Error::new(
                ErrorKind::Timeout,
                format!("the call that is shared has no answer after {patience:?}"),
            )
        };
        let mut answer = timeout(patience, work).await.map_err(late)??;
        answer.summary.from_cache.get_or_insert(source);
        Ok(answer)
    }

    /// What the cache has for a call.
    fn known(&self, asked: &Asked) -> Option<TextResponse> {
        if !asked.looks_up {
            return None;
        }
        let kept = self.cache.get(&asked.at)?;
        self.counters.of(&asked.scope).hits.one();
        Some(again(&kept.answer, CacheSource::Exact))
    }

    /// What the cache has for a call, on this node or another, as it is about to be made.
    async fn known_anywhere(&self, asked: &Asked) -> Option<TextResponse> {
        if !asked.looks_up {
            return None;
        }
        // It may have been answered since it was looked for.
        if let Some(answer) = self.known(asked) {
            return Some(answer);
        }
        let Some(answer) = self.shared(asked).await else {
            self.counters.of(&asked.scope).misses.one();
            return None;
        };
        self.counters.of(&asked.scope).hits_shared.one();
        if let Some(frequent) = &self.frequent {
            frequent.found(&asked.of);
        }
        let again = again(&answer, CacheSource::Exact);
        let ttl = asked.keep.map_or(COPIED, |ttl| ttl.min(COPIED));
        self.cache.put(asked.at, Kept::new(asked.of, &asked.scope, answer, ttl));
        Some(again)
    }

    /// What another node was answered. Before this one knows what was cleared, nothing is.
    async fn shared(&self, asked: &Asked) -> Option<TextResponse> {
        if !self.clears.is_complete() {
            return None;
        }
        let (answer, answers_this) = self.second.get(asked.at, asked.of).await?;
        answers_this.then_some(answer)
    }

    /// Takes a call to the providers.
    async fn routed(&self, asked: &Asked) -> Answer {
        if let Some(answer) = self.known_anywhere(asked).await {
            return Ok(answer);
        }
        match self.route.text(&asked.request).await {
            Ok(answer) if !self.is_template(asked, &answer.summary) => {
                self.keep(asked, &answer).await;
                Ok(answer)
            }
            Ok(template) => {
                let Summary { attempts, degraded, .. } = &template.summary;
                Ok(self.instead(asked, degraded.as_deref().unwrap_or_default(), attempts).unwrap_or(template))
            }
            Err(error) if is_outage(error.kind) => {
                self.instead(asked, &error.message, &error.attempts).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an answer was made here, as no provider gave one. Who asked for that gets it.
    fn is_template(&self, asked: &Asked, summary: &Summary) -> bool {
        asked.request.provider.is_none() && self.route.is_local(&summary.provider)
    }

    /// The answer to a similar call, where no provider answered this one.
    fn instead(&self, asked: &Asked, why: &str, attempts: &[ProviderAttempt]) -> Option<TextResponse> {
        let (mut answer, percent) = self.similar.as_ref()?.find(&asked.scope, &asked.request)?;
        self.counters.of(&asked.scope).similar.one();
        let reason = format!("the answer to a similar call of before ({percent} per cent the same): {why}");
        answer.summary.degraded = Some(limits::cut_message(reason));
        answer.summary.from_cache = Some(CacheSource::Similar(percent));
        answer.summary.attempts = attempts.to_vec();
        Some(answer)
    }

    async fn keep(&self, asked: &Asked, answer: &TextResponse) {
        if !is_whole(answer) {
            return;
        }
        if let Some(ttl) = asked.keep {
            self.cache.put(asked.at, Kept::new(asked.of, &asked.scope, answer.clone(), ttl));
            if let Some(frequent) = &self.frequent {
                frequent.kept(&asked.of, ttl);
            }
            if self.clears.is_complete() {
                self.second.put(asked.at, asked.of, answer, ttl).await;
            }
        }
        // It is not known by its generation: what was asked before a clear is not kept after it.
        let current = self.clears.place(asked.of, &asked.scope) == asked.at;
        if let Some(similar) = self.similar.as_ref().filter(|_| current) {
            similar.keep(&asked.scope, &asked.request, answer);
        }
    }

    /// What was counted so far, and what is kept.
    pub(crate) fn counts(&self) -> StageCounts {
        StageCounts {
            cached: self.cache.size(),
            by_key: self.replays.size(),
            similar: self.similar.as_ref().map(Similar::size).unwrap_or_default(),
            under_way: self.flights.len() + self.keyed.len(),
            redacted: self.redactor.counts(),
            ..self.counters.read()
        }
    }

    /// The same for each namespace and kind, and what the exact cache keeps of them. It looks at every answer that is kept.
    pub(crate) fn counts_by_scope(&self) -> Vec<CacheCounts> {
        self.counters.rows(|each| self.cache.each(each))
    }

    /// Forgets answers, as it is recorded: what this node keeps, and its part of what nodes share. Answers by key stay: they
    /// are no cache.
    pub(crate) fn clear(&self, cleared: &Cleared, record: &ProviderRecord) {
        self.clears.note(cleared, record);
        // They would not be found: this frees their memory.
        self.cache.clear(cleared);
        if let Some(frequent) = &self.frequent {
            frequent.clear(cleared);
        }
        if let Some(similar) = &self.similar {
            similar.clear(cleared);
        }
    }

    /// The prompts that are asked often and whose answers end soon.
    pub(crate) fn due(&self) -> Vec<Due> {
        self.frequent.as_ref().map(Frequent::due).unwrap_or_default()
    }

    /// What is due cannot be asked for now.
    pub(crate) fn held(&self) {
        self.counters.held.one();
    }

    /// Asks for what is due anew, of that provider alone if one is named, and keeps the answer.
    pub(crate) async fn warm(&self, due: Due, provider: Option<String>) -> Begun {
        let Due { of, request, scope } = due;
        let begun = self.frequent.as_ref().map_or(Begun::Over, |frequent| frequent.begin(&of));
        if begun != Begun::Asked {
            return begun;
        }
        let asked = self.rules().read(scope, request, &self.clears);
        let Scope { namespace, kind, .. } = asked.scope.clone();
        let context = mesh::Context { namespace, kind, ..mesh::Context::default() };
        let request = TextRequest { provider, ..asked.request.clone() };
        let answer = context.scope(self.route.text(&request)).await;
        match answer {
            Ok(answer) if is_whole(&answer) && !self.is_template(&asked, &answer.summary) => {
                self.keep(&asked, &answer).await;
                self.counters.warmed.one();
            }
            Ok(_) | Err(_) => self.counters.not_warmed.one(),
        }
        begun
    }

    /// All that was cleared before is known: what nodes share may be used.
    pub(crate) fn clears_are_known(&self) {
        self.clears.complete();
    }
}

/// Whether nobody could answer; not: nobody would.
const fn is_outage(kind: ErrorKind) -> bool {
    !kind.is_of_the_call()
}

/// Whether an answer is what the model would say again: it stopped by itself, and it is the model that was asked.
fn is_whole(answer: &TextResponse) -> bool {
    let Summary { finish_reason, degraded, from_cache, .. } = &answer.summary;
    finish_reason == "stop" && degraded.is_none() && from_cache.is_none() && !answer.text.is_empty()
}

/// An answer that is given again: no attempt was made for it.
fn again(answer: &TextResponse, source: CacheSource) -> TextResponse {
    let mut answer = answer.clone();
    answer.summary.from_cache = Some(source);
    answer.summary.attempts.clear();
    answer
}

#[cfg(test)]
mod tests;
