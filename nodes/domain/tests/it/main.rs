//! Properties of the task's state machine under any sequence of commands.

#![expect(clippy::unwrap_used, reason = "a test may fail on them")]

mod llm;
mod provider_record;

use callboard_domain::{
    Command, Happening, Lifecycle, Outcome, Progress, Refused, RetryPolicy, SessionId, State, TaskError,
    Timestamp, limits,
};
use proptest::prelude::*;

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn commands() -> impl Strategy<Value = Command> {
    let who = (0u8..3, 0u32..5);
    prop_oneof![
        2 => (0i64..1_000_000_000).prop_map(|t| Command::Release { now: at(t) }),
        4 => (0u8..3).prop_map(|s| Command::Claim { session: session(s) }),
        1 => who.clone().prop_map(|(s, a)| Command::Start { session: session(s), attempt: a, at: at(0) }),
        1 => who.clone().prop_map(|(s, a)| Command::Progress {
            session: session(s),
            attempt: a,
            progress: Progress { percent: 50, message: String::new() },
        }),
        2 => (who.clone(), outcomes(), 1u32..6).prop_map(|((s, a), outcome, max_attempts)| Command::Finish {
            session: session(s), attempt: a, outcome, max_attempts, now: at(5),
        }),
        1 => who.prop_map(|(s, a)| Command::GiveBack { session: session(s), attempt: a }),
        3 => (0u8..3, 0.0..1.0).prop_map(|(s, jitter)| Command::Lose { session: session(s), now: at(7), jitter }),
        1 => Just(Command::Cancel),
    ]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Succeeded),
        Just(Outcome::Cancelled),
        any::<bool>().prop_map(|retryable| Outcome::Failed {
            error: TaskError::new("HANDLER_FAILED", "no", retryable),
            policy: RetryPolicy::default(),
            retry_after: None,
            jitter: 0.5,
        }),
    ]
}

