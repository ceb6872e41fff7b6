//! Writing new tasks down.

use super::claim::is_live;
use super::fault::Fault;
use super::inbox::Work;
use super::rows::{self, AFTER_TASK, Row, task_columns};
use super::tx::Tx;
use callboard_domain::{Command, Lifecycle, NewTask, Spec, State, Task, Timestamp, limits};
use callboard_ports::store::{Admitted, Claimed, Error};
use callboard_ports::taker::{Taker, Taking};
use rusqlite::{ErrorCode, params};
use std::sync::Arc;
use tokio::sync::oneshot;

const INSERT: &str = "INSERT INTO tasks (id, state, attempt, failures, lost, last_seq, started, \
    cancel_requested, run_at, handoff, alone, queued_at, queue, band, max_attempts, namespace, kind, \
    priority, timeout_us, created_at, request_id, traceparent, retry_of, session, node) \
    VALUES (?1, ?2, ?17, 0, 0, ?18, 0, 0, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
    ?19, ?20)";
const INSERT_INPUT: &str = "INSERT INTO task_inputs (task, input) VALUES (?1, ?2)";
const BY_REQUEST: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input FROM tasks t LEFT JOIN task_inputs i ON i.task = t.n \
     WHERE t.namespace = ?1 AND t.request_id = ?2"
);
const BY_ID: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input FROM tasks t LEFT JOIN task_inputs i ON i.task = t.n WHERE t.id = ?1"
);

/// The admission of one call's tasks, and of what a worker takes of them at once.
pub(super) struct Admission {
    batch: Vec<NewTask>,
    taker: Option<Arc<dyn Taker>>,
    /// What the worker takes. Asked once: the work may be run again.
    taking: Option<Box<dyn Taking>>,
    claimed: Vec<Claimed>,
    done: Vec<Result<Admitted, Error>>,
    reply: oneshot::Sender<Vec<Result<Admitted, Error>>>,
}

impl Admission {
    pub(super) fn new(
        batch: Vec<NewTask>,
        taker: Option<Arc<dyn Taker>>,
    ) -> (Self, oneshot::Receiver<Vec<Result<Admitted, Error>>>) {
        let (reply, answer) = oneshot::channel();
        (Self { batch, taker, taking: None, claimed: Vec::new(), done: Vec::new(), reply }, answer)
    }
}

impl Work for Admission {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        if let Some(taker) = self.taker.take() {
            self.taking = taker.take(&mut self.batch.iter());
        }
        (self.claimed, self.done) = (Vec::new(), Vec::with_capacity(self.batch.len()));
        // With care an item may be undone alone, and its claim with it: then nothing is taken.
        let taking = self.taking.as_deref().filter(|_| !tx.careful);
        let live = match taking {
            Some(taking) => is_live(tx, taking.session())?,
            None => false,
        };
        for new in &self.batch {
            let taken = taking.filter(|taking| live && taking.takes(new.spec.id));
            let claimed = &mut self.claimed;
            let answer =
                tx.isolated(|tx| one(tx, new, taken, claimed), |_, fault| Ok(Err(Error::from(&fault))))?;
            self.done.push(answer);
        }
        Ok(())
    }

    fn refuse(&mut self, error: Error) {
        self.claimed = Vec::new();
        self.done = vec![Err(error); self.batch.len()];
    }

    fn answer(self: Box<Self>, failed: Option<&Error>) {
        let Self { batch, taking, claimed, done, reply, .. } = *self;
        let (claimed, answers) = match failed {
            Some(error) => (Vec::new(), vec![Err(error.clone()); batch.len()]),
            None => (claimed, done),
        };
        if let Some(taking) = taking {
            taking.settle(claimed, matches!(failed, Some(Error::Unknown(_))));
        }
        // A caller that went away does not want to know.
        let _ = reply.send(answers);
    }
}

