//! Names that come again and again: kinds, queues, nodes, namespaces.

use std::collections::HashSet;
use std::sync::Arc;

/// The most names kept. Past it they are forgotten and learnt anew: it bounds memory, nothing else.
const MOST: usize = 4_096;

/// Gives one shared copy for equal names, so that reading a row allocates none.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    pub(super) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}