/// The states that may follow each other, written down once more and by hand.
fn may_follow(from: State, to: State) -> bool {
    use State::{Cancelled, Failed, Queued, Running, Scheduled, Succeeded};
    matches!(
        (from, to),
        (Scheduled, Queued | Cancelled)
            | (Queued, Running | Cancelled)
            | (Running, Running | Scheduled | Queued | Succeeded | Failed | Cancelled)
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_sequence_of_commands_breaks_a_task(
        delayed in any::<bool>(),
        commands in proptest::collection::vec(commands(), 1..80),
    ) {
        let (first, submitted) = Lifecycle::submit(delayed.then(|| at(1_000)), at(0));
        prop_assert_eq!(submitted, Happening::Submitted { run_at: delayed.then(|| at(1_000)) });
        let mut life = first.clone();
        let mut log = Vec::new();
        for command in commands {
            let speaker = match &command {
                Command::Start { session, attempt, .. }
                | Command::Progress { session, attempt, .. }
                | Command::Finish { session, attempt, .. }
                | Command::GiveBack { session, attempt } => Some((*session, *attempt)),
                _ => None,
            };
            match life.decide(command.clone()) {
                Ok(what) => {
                    // What is decided can always be applied.
                    let next = life.apply(&what).unwrap();
                    prop_assert!(!life.state.is_terminal());
                    prop_assert!(may_follow(life.state, next.state), "{:?} -> {:?}", life.state, next.state);
                    prop_assert_eq!(next.seq, life.seq + 1);
                    prop_assert!(next.attempt >= life.attempt);
                    prop_assert!(next.failures >= life.failures);
                    prop_assert!(next.lost >= life.lost);
                    prop_assert!(next.lost <= limits::LOST + 1);
                    if let Some((session, attempt)) = speaker {
                        prop_assert_eq!((life.session, life.attempt), (Some(session), attempt));
                    }
                    // A task leaves RUNNING with a cancel pending only to an end.
                    if life.cancel_requested && next.state != State::Running {
                        prop_assert!(next.state.is_terminal());
                    }
                    prop_assert_eq!(next.session.is_some(), next.state == State::Running);
                    log.push(what);
                    life = next;
                }
                Err(refused) => prop_assert!(!life.state.is_terminal() || refused == Refused::Ended),
            }
        }
        let replayed = log.iter().try_fold(first, |life, what| life.apply(what)).unwrap();
        prop_assert_eq!(replayed, life);
    }
}

#[test]
fn every_happening_after_an_end_is_illegal() {
    let (life, _) = Lifecycle::submit(None, at(0));
    let ended = life.apply(&Happening::Cancelled).unwrap();
    let error = TaskError::new("X", "x", false);
    for what in [
        Happening::Submitted { run_at: None },
        Happening::Due,
        Happening::Claimed { session: session(1) },
        Happening::Started { at: at(0) },
        Happening::Progressed(Progress { percent: 1, message: String::new() }),
        Happening::AttemptFailed { error: error.clone(), run_at: at(0) },
        Happening::Lost { started: true, run_at: None },
        Happening::Returned,
        Happening::CancelRequested,
        Happening::Succeeded,
        Happening::Failed { error, lost: false },
        Happening::Cancelled,
    ] {
        assert!(ended.apply(&what).is_err(), "{what:?}");
    }
    assert_eq!(ended.decide(Command::Cancel), Err(Refused::Ended));
}

fn run(life: &Lifecycle, command: Command) -> Lifecycle {
    life.apply(&life.decide(command).unwrap()).unwrap()
}

#[test]
fn an_unstarted_loss_is_free_and_a_started_one_counts_up_to_the_limit() {
    let (mut life, _) = Lifecycle::submit(None, at(0));
    let s = session(1);
    for _ in 0..20 {
        life = run(&life, Command::Claim { session: s });
        life = run(&life, Command::Lose { session: s, now: at(0), jitter: 0.5 });
        assert_eq!((life.state, life.lost), (State::Queued, 0));
    }
    for loss in 1..=limits::LOST {
        life = run(&life, Command::Claim { session: s });
        life = run(&life, Command::Start { session: s, attempt: life.attempt, at: at(0) });
        life = run(&life, Command::Lose { session: s, now: at(0), jitter: 0.5 });
        assert_eq!(life.lost, loss);
        assert_eq!(life.is_suspect(), loss >= 2);
        // The first is our fault and waits for nothing.
        assert_eq!(life.state, if loss == 1 { State::Queued } else { State::Scheduled });
        if life.state == State::Scheduled {
            life = run(&life, Command::Release { now: at(i64::MAX) });
        }
    }
    life = run(&life, Command::Claim { session: s });
    life = run(&life, Command::Start { session: s, attempt: life.attempt, at: at(0) });
    life = run(&life, Command::Lose { session: s, now: at(0), jitter: 0.5 });
    assert_eq!((life.state, life.failures), (State::Failed, 0));
}

#[test]
fn a_success_outruns_a_cancel_and_nothing_else_does() {
    let (life, _) = Lifecycle::submit(None, at(0));
    let s = session(1);
    let asked = run(&run(&life, Command::Claim { session: s }), Command::Cancel);
    let finish = |outcome| {
        run(&asked, Command::Finish { session: s, attempt: 1, outcome, max_attempts: 5, now: at(0) }).state
    };
    assert_eq!(finish(Outcome::Succeeded), State::Succeeded);
    assert_eq!(finish(Outcome::Cancelled), State::Cancelled);
    let failed = Outcome::Failed {
        error: TaskError::new("X", "x", true),
        policy: RetryPolicy::default(),
        retry_after: None,
        jitter: 0.5,
    };
    assert_eq!(finish(failed), State::Cancelled);
    assert_eq!(run(&asked, Command::GiveBack { session: s, attempt: 1 }).state, State::Cancelled);
    assert_eq!(run(&asked, Command::Lose { session: s, now: at(0), jitter: 0.1 }).state, State::Cancelled);
}
