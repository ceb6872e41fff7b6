//! Taking tasks for their next attempt.

use super::batch::{self, Batch, Mode, Part};
use super::fault::Fault;
use super::group;
use super::line::{Line, Work};
use super::rows;
use super::tx::{Day, Tx};
use bytes::Bytes;
use callboard_domain::{
    Command, Outcome, RetryPolicy, SessionId, Spec, State, Task, TaskError, TaskId, Timestamp,
};
use callboard_ports::planted::Bug;
use callboard_ports::store::{Claim, Claimed, Error};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long a task that a node does not host waits before it is handed off again.
const NOT_MINE: Duration = Duration::from_secs(5);

/// Held until the commit: whoever ends one of these sessions waits for it, and then finds what it claimed.
/// It does not stop a renewal.
const LIVE: &str = "SELECT id FROM node_sessions WHERE id = ANY($1) AND ended_at IS NULL ORDER BY id \
                    FOR KEY SHARE";
const INPUTS: &str =
    "SELECT task_id, input FROM task_inputs WHERE task_id = ANY($1) AND task_id BETWEEN $2 AND $3";

/// One id of a claim.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) session: SessionId,
    pub(super) node: Arc<str>,
    pub(super) hosted: Arc<HashSet<String>>,
    pub(super) id: TaskId,
    /// Whether to take it; else it is handed off again.
    pub(super) take: bool,
}

/// What became of it.
pub(super) type Answer = Result<Claim, Error>;

/// Commits claims.
pub(super) struct Claimer(pub(super) Line);

impl group::Commit for Claimer {
    type Item = Item;
    type Out = Answer;

    async fn commit(&mut self, items: Vec<Item>) -> Vec<Answer> {
        batch::run::<Claims>(&mut self.0, items.into()).await
    }

    async fn close(&mut self) {
        self.0.close().await;
    }
}

struct Claims {
    items: Part<Item>,
    mode: Mode,
}

impl Batch for Claims {
    type Item = Item;
    type Answer = Answer;
    /// An attempt that was claimed by an unanswered commit looks like one that somebody else's call holds:
    /// the node compares what it runs with what it holds, and gives back the rest.
    const CAN_ASK: bool = false;

    fn new(items: Part<Item>, mode: Mode) -> Self {
        Self { items, mode }
    }

    fn failed(_: &Item, error: &Error) -> Answer {
        Err(error.clone())
    }

    fn found(&self) -> Vec<TaskId> {
        Vec::new()
    }
}

/// What was decided about an item.
enum Decided {
    Answer(Answer),
    Claimed(Spec),
}

impl Work for Claims {
    type Out = Vec<Answer>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Answer>, Fault> {
        let live = live(tx, &self.items).await?;
        let of_live = self.items.iter().filter(|item| live.contains(&item.session));
        let specs = tx.load_whole(of_live.map(|item| item.id)).await?;
        let mut decided = Vec::with_capacity(self.items.len());
        for item in self.items.iter() {
            decided.push(if live.contains(&item.session) {
                self.decide(tx, item, &specs)?
            } else {
                Decided::Answer(Err(Error::SessionEnded))
            });
        }
        let claimed = decided.iter().filter_map(|d| match d {
            Decided::Claimed(spec) => Some(spec.id),
            Decided::Answer(_) => None,
        });
        let mut inputs = inputs(tx, claimed).await?;
        let mut answers = Vec::with_capacity(decided.len());
        for (decided, item) in decided.into_iter().zip(self.items.iter()) {
            answers.push(match decided {
                Decided::Answer(answer) => answer,
                Decided::Claimed(spec) => match inputs.remove(&spec.id) {
                    Some(input) => claimed_answer(tx, spec, input),
                    None => unreadable(tx, item, "its input is missing")?,
                },
            });
        }
        Ok(answers)
    }
}

