//! The waits that providers name to one node, for all.

use super::Router;
use crate::shared::{Of, Records, Wait};
use std::sync::Arc;
use tokio::time::Instant;

impl Router {
    /// What providers say of their keys is told to the other nodes from now on.
    pub(super) fn tell_waits(&self, records: &Arc<Records>) {
        for ring in &self.rings {
            for key in ring.keys() {
                key.tell(ring.any().name(), records);
            }
        }
    }

    /// Holds calls back for as long as a provider has told another node to.
    pub(crate) fn adopt_wait(&self, wait: &Wait) {
        let Wait { subject, left } = wait;
        let Ok(place) = self.place(&subject.provider) else { return };
        let ring = &self.rings[place];
        let key = ring.keys().enumerate().find(|(_, key)| key.id() == subject.key);
        // A key that this node does not have is none of its affair.
        let Some((at, key)) = key else { return };
        let (model, now) = (subject.model.as_str(), Instant::now());
        match subject.of {
            Of::Calls => self.breakers.adopt_wait(place, at, model, *left),
            Of::Requests | Of::Tokens => key.adopt(model, subject.of, *left, now),
        }
        tracing::debug!(?wait, "a provider has named a wait to another node");
    }
}
