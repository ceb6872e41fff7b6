//! Joining a cluster: a node ends its own earlier life, and refuses to be the second of its name.

use crate::cluster::{MESH, Member};
use crate::keeper;
use crate::node::Node;
use callboard_domain::SessionId;
use callboard_ports::sessions::Session;
use callboard_ports::store::Error as StoreError;
use callboard_runtime::membership::{Probe, Silence};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The wait between the two refusals that are proof.
const TWICE: Duration = Duration::from_millis(50);

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another node of its name lives.
    #[error(
        "another node named `{name}` is alive at {address} (session {session}): stop that one, or give this \
         one a name of its own with --name or node.name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where the other is.
        address: String,
        /// Its session.
        session: SessionId,
    },
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    /// The operating system gives no thread for the renewals.
    #[error("cannot start the thread of the renewals")]
    Thread(#[source] std::io::Error),
    /// The node was built without a cluster.
    #[error("this node is not set up for a cluster")]
    NoCluster,
}

/// What is known of an earlier life.
enum Life {
    /// It is dead, and why.
    Dead(&'static str),
    /// It lives.
    Lives,
    /// Its counter will tell.
    Unknown,
}

impl Node {
    /// Ends what earlier lives of this node hold, then keeps a session on a thread of its own. `proven` are
    /// sessions whose holder is known to be dead, by the lock of the data folder they were opened with.
    ///
    /// The mesh listener is bound before: an earlier life whose address this node now has is dead. For one
    /// whose address neither answers nor refuses, this waits until it has been silent for a session timeout.
    ///
    /// # Errors
    /// [`JoinError`]; then no session was opened.
    pub async fn join(self: &Arc<Self>, proven: &[SessionId]) -> Result<(), JoinError> {
        let member = self.member.as_ref().ok_or(JoinError::NoCluster)?;
        self.take_name(member, proven).await?;
        keeper::start(self, member).map_err(JoinError::Thread)
    }

    pub(crate) async fn take_name(&self, member: &Member, proven: &[SessionId]) -> Result<(), JoinError> {
        let cluster = &member.cluster;
        let mut silence = Silence::new(cluster.timing);
        let mut counters: HashMap<SessionId, u64> = HashMap::new();
        let start = Instant::now();
        loop {
            let asked = Instant::now();
            let mut earlier = cluster.sessions.live_sessions().await?;
            earlier.retain(|s| s.opened.node == self.options.name);
            silence.observe(asked, Instant::now(), earlier.iter().map(|s| (s.opened.id, s.counter)));
            let silent = silence.silent(Some(start));
            let mut unknown = false;
            for session in &earlier {
                let id = session.opened.id;
                let life = if silent.iter().any(|(silent, _)| *silent == id) {
                    Life::Dead("it is silent")
                } else if proven.contains(&id) {
                    Life::Dead("its data folder is held by this process")
                } else {
                    match counters.insert(id, session.counter) {
                        None => self.look_at(member, session).await,
                        Some(before) if before != session.counter => Life::Lives,
                        Some(_) => Life::Unknown,
                    }
                };
                match life {
                    Life::Dead(why) => self.bury(member, id, why).await?,
                    Life::Lives => return Err(self.name_taken(session)),
                    Life::Unknown => unknown = true,
                }
            }
            if !unknown {
                return Ok(());
            }
            tracing::info!(node = self.options.name, "waiting for an earlier life of this node to be silent");
            sleep_until(asked + cluster.timing.period).await;
        }
    }

    /// Whether an earlier life of this node is at its address.
    async fn look_at(&self, member: &Member, session: &Session) -> Life {
        let Some(address) = session.opened.addresses.get(MESH) else { return Life::Unknown };
        if self.options.addresses.get(MESH) == Some(address) {
            return Life::Dead("its address is this process's now");
        }
        let mut probe = member.probe(address).await;
        if probe == Probe::Refused {
            sleep(TWICE).await;
            probe = member.probe(address).await;
        }
        match probe {
            // Refusals prove nothing of one that was ended before and lived.
            Probe::Refused if session.opened.revival => Life::Unknown,
            Probe::Refused => Life::Dead("connections to its address are refused"),
            // Its address leads here by another name.
            Probe::Answered { node, incarnation, .. }
                if node == self.options.name && incarnation == self.incarnation() =>
            {
                Life::Dead("its address is this process's now")
            }
            Probe::Answered { node, .. } if node == self.options.name => Life::Lives,
            _ => Life::Unknown,
        }
    }

    async fn bury(&self, member: &Member, id: SessionId, why: &str) -> Result<(), StoreError> {
        let reason = format!("its node was started again: {why}");
        let ended = member.cluster.sessions.end_session(id, &reason).await?;
        let (requeued, over) = (ended.requeued.len(), ended.ended.len());
        tracing::info!(session.id = %id, why, requeued, ended = over, "ended an earlier session of this node");
        Ok(())
    }

    fn name_taken(&self, session: &Session) -> JoinError {
        let address = session.opened.addresses.get(MESH).cloned();
        JoinError::NameTaken {
            name: self.options.name.clone(),
            address: address.unwrap_or_else(|| "an unknown address".into()),
            session: session.opened.id,
        }
    }
}