fn one(
    tx: &mut Tx<'_>,
    new: &NewTask,
    taken: Option<&dyn Taking>,
    claimed: &mut Vec<Claimed>,
) -> Result<Result<Admitted, Error>, Fault> {
    if new.input.len() > limits::INPUT_BYTES {
        let message =
            format!("an input of {} bytes, at most {} are kept", new.input.len(), limits::INPUT_BYTES);
        return Ok(Err(Error::Refused(message)));
    }
    let (life, submitted) = Lifecycle::submit(new.run_at, tx.now);
    let mut row = Row {
        n: 0,
        id: new.spec.id,
        life: life.clone(),
        handoff: 0,
        queued_at: None,
        not_before: None,
        started_at: None,
        finished_at: None,
        node: None,
        queue: Arc::clone(&new.spec.queue),
        band: new.spec.priority.band(),
        max_attempts: new.spec.max_attempts,
        noted: false,
    };
    let claim = taken.and_then(|taking| {
        let what = life.decide(Command::Claim { session: taking.session() }).ok()?;
        Some((what, taking.node()))
    });
    if let Some((what, node)) = &claim {
        row.life = life.apply(what)?;
        row.node = Some(Arc::clone(node));
    }
    match insert(tx, &row, &new.spec) {
        Ok(n) => row.n = n,
        // The statement undid itself; the transaction goes on.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            return Ok(known(tx, new)?.unwrap_or_else(|| Err(Error::Refused(error.to_string()))));
        }
        Err(error) => return Err(error.into()),
    }
    tx.sql(INSERT_INPUT)?.execute(params![row.n, new.input.as_ref()])?;
    tx.entered(&mut row);
    let spec = Spec { created_at: tx.now, ..new.spec.clone() };
    let stands = std::mem::replace(&mut row.life, life.clone());
    tx.append(&row, submitted, None)?;
    row.life = stands;
    if let Some((what, node)) = claim {
        tx.append(&row, what, Some(node))?;
        tx.saved(&row);
        claimed.push(Claimed { task: task(&row, spec.clone()), input: new.input.clone() });
    } else if !tx.careful {
        tx.scratch.recent.admitted(&row, &spec, &new.input);
    }
    let task = Task { life, node: None, ..task(&row, spec) };
    Ok(Ok(Admitted { task, existed: false }))
}

/// A task that stands as its new row says.
fn task(row: &Row, spec: Spec) -> Task {
    Task {
        spec,
        life: row.life.clone(),
        started_at: None,
        finished_at: None,
        progress: None,
        error: None,
        node: row.node.clone(),
    }
}

/// Inserts the row as [`Tx::entered`] will leave it, so that it is written once.
fn insert(tx: &Tx<'_>, row: &Row, spec: &Spec) -> rusqlite::Result<i64> {
    let queued = row.life.state == State::Queued;
    tx.sql(INSERT)?.insert(params![
        spec.id.as_bytes().as_slice(),
        row.life.state.code(),
        row.life.run_at.micros(),
        queued,
        queued.then_some(tx.now).map(Timestamp::micros),
        &*spec.queue,
        row.band.index(),
        spec.max_attempts,
        &*spec.namespace,
        &*spec.kind,
        spec.priority.value(),
        rows::micros(spec.timeout),
        tx.now.micros(),
        spec.request_id.as_deref(),
        spec.traceparent.as_deref(),
        spec.retry_of.as_ref().map(|id| id.as_bytes().as_slice()),
        row.life.attempt,
        rows::stored(row.life.seq),
        row.life.session.as_ref().map(|s| s.as_bytes().as_slice()),
        row.node.as_deref(),
    ])
}

/// The task that is in the way of a new one: the same one, admitted before, or another.
fn known(tx: &mut Tx<'_>, new: &NewTask) -> Result<Option<Result<Admitted, Error>>, Fault> {
    if let Some(request_id) = &new.spec.request_id {
        let mut statement = tx.sql(BY_REQUEST)?;
        let mut found = statement.query(params![&*new.spec.namespace, &**request_id])?;
        if let Some(sql) = found.next()? {
            let task = rows::task(sql, &mut tx.scratch.names)?;
            let same = is_same(sql, &task, new)?;
            let reused = Error::RequestIdReused(task.spec.id);
            return Ok(Some(if same { Ok(Admitted { task, existed: true }) } else { Err(reused) }));
        }
    }
    // The caller did not learn that its write was committed, and tries again with the same id.
    let mut statement = tx.sql(BY_ID)?;
    let mut found = statement.query([new.spec.id.as_bytes().as_slice()])?;
    let Some(sql) = found.next()? else { return Ok(None) };
    let task = rows::task(sql, &mut tx.scratch.names)?;
    let same = task.spec.namespace == new.spec.namespace
        && task.spec.request_id == new.spec.request_id
        && is_same(sql, &task, new)?;
    let taken = Error::Refused(format!("another task has the id {}", new.spec.id));
    Ok(Some(if same { Ok(Admitted { task, existed: true }) } else { Err(taken) }))
}

fn is_same(sql: &rusqlite::Row<'_>, task: &Task, new: &NewTask) -> rusqlite::Result<bool> {
    let input = rows::maybe(sql, AFTER_TASK, rows::blob)?;
    Ok(task.spec.kind == new.spec.kind && input == Some(new.input.as_ref()))
}