impl Claims {
    fn decide(
        &self,
        tx: &mut Tx<'_>,
        item: &Item,
        specs: &HashMap<TaskId, Result<Spec, String>>,
    ) -> Result<Decided, Fault> {
        let gone = Decided::Answer(Ok(Claim::Gone(item.id)));
        let Some(row) = tx.draft.rows.get_mut(&item.id) else { return Ok(gone) };
        if !item.take {
            if row.life.state == State::Queued {
                let not_before = row.not_before;
                if Bug::ReturnReusesHandoff.is_planted() {
                    row.handoff -= 1;
                }
                tx.draft.hand_off_again(item.id, not_before);
            }
            return Ok(gone);
        }
        let Ok(what) = row.life.decide(Command::Claim { session: item.session }) else { return Ok(gone) };
        if let Mode::Blamed(why) = &self.mode {
            return unreadable(tx, item, why).map(Decided::Answer);
        }
        match specs.get(&item.id) {
            Some(Ok(spec)) if item.hosted.contains(&*spec.kind) => {
                row.node = Some(Arc::clone(&item.node));
                tx.draft.happen(item.id, what)?;
                Ok(Decided::Claimed(spec.clone()))
            }
            Some(Ok(_)) => {
                let not_before = tx.now().after(NOT_MINE);
                tx.draft.hand_off_again(item.id, Some(not_before));
                Ok(Decided::Answer(Ok(Claim::NotMine(item.id))))
            }
            Some(Err(why)) => unreadable(tx, item, why).map(Decided::Answer),
            None => Ok(gone),
        }
    }
}

/// The sessions that are live, held so until the commit.
async fn live(tx: &mut Tx<'_>, items: &[Item]) -> Result<HashSet<SessionId>, Fault> {
    let sessions: HashSet<Uuid> = items.iter().map(|item| rows::session_uuid(item.session)).collect();
    let sessions: Vec<Uuid> = sessions.into_iter().collect();
    let live: Vec<Uuid> = sqlx::query_scalar(LIVE).bind(sessions).fetch_all(&mut *tx.conn).await?;
    Ok(live.into_iter().map(SessionId::new).collect())
}

async fn inputs(tx: &mut Tx<'_>, ids: impl Iterator<Item = TaskId>) -> Result<HashMap<TaskId, Bytes>, Fault> {
    let mut inputs = HashMap::new();
    for day in Day::split(ids) {
        let found = sqlx::query(INPUTS).bind(&day.ids).bind(day.first).bind(day.last);
        for sql in found.fetch_all(&mut *tx.conn).await? {
            // A copy: a part of the whole answer would hold all of it in memory.
            inputs.insert(rows::id(&sql, 0)?, Bytes::copy_from_slice(rows::get(&sql, 1)?));
        }
    }
    Ok(inputs)
}

fn claimed_answer(tx: &Tx<'_>, spec: Spec, input: Bytes) -> Answer {
    let Some(row) = tx.draft.rows.get(&spec.id) else { return Ok(Claim::Gone(spec.id)) };
    let task = Task {
        spec,
        life: row.life.clone(),
        started_at: None::<Timestamp>,
        finished_at: None,
        progress: None,
        error: None,
        node: row.node.clone(),
    };
    Ok(Claim::Claimed(Box::new(Claimed { task, input })))
}

/// Ends a task that no attempt can ever run, so that it is not handed off for ever.
fn unreadable(tx: &mut Tx<'_>, item: &Item, why: &str) -> Result<Answer, Fault> {
    let id = item.id;
    tracing::error!(task.id = %id, error = why, "a stored task cannot be read, it ends as failed");
    let session = item.session;
    if let Some(row) = tx.draft.rows.get_mut(&id)
        && let Ok(claimed) = row.life.decide(Command::Claim { session })
    {
        row.node = Some(Arc::clone(&item.node));
        tx.draft.happen(id, claimed)?;
    }
    let now = tx.now();
    if let Some(row) = tx.draft.rows.get(&id) {
        let message = format!("what is stored of the task cannot be read: {why}");
        let finish = Command::Finish {
            session,
            attempt: row.life.attempt,
            outcome: Outcome::Failed {
                error: TaskError::new("TASK_UNREADABLE", message, false),
                policy: RetryPolicy::default(),
                retry_after: None,
                jitter: 0.0,
            },
            max_attempts: row.max_attempts,
            now,
        };
        if let Ok(failed) = row.life.decide(finish) {
            tx.draft.happen(id, failed)?;
        }
    }
    Ok(Ok(Claim::Gone(id)))
}
