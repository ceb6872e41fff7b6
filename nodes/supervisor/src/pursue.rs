//! What becomes of one suspicion: its session is found dead and ended, or it is not.

use crate::cluster::{MESH, Member};
use crate::keeper::within;
use crate::node::Node;
use callboard_ports::sessions::{Accusation, EndedSession, Session};
use callboard_ports::store::Error;
use callboard_runtime::membership::{Probe, Suspect, Verdict, judge};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The wait between the two refusals that are proof.
const TWICE: Duration = Duration::from_millis(50);
/// The waits before each probe of a suspect whose answer says nothing: a process that is being killed may
/// still accept a connection.
const PROBES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
/// How long ending a session may take: it may hold thousands of tasks.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Why a session is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It is new: only who is at its address is found out.
    New,
    /// A connection to it broke, a call failed, or its counter stands still.
    Suspected,
    /// Its counter has stood still for a whole timeout.
    Silent(u64),
}

/// Finds out what is wrong with a session, and ends it if that is proven.
pub(crate) async fn pursue(node: &Node, member: &Member, accused: &Session, cause: Cause) {
    if let Cause::Silent(counter) = cause {
        let reason = format!("silent: not renewed for {:?}", member.cluster.timing.timeout);
        let _ = accuse(node, member, accused, Some(counter), reason).await;
        return;
    }
    let Some(address) = accused.opened.addresses.get(MESH) else { return };
    for pause in PROBES {
        sleep(pause).await;
        let mut verdict = ask(member, accused, address).await;
        if verdict == Verdict::Refused && cause != Cause::New {
            sleep(TWICE).await;
            verdict = ask(member, accused, address).await;
        }
        if let Settled::Yes = settle(node, member, accused, address, cause, verdict).await {
            return;
        }
    }
}

async fn ask(member: &Member, accused: &Session, address: &str) -> Verdict {
    let probe: Probe = member.probe(address).await;
    let session = accused.opened.id;
    let incarnation = member.observer().lives.get(&session).copied();
    judge(Suspect { node: &accused.opened.node, session, incarnation }, &probe)
}

/// Whether a suspicion is dealt with, or to be looked at again.
enum Settled {
    Yes,
    No,
}

async fn settle(
    node: &Node,
    member: &Member,
    accused: &Session,
    address: &str,
    cause: Cause,
    verdict: Verdict,
) -> Settled {
    let id = accused.opened.id;
    match verdict {
        Verdict::Alive { incarnation } => {
            let mut observer = member.observer();
            if observer.silence.knows(id) {
                observer.lives.insert(id, incarnation);
            }
            observer.wrong.remove(&id);
            Settled::Yes
        }
        Verdict::WrongAddress(who) => {
            report_wrong(node, member, accused, address, who);
            Settled::Yes
        }
        Verdict::Nothing(why) => {
            tracing::debug!(node = accused.opened.node, session.id = %id, address, why, "nothing is proven");
            Settled::No
        }
        Verdict::Refused if cause == Cause::New => Settled::Yes,
        Verdict::Refused => refused(node, member, accused, address).await,
        Verdict::Replaced => {
            let reason = format!("replaced: a later life of `{}` answers at {address}", accused.opened.node);
            accuse(node, member, accused, None, reason).await.map_or(Settled::No, |_| Settled::Yes)
        }
    }
}

/// Ends a session that nobody listens for, as far as refusals alone may.
async fn refused(node: &Node, member: &Member, accused: &Session, address: &str) -> Settled {
    let (id, name) = (accused.opened.id, &accused.opened.node);
    if accused.opened.revival {
        // It was ended once and lived: whoever refuses in its place cannot be believed.
        tracing::debug!(node = name, session.id = %id, address, "refused, which proves nothing of a revival");
        return Settled::Yes;
    }
    let taken = Instant::now();
    if !member.observer().refusals.take(taken) {
        tracing::warn!(
            node = name, session.id = %id, address,
            "refused, but a minority of the nodes was ended for that already: it must be found silent"
        );
        return Settled::Yes;
    }
    let reason = format!("dead: connections to {address} are refused");
    let ended = accuse(node, member, accused, None, reason).await;
    if !matches!(ended, Ok(Some(_))) {
        member.observer().refusals.give_back(taken);
    }
    ended.map_or(Settled::No, |_| Settled::Yes)
}

fn report_wrong(node: &Node, member: &Member, accused: &Session, address: &str, who: String) {
    let id = accused.opened.id;
    let known = member.observer().wrong.get(&id).is_some_and(|(before, _)| *before == who);
    if !known {
        tracing::error!(
            node = accused.opened.node, session.id = %id, address, answered = who,
            "the advertised mesh address of a node is wrong: another answers there; set its mesh.advertise"
        );
        member.observer().wrong.insert(id, (who, node.deps.clock.now()));
    }
}

/// Ends another's session. `None`: it had ended, or has been renewed since.
async fn accuse(
    node: &Node,
    member: &Member,
    accused: &Session,
    counter: Option<u64>,
    reason: String,
) -> Result<Option<EndedSession>, Error> {
    let Some(accuser) = node.session() else { return Err(Error::SessionEnded) };
    let (id, name) = (accused.opened.id, &accused.opened.node);
    let accusation = Accusation { accuser, accused: id, counter, reason: reason.clone() };
    let ended = within(END_WITHIN, member.cluster.sessions.accuse(accusation)).await;
    match &ended {
        Ok(Some(ended)) => {
            let (requeued, over) = (ended.requeued.len(), ended.ended.len());
            tracing::warn!(node = name, session.id = %id, reason, requeued, ended = over, "ended a node's session");
        }
        Ok(None) => {}
        // The store found this node's own session ended.
        Err(Error::SessionEnded) => node.session_ended(accuser),
        Err(error) => {
            tracing::warn!(node = name, session.id = %id, reason, %error, "cannot end a node's session");
        }
    }
    if ended.is_ok() {
        member.look.notify_one();
    }
    ended
}
