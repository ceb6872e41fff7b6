//! What one node of the cluster does at a time, and how this node stands to each of it.

use callboard_backends::store::postgres;
use callboard_ports::{Epochs, Locks};
use callboard_runtime::singleton::{Handle, Options, Singleton, Standing};
use callboard_supervisor as supervisor;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the lock of a reconciler outlives the node that holds it.
const LOCK: Duration = Duration::from_secs(10);

/// Runs what one node does at a time: by a lock in Redis, and without Redis on every node, more slowly.
pub(in crate::node) struct Singletons {
    locks: Arc<dyn Locks>,
    epochs: Arc<postgres::Store>,
    /// No two lives of a node are the same owner.
    owner: Arc<str>,
    ended: CancellationToken,
    /// Those that run here, by their names. There are as many as reconcilers.
    running: Mutex<BTreeMap<Arc<str>, Handle>>,
}

impl Singletons {
    /// For the node of that name, until it has ended.
    pub(super) fn new(
        name: &str,
        locks: Arc<dyn Locks>,
        epochs: Arc<postgres::Store>,
        ended: CancellationToken,
    ) -> Self {
        let owner = format!("{name}/{}", uuid::Uuid::now_v7()).into();
        Self { locks, epochs, owner, ended, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Handle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A contender for the lock of that name, which is shown from now on. Started anew, it takes the place of
    /// the one before.
    fn contender(&self, name: &str) -> Singleton {
        let singleton = Singleton::new(Options {
            name: name.into(),
            owner: Arc::clone(&self.owner),
            ttl: LOCK,
            locks: Arc::clone(&self.locks),
            epochs: Some(self.epochs.clone() as Arc<dyn Epochs>),
            jitter: Arc::new(rand::random::<f64>),
        });
        self.running().insert(name.into(), singleton.handle());
        singleton
    }

    /// Runs a reconciler on one node at a time.
    pub(super) fn runner(self: &Arc<Self>) -> supervisor::Runner {
        let this = Arc::clone(self);
        Arc::new(move |reconciler| {
            let singleton = this.contender(reconciler.name);
            Box::pin(singleton.run(this.ended.clone(), move |turn| {
                let reconciler = reconciler.clone();
                async move {
                    loop {
                        (reconciler.run)(turn.epoch.clone()).await?;
                        if !turn.pause(reconciler.period).await {
                            return Ok(());
                        }
                    }
                }
            }))
        })
    }

    /// How this node stands to each, by their names.
    pub(in crate::node) fn standings(&self) -> Vec<(Arc<str>, Standing)> {
        self.running().iter().map(|(name, handle)| (Arc::clone(name), handle.standing())).collect()
    }

    /// The node that holds one, if it is another's and known.
    pub(super) fn holder(&self, name: &str) -> Option<String> {
        match self.running().get(name)?.standing() {
            // An owner is a node's name and the number of a life of it.
            Standing::NotHeld { holder: Some(owner) } => Some(owner.rsplit_once('/')?.0.to_owned()),
            _ => None,
        }
    }

    /// The epoch of each that this node holds.
    pub(super) fn held(&self) -> BTreeMap<String, u64> {
        let epoch = |(name, standing): (Arc<str>, Standing)| match standing {
            Standing::Held { epoch } => Some((name.to_string(), epoch.unwrap_or(0))),
            _ => None,
        };
        self.standings().into_iter().filter_map(epoch).collect()
    }

    /// What is wrong with the locks, for a person.
    pub(super) fn trouble(&self) -> Option<String> {
        trouble(&self.standings())
    }
}

fn trouble(standings: &[(Arc<str>, Standing)]) -> Option<String> {
    let (mut everywhere, mut waiting, mut why) = (Vec::new(), Vec::new(), None);
    for (name, standing) in standings {
        let Standing::Unavailable { working, error } = standing else { continue };
        if *working { &mut everywhere } else { &mut waiting }.push(&**name);
        why = Some(error);
    }
    let why = why?;
    let mut text = "unavailable".to_owned();
    if !everywhere.is_empty() {
        text.push_str(&format!(", every node does {}", everywhere.join(", ")));
    }
    if !waiting.is_empty() {
        text.push_str(&format!(", until they have run out nobody starts {}", waiting.join(", ")));
    }
    Some(format!("{text}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_locks_names_who_works_meanwhile() {
        let unavailable = |working| Standing::Unavailable { working, error: "refused".into() };
        let held: (Arc<str>, _) = ("partitions".into(), Standing::Held { epoch: Some(3) });
        assert_eq!(trouble(std::slice::from_ref(&held)), None);
        let all = [held, ("orphans".into(), unavailable(true)), ("repair".into(), unavailable(false))];
        let text =
            "unavailable, every node does orphans, until they have run out nobody starts repair: refused";
        assert_eq!(trouble(&all).as_deref(), Some(text));
    }
}
