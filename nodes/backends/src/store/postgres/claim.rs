//! Taking tasks for their next attempt.

use super::batch::{self, Batch, Mode, Part};
use super::fault::Fault;
use super::group;
use super::line::{Line, Work};
use super::rows;
use super::tx::{Day, Inputs, Specs, Tx};
use bytes::Bytes;
use callboard_domain::{
    Command, Outcome, RetryPolicy, SessionId, Spec, State, Task, TaskError, TaskId, Timestamp,
};
use callboard_ports::planted::Bug;
use callboard_ports::store::{Claim, Claimed, Error};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a task that a node does not host waits before it is handed off again.
const NOT_MINE: Duration = Duration::from_secs(5);

/// An input is read if those before it have not reached the bound. The size of one is known without reading it.
const INPUTS: &str = "SELECT task_id, \
        CASE WHEN sum(octet_length(input)) OVER (ORDER BY task_id) - octet_length(input) < $4 THEN input END \
    FROM task_inputs{day} WHERE task_id = ANY($1) AND task_id BETWEEN $2 AND $3";
/// Once the inputs of one transaction have so many bytes, the rest of its tasks is handed off again.
const BYTES: usize = 8 << 20;

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
    const CALL: &'static str = "claim";

    fn trace<'a>(_: &'a Item, answer: &'a Answer) -> Option<&'a str> {
        match answer {
            Ok(Claim::Claimed(claimed)) => claimed.task.spec.traceparent.as_deref(),
            _ => None,
        }
    }

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

impl Work for Claims {
    type Out = Vec<Answer>;
    const IS_HOT: bool = true;

    fn sessions(&self) -> Vec<SessionId> {
        let sessions: BTreeSet<SessionId> = self.items.iter().map(|item| item.session).collect();
        sessions.into_iter().collect()
    }

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Answer>, Fault> {
        let live = tx.live.clone();
        let of_live = || self.items.iter().filter(|item| live.contains(&item.session));
        let (mut specs, mut inputs) = (Specs::new(), Inputs::new());
        self.read(tx, of_live(), &mut specs, &mut inputs).await?;
        let mut answers = Vec::with_capacity(self.items.len());
        for item in self.items.iter() {
            answers.push(if live.contains(&item.session) {
                self.decide(tx, item, &specs, &mut inputs)?
            } else {
                Err(Error::SessionEnded)
            });
        }
        Ok(answers)
    }
}

impl Claims {
    /// Reads the tasks of some items with what is needed to claim them.
    ///
    /// That a task is not QUEUED may be told from what was read without a lock: every way into QUEUED brings a
    /// hand-off of its own, which is published once it has committed. And a claim that another has under way and
    /// undoes leaves the task as it was read.
    async fn read<'i>(
        &'i self,
        tx: &mut Tx<'_>,
        items: impl Iterator<Item = &'i Item> + Clone,
        specs: &mut Specs,
        inputs: &mut Inputs,
    ) -> Result<(), Fault> {
        let ids = |take: bool| items.clone().filter(move |item| item.take == take).map(|item| item.id);
        let mut left = tx.recall_claimable(ids(true).collect(), specs, inputs);
        left.extend(tx.recall(ids(false), |_, row| row.life.state == State::Queued));
        if tx.trusts {
            left = tx.read_claimable(left, BYTES, specs, inputs).await?;
        }
        if left.is_empty() {
            return Ok(());
        }
        let again: HashSet<TaskId> = left.iter().copied().collect();
        tx.load_whole(left, specs).await?;
        let wanted = items.filter(|item| again.contains(&item.id) && self.needs_input(tx, item, specs));
        let wanted = wanted.map(|item| item.id).collect();
        inputs.extend(self::inputs(tx, wanted).await?);
        Ok(())
    }

    /// Whether a task will be claimed, if its input can be had.
    fn needs_input(&self, tx: &Tx<'_>, item: &Item, specs: &Specs) -> bool {
        let is_hosted = matches!(specs.get(&item.id), Some(Ok(spec)) if item.hosted.contains(&*spec.kind));
        let Some(row) = tx.draft.rows.get(&item.id) else { return false };
        item.take && is_hosted && row.life.decide(Command::Claim { session: item.session }).is_ok()
    }

    fn decide(
        &self,
        tx: &mut Tx<'_>,
        item: &Item,
        specs: &Specs,
        inputs: &mut Inputs,
    ) -> Result<Answer, Fault> {
        let gone = Ok(Claim::Gone(item.id));
        let Some(row) = tx.draft.rows.get_mut(&item.id) else { return Ok(gone) };
        if !item.take {
            if Bug::ReturnReusesHandoff.is_planted() && row.life.state == State::Queued {
                row.handoff -= 1;
            }
            return Ok(given_back(tx, item.id));
        }
        let Ok(what) = row.life.decide(Command::Claim { session: item.session }) else { return Ok(gone) };
        if let Mode::Blamed(why) = &self.mode {
            return unreadable(tx, item, why);
        }
        let spec = match specs.get(&item.id) {
            Some(Ok(spec)) if item.hosted.contains(&*spec.kind) => spec.clone(),
            Some(Ok(_)) => {
                let not_before = tx.now().after(NOT_MINE);
                tx.draft.hand_off_again(item.id, Some(not_before));
                return Ok(Ok(Claim::NotMine(item.id)));
            }
            Some(Err(why)) => return unreadable(tx, item, why),
            None => return Ok(gone),
        };
        match inputs.remove(&item.id) {
            Some(Some(input)) => {
                row.node = Some(Arc::clone(&item.node));
                tx.draft.happen(item.id, what)?;
                Ok(claimed(tx, spec, input))
            }
            Some(None) => Ok(given_back(tx, item.id)),
            None => unreadable(tx, item, "its input is missing"),
        }
    }
}

/// Hands a task off again, if it is still to be run.
fn given_back(tx: &mut Tx<'_>, id: TaskId) -> Answer {
    let queued = tx.draft.rows.get(&id).filter(|row| row.life.state == State::Queued);
    if let Some(not_before) = queued.map(|row| row.not_before) {
        tx.draft.hand_off_again(id, not_before);
    }
    Ok(Claim::Gone(id))
}

async fn inputs(tx: &mut Tx<'_>, ids: Vec<TaskId>) -> Result<Inputs, Fault> {
    let (mut inputs, mut left) = (Inputs::new(), BYTES);
    for day in Day::split(ids) {
        let found = sqlx::query(tx.named(INPUTS, &day)).bind(&day.ids).bind(day.first).bind(day.last);
        let found = found.bind(i64::try_from(left).unwrap_or(i64::MAX));
        for sql in found.fetch_all(&mut *tx.conn).await? {
            let input: Option<&[u8]> = rows::get(&sql, 1)?;
            left = left.saturating_sub(input.map_or(0, <[u8]>::len));
            // A copy: a part of the whole answer would hold all of it in memory.
            inputs.insert(rows::id(&sql, 0)?, input.map(Bytes::copy_from_slice));
        }
    }
    Ok(inputs)
}

fn claimed(tx: &Tx<'_>, spec: Spec, input: Bytes) -> Answer {
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
