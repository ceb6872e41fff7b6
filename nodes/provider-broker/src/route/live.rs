//! The router of now: it can be replaced while calls are under way, which end with the one they began with.

use super::{PieceStream, Router};
use crate::config::Adapter;
use crate::keys::Ring;
use crate::stages::Route;
use callboard_domain::llm::{Error, TextRequest, TextResponse};
use callboard_domain::provider_record::Subject;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Holds the router of now.
pub(crate) struct Live {
    now: RwLock<Arc<Router>>,
    /// Those before it, while they have calls.
    before: Mutex<Vec<Weak<Router>>>,
}

impl Live {
    pub(crate) fn new(router: Router) -> Arc<Self> {
        Arc::new(Self { now: RwLock::new(Arc::new(router)), before: Mutex::default() })
    }

    /// The router of now.
    pub(crate) fn now(&self) -> Arc<Router> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls that begin from now on go through another one.
    pub(crate) fn replace(&self, router: Router) -> Arc<Router> {
        let router = Arc::new(router);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *now, Arc::clone(&router));
        // Before anybody sees the new one: the calls of the old one are in one of both at any time.
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.retain(|router| router.strong_count() > 0);
        before.push(Arc::downgrade(&old));
        router
    }

    /// Does what a record says, for calls that begin from now on and for those that began before a reload.
    pub(crate) fn adopt(&self, subject: &Subject) {
        self.now().adopt(subject);
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        before.iter().filter_map(Weak::upgrade).for_each(|router| router.adopt(subject));
    }

    /// How many calls that began before the last reload are still at a provider, over keys that the router of now does not
    /// count.
    pub(crate) fn left_over(&self, provider: &str) -> u32 {
        let mut seen: Vec<_> = self.now().ring_of(provider).into_iter().collect();
        let mut calls = 0;
        for router in &*self.before.lock().unwrap_or_else(PoisonError::into_inner) {
            let ring = router.upgrade().and_then(|router| router.ring_of(provider));
            if let Some(ring) = ring.filter(|ring| !seen.iter().any(|other| Arc::ptr_eq(other, ring))) {
                calls += ring.in_flight();
                seen.push(ring);
            }
        }
        calls
    }
}

impl Route for Live {
    async fn text(&self, request: &TextRequest) -> Result<TextResponse, Error> {
        self.now().text(request).await
    }

    async fn text_stream(self: &Arc<Self>, request: &TextRequest) -> Result<PieceStream, Error> {
        self.now().text_stream(request).await
    }

    fn is_local(&self, provider: &str) -> bool {
        self.now().is_local(provider)
    }
}

impl Router {
    /// The keys of the provider of a name.
    fn ring_of(&self, provider: &str) -> Option<Arc<Ring>> {
        self.place(provider).ok().and_then(|place| self.ring(place))
    }

    /// Whether a provider is the stand-in that answers from templates.
    fn is_local(&self, provider: &str) -> bool {
        let mut named = self.providers.iter().filter(|p| p.name() == provider);
        named.any(|p| p.describe().adapter == Adapter::Offline)
    }
}
