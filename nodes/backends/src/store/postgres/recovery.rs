//! Ending sessions and recovering their tasks, so that no row can keep a session from being ended.
//!
//! All of it is one transaction, as a rule. If one row's data makes that fail, the session is ended alone, and its
//! tasks are lost in a batch, which is halved until the guilty one is alone. That one is rebuilt from its log; if
//! this does not help either it stays, and the next recovery of orphans tries again.

use super::batch::{self, Batch, Mode, Part};
use super::fault::{Blame, Fault};
use super::line::{Failed, Line, Work};
use super::sessions::{self, Accuse, End, Ending, Orphans, RecoverOrphans};
use super::tx::Tx;
use callboard_domain::{SessionId, State, TaskId};
use callboard_ports::sessions::{Accusation, EndedSession};
use callboard_ports::store::Error;

/// Ends a session.
pub(super) async fn end(line: &mut Line, id: SessionId, reason: String) -> Result<EndedSession, Error> {
    let mut work = End { id, reason, alone: false };
    let ending = match line.run(&mut work).await {
        Err(failed) if blames_data(&failed) => {
            work.alone = true;
            line.run(&mut work).await?
        }
        done => done?,
    };
    Ok(lose_left(line, id, ending).await)
}

/// Ends a session on the word of another.
pub(super) async fn accuse(line: &mut Line, accusation: Accusation) -> Result<Option<EndedSession>, Error> {
    let accused = accusation.accused;
    let mut work = Accuse { accusation, alone: false };
    let ending = match line.run(&mut work).await {
        Err(failed) if blames_data(&failed) => {
            work.alone = true;
            line.run(&mut work).await??
        }
        done => done??,
    };
    match ending {
        Some(ending) => Ok(Some(lose_left(line, accused, ending).await)),
        None => Ok(None),
    }
}

/// Hands off again up to so many tasks whose session is not live.
pub(super) async fn orphans(line: &mut Line, limit: usize) -> Result<usize, Error> {
    match line.run(&mut RecoverOrphans(limit)).await {
        Err(failed) if blames_data(&failed) => {
            let found = line.run(&mut Orphans(limit)).await?;
            let answers = batch::run::<Losses>(line, found.into()).await;
            Ok(answers.into_iter().filter(|answer| matches!(answer, Ok(Some(_)))).count())
        }
        done => Ok(done?),
    }
}

fn blames_data(failed: &Failed) -> bool {
    let Failed::Before(fault) = failed else { return false };
    let blames = fault.blame() == Blame::Data;
    if blames {
        tracing::warn!(error = %fault, "lost tasks cannot be recovered together, trying each");
    }
    blames
}

/// Loses the tasks of a session that was ended alone. What fails is left to the recovery of orphans.
async fn lose_left(line: &mut Line, session: SessionId, ending: Ending) -> EndedSession {
    let Ending { mut ended, left } = ending;
    if left.is_empty() {
        return ended;
    }
    let items: Vec<_> = left.iter().map(|id| (*id, session)).collect();
    for (id, answer) in left.into_iter().zip(batch::run::<Losses>(line, items.into()).await) {
        if let Ok(Some(state)) = answer {
            sessions::note(&mut ended, id, state);
        }
    }
    ended
}

/// Tasks that are lost if their session is not live; for each the state it is in then.
struct Losses {
    items: Part<(TaskId, SessionId)>,
    mode: Mode,
}

impl Batch for Losses {
    type Item = (TaskId, SessionId);
    type Answer = Result<Option<State>, Error>;
    /// What was lost by an unanswered commit is no orphan any more; what was not, the next pass finds.
    const CAN_ASK: bool = false;
    const CALL: &'static str = "lose";

    fn new(items: Part<Self::Item>, mode: Mode) -> Self {
        Self { items, mode }
    }

    fn failed((id, _): &Self::Item, error: &Error) -> Self::Answer {
        tracing::error!(task.id = %id, %error, "a lost task cannot be handed off again");
        Err(error.clone())
    }

    fn found(&self) -> Vec<TaskId> {
        Vec::new()
    }
}

impl Work for Losses {
    type Out = Vec<Result<Option<State>, Error>>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, Fault> {
        let ids = || self.items.iter().map(|(id, _)| *id);
        tx.load(ids()).await?;
        if let Mode::Blamed(why) = &self.mode {
            for id in ids() {
                tx.rebuild(id, why).await?;
            }
        }
        let live = sessions::live(tx, self.items.iter().map(|(_, session)| *session)).await?;
        let lose = |(id, session): &(TaskId, SessionId)| {
            Ok(if live.contains(session) { None } else { sessions::lose(tx, *id, *session) })
        };
        Ok(self.items.iter().map(lose).collect())
    }
}
