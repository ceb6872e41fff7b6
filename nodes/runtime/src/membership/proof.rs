use callboard_domain::SessionId;

/// What came of asking who is at an address, over a connection made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The machine is there and refuses the connection: nobody listens.
    Refused,
    /// A node answered.
    Answered {
        /// Its name.
        node: String,
        /// Its session, if it has one.
        session: Option<SessionId>,
        /// Which life of it: greater for the one of two processes that was started later.
        incarnation: u64,
    },
    /// No way there: no route, no such host.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// Something answered that is no node of this cluster; what it was, for a person.
    Foreign(String),
}

/// A session that is suspected to be dead.
#[derive(Clone, Copy, Debug)]
pub struct Suspect<'a> {
    /// The name of its node.
    pub node: &'a str,
    /// The session.
    pub session: SessionId,
    /// Which life of the node holds it, if it has told.
    pub incarnation: Option<u64>,
}

/// What a [`Probe`] of a suspect's address proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody listens. Said twice, it is proof.
    Refused,
    /// A later life of the node is there: the one that held the session is dead.
    Replaced,
    /// It is there and lives.
    Alive {
        /// Which life of the node it is.
        incarnation: u64,
    },
    /// Somebody else is there: the address is wrong, and nothing is proven. Who, for a person.
    WrongAddress(String),
    /// Nothing: it may live or not.
    Nothing(&'static str),
}

/// What the answer at a suspect's address proves.
#[must_use]
pub fn judge(suspect: Suspect<'_>, probe: &Probe) -> Verdict {
    match probe {
        Probe::Refused => Verdict::Refused,
        Probe::Unreachable => Verdict::Nothing("its address cannot be reached"),
        Probe::TimedOut => Verdict::Nothing("its address does not answer in time"),
        Probe::Foreign(who) => Verdict::WrongAddress(who.clone()),
        Probe::Answered { node, .. } if node != suspect.node => {
            Verdict::WrongAddress(format!("the node `{node}`"))
        }
        Probe::Answered { session: Some(session), incarnation, .. } if *session == suspect.session => {
            Verdict::Alive { incarnation: *incarnation }
        }
        Probe::Answered { session, incarnation, .. } => {
            let later_life = suspect.incarnation.is_some_and(|known| *incarnation > known);
            // Ids of sessions begin with the time: a greater one was opened later, and a process holds one.
            let later_session = session.is_some_and(|session| session > suspect.session);
            if later_life || later_session {
                Verdict::Replaced
            } else {
                // Before it has opened its session, or after that was ended.
                Verdict::Nothing("its node answers without naming a later session")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SessionId {
        SessionId::from_bytes([n; 16])
    }

    fn answered(node: &str, session: Option<u8>, incarnation: u64) -> Probe {
        Probe::Answered { node: node.into(), session: session.map(id), incarnation }
    }

    #[test]
    fn only_a_refusal_or_a_successor_speaks_against_a_node() {
        let nothing = |verdict: &Verdict| matches!(verdict, Verdict::Nothing(_));
        let wrong = |verdict: &Verdict| matches!(verdict, Verdict::WrongAddress(_));
        let refused = |verdict: &Verdict| *verdict == Verdict::Refused;
        let replaced = |verdict: &Verdict| *verdict == Verdict::Replaced;
        let alive = |verdict: &Verdict| matches!(verdict, Verdict::Alive { .. });
        type Is<'a> = &'a dyn Fn(&Verdict) -> bool;
        // The suspect is session 5 of `b`, whose life is 100 if known.
        let cases: [(&str, Option<u64>, Probe, Is<'_>); 14] = [
            ("nobody listens", None, Probe::Refused, &refused),
            ("a cable is cut", None, Probe::TimedOut, &nothing),
            ("no route", None, Probe::Unreachable, &nothing),
            ("a web server", None, Probe::Foreign("HTTP/1.1".into()), &wrong),
            ("it lives", None, answered("b", Some(5), 100), &alive),
            ("it lives, though its clock went back", Some(200), answered("b", Some(5), 100), &alive),
            ("another node", None, answered("c", Some(6), 900), &wrong),
            ("the accuser itself", None, answered("a", Some(9), 900), &wrong),
            ("another node before its session", None, answered("c", None, 900), &wrong),
            ("a later session of the name", None, answered("b", Some(6), 100), &replaced),
            ("an earlier session of the name", None, answered("b", Some(4), 100), &nothing),
            ("a later life without a session", Some(100), answered("b", None, 101), &replaced),
            ("the same life without a session", Some(100), answered("b", None, 100), &nothing),
            ("an unknown life without a session", None, answered("b", None, 900), &nothing),
        ];
        for (what, incarnation, probe, expected) in cases {
            let suspect = Suspect { node: "b", session: id(5), incarnation };
            let verdict = judge(suspect, &probe);
            assert!(expected(&verdict), "{what}: {verdict:?}");
        }
    }
}
