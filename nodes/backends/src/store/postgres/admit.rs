//! Writing new tasks down.

use super::batch::{self, Batch, Mode, Part};
use super::fault::Fault;
use super::flush::{self, hand_off_columns, log_columns};
use super::group;
use super::line::{Line, Work};
use super::rows::{self, AFTER_TASK, Note, Row, task_columns};
use super::tx::{Day, Tx, on};
use bytes::Bytes;
use callboard_domain::{Lifecycle, NewTask, Spec, State, Task, TaskId, limits};
use callboard_ports::store::{Admitted, Error};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A transaction writes either all of a request's rows or none, so whoever finds the request finds the task.
const REQUESTS: &str = "INSERT INTO task_requests (namespace, request_id, task_id) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]) ON CONFLICT DO NOTHING RETURNING task_id";
const KNOWN_REQUESTS: &str = "SELECT q.namespace, q.request_id, r.task_id \
    FROM unnest($1::text[], $2::text[]) AS q (namespace, request_id) CROSS JOIN LATERAL ( \
        SELECT task_id FROM task_requests WHERE namespace = q.namespace AND request_id = q.request_id LIMIT 1) r";
const KNOWN: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input FROM tasks{day} t LEFT JOIN task_inputs{day} i ON i.task_id = t.id \
     AND i.task_id = ANY($1) AND i.task_id BETWEEN $2 AND $3 WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3"
);
/// New tasks, as parameters 1 to 17, with their log and their hand-offs.
macro_rules! inserted {
    () => {
        concat!(
            "WITH kept AS ( \
                INSERT INTO task_inputs{day} (task_id, input) SELECT * FROM unnest($1::uuid[], $2::bytea[])), \
             new AS ( \
                INSERT INTO tasks{day} (created_at, last_seq, attempt, failures, lost, started, cancel_requested, \
                    alone, id, state, run_at, handoff, queued_at, queue, band, max_attempts, namespace, kind, \
                    priority, timeout_us, request_id, traceparent, retry_of) \
                SELECT $3, 1, 0, 0, 0, false, false, false, t.* FROM unnest($1::uuid[], $4::smallint[], \
                    $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::smallint[], $10::int[], \
                    $11::text[], $12::text[], $13::smallint[], $14::bigint[], $15::text[], $16::text[], \
                    $17::uuid[]) AS t)",
            log_columns!("$18", "$19", "$20", "$21", "$22", "$23", "$24", "$25"),
            hand_off_columns!("$26", "$27", "$28", "$29", "$30", "$31", "$32", "$33")
        )
    };
}
const INSERT: &str = concat!(inserted!(), " SELECT 0::bigint");
/// With their request ids too: it fails if one of them is taken.
const INSERT_WITH_REQUESTS: &str = concat!(
    inserted!(),
    ", asked AS (INSERT INTO task_requests (namespace, request_id, task_id) \
        SELECT * FROM unnest($34::text[], $35::text[], $36::uuid[])) SELECT 0::bigint"
);

type Answer = Result<Admitted, Error>;
/// A task and its place among the answers.
type Placed = (usize, NewTask);

/// Commits admissions.
pub(super) struct Admitter(pub(super) Line);

impl group::Commit for Admitter {
    type Item = NewTask;
    type Out = Answer;

    async fn commit(&mut self, items: Vec<NewTask>) -> Vec<Answer> {
        let mut answers: Vec<Answer> = Vec::new();
        answers.resize_with(items.len(), || Err(Error::Unavailable("the task was not written".into())));
        let mut left: Vec<Placed> = items.into_iter().enumerate().collect();
        while !left.is_empty() {
            let (wave, rest) = wave(left);
            let (places, tasks): (Vec<usize>, Vec<NewTask>) = wave.into_iter().unzip();
            for (i, answer) in places.into_iter().zip(batch::run::<Admit>(&mut self.0, tasks.into()).await) {
                if let Some(place) = answers.get_mut(i) {
                    *place = answer;
                }
            }
            left = rest;
        }
        answers
    }

    async fn close(&mut self) {
        self.0.close().await;
    }
}

/// Takes out the items that do not speak of the same task as an earlier one. The rest waits for the answer
/// to that: it will find a task that is there.
fn wave(left: Vec<Placed>) -> (Vec<Placed>, Vec<Placed>) {
    let (mut ids, mut requests) = (HashSet::new(), HashSet::new());
    left.into_iter().partition(|(_, NewTask { spec, .. })| {
        let request = spec.request_id.as_ref().map(|id| (Arc::clone(&spec.namespace), Arc::clone(id)));
        ids.insert(spec.id) & request.is_none_or(|request| requests.insert(request))
    })
}

/// Distinct tasks to admit.
struct Admit {
    items: Part<NewTask>,
    mode: Mode,
    /// The tasks that an earlier try of this very call had written.
    found: Vec<TaskId>,
}

impl Batch for Admit {
    type Item = NewTask;
    type Answer = Answer;
    const CAN_ASK: bool = true;

    fn new(items: Part<NewTask>, mode: Mode) -> Self {
        Self { items, mode, found: Vec::new() }
    }

    fn failed(_: &NewTask, error: &Error) -> Answer {
        Err(error.clone())
    }

    fn found(&self) -> Vec<TaskId> {
        self.found.clone()
    }
}

impl Work for Admit {
    type Out = Vec<Answer>;
    const IS_HOT: bool = true;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Answer>, Fault> {
        if let Mode::Blamed(why) = &self.mode {
            return Ok(self.items.iter().map(|_| Err(Error::Refused(why.clone()))).collect());
        }
        let mut answers: HashMap<TaskId, Answer> = HashMap::new();
        answers.extend(self.items.iter().filter_map(|new| Some((new.spec.id, Err(too_large(new)?)))));
        // As a rule, all request ids are new too: then they are taken with the insert.
        let plain = self.mode == Mode::Plain;
        if !plain {
            self.find_taken(tx, &mut answers).await?;
            self.find_requests(tx, &mut answers).await?;
        }
        let mut new: Vec<&NewTask> =
            self.items.iter().filter(|new| !answers.contains_key(&new.spec.id)).collect();
        new.sort_unstable_by_key(|new| new.spec.id);
        if !new.is_empty() {
            for task in insert(tx, &new, plain).await? {
                answers.insert(task.spec.id, Ok(Admitted { task, existed: false }));
            }
        }
        let missing = || Err(Error::Unavailable("the task was not written".into()));
        Ok(self.items.iter().map(|new| answers.remove(&new.spec.id).unwrap_or_else(missing)).collect())
    }
}

impl Admit {
    /// Whatever has one of our ids: the same task, written before, or another.
    async fn find_taken(
        &mut self,
        tx: &mut Tx<'_>,
        answers: &mut HashMap<TaskId, Answer>,
    ) -> Result<(), Fault> {
        self.found.clear();
        let mut known = known(tx, self.items.iter().map(|new| new.spec.id)).await?;
        for new in self.items.iter() {
            let Some((task, input)) = known.remove(&new.spec.id) else { continue };
            let same = task.spec.namespace == new.spec.namespace
                && task.spec.request_id == new.spec.request_id
                && is_same(&task, &input, new);
            // After a commit without an answer it is this very call that had written it.
            let existed = self.mode != Mode::Again;
            let answer = if same {
                self.found.push(task.spec.id);
                Ok(Admitted { task, existed })
            } else {
                Err(Error::Refused(format!("another task has the id {}", new.spec.id)))
            };
            answers.entry(new.spec.id).or_insert(answer);
        }
        Ok(())
    }

    /// Takes the request ids, and finds the tasks of those that were taken before.
    async fn find_requests(
        &self,
        tx: &mut Tx<'_>,
        answers: &mut HashMap<TaskId, Answer>,
    ) -> Result<(), Fault> {
        let mut with: Vec<(&str, &str, &NewTask)> = self
            .items
            .iter()
            .filter(|new| !answers.contains_key(&new.spec.id))
            .filter_map(|new| Some((&*new.spec.namespace, new.spec.request_id.as_deref()?, new)))
            .collect();
        if with.is_empty() {
            return Ok(());
        }
        // In one order for everybody: whoever comes second waits, and nobody waits in a circle.
        with.sort_unstable_by_key(|(namespace, request, _)| (*namespace, *request));
        let taken: HashSet<TaskId> = sqlx::query_scalar(REQUESTS)
            .bind(with.iter().map(|w| w.0).collect::<Vec<_>>())
            .bind(with.iter().map(|w| w.1).collect::<Vec<_>>())
            .bind(with.iter().map(|w| rows::uuid(w.2.spec.id)).collect::<Vec<_>>())
            .fetch_all(&mut *tx.conn)
            .await?
            .into_iter()
            .map(TaskId::new)
            .collect();
        with.retain(|(_, _, new)| !taken.contains(&new.spec.id));
        if with.is_empty() {
            return Ok(());
        }
        let found = sqlx::query(KNOWN_REQUESTS)
            .bind(with.iter().map(|w| w.0).collect::<Vec<_>>())
            .bind(with.iter().map(|w| w.1).collect::<Vec<_>>())
            .fetch_all(&mut *tx.conn)
            .await?;
        let mut by_request = HashMap::new();
        for sql in &found {
            by_request.insert((rows::get::<&str>(sql, 0)?, rows::get::<&str>(sql, 1)?), rows::id(sql, 2)?);
        }
        let known = known(tx, by_request.values().copied()).await?;
        for (namespace, request, new) in with {
            let earlier = by_request.get(&(namespace, request)).and_then(|id| known.get(id));
            let answer = match earlier {
                Some((task, input)) if is_same(task, input, new) => {
                    Ok(Admitted { task: task.clone(), existed: true })
                }
                Some((task, _)) => Err(Error::RequestIdReused(task.spec.id)),
                None => Err(Error::Refused("the request id belongs to a task that is gone".into())),
            };
            answers.insert(new.spec.id, answer);
        }
        Ok(())
    }
}

fn too_large(new: &NewTask) -> Option<Error> {
    let size = new.input.len();
    (size > limits::INPUT_BYTES).then(|| {
        Error::Refused(format!("an input of {size} bytes, at most {} are kept", limits::INPUT_BYTES))
    })
}

/// Tasks that are there, with their inputs.
async fn known(
    tx: &mut Tx<'_>,
    ids: impl Iterator<Item = TaskId>,
) -> Result<HashMap<TaskId, (Task, Vec<u8>)>, Fault> {
    let mut known = HashMap::new();
    for day in Day::split(ids) {
        let found = sqlx::query(tx.named(KNOWN, &day)).bind(&day.ids).bind(day.first).bind(day.last);
        for sql in found.fetch_all(&mut *tx.conn).await? {
            let task = rows::task(&sql, &mut tx.names)?;
            let input = rows::get::<Option<Vec<u8>>>(&sql, AFTER_TASK)?.unwrap_or_default();
            known.insert(task.spec.id, (task, input));
        }
    }
    Ok(known)
}

fn is_same(task: &Task, input: &[u8], new: &NewTask) -> bool {
    task.spec.kind == new.spec.kind && input == new.input
}

/// Inserts tasks with all that belongs to them; with their request ids, if none of those is known to be taken.
async fn insert(tx: &mut Tx<'_>, batch: &[&NewTask], with_requests: bool) -> Result<Vec<Task>, Fault> {
    let now = tx.now();
    let mut new = Vec::with_capacity(batch.len());
    for NewTask { spec, run_at, .. } in batch {
        let (life, submitted) = Lifecycle::submit(*run_at, now);
        let mut row = Row {
            id: spec.id,
            life,
            handoff: 0,
            queued_at: None,
            not_before: None,
            started_at: None,
            finished_at: None,
            node: None,
            queue: Arc::clone(&spec.queue),
            band: spec.priority.band(),
            max_attempts: spec.max_attempts,
            noted: false,
            progress: Note::Keep,
            error: Note::Keep,
            fence: None,
            changed: false,
            written: false,
        };
        tx.draft.entered(&mut row);
        tx.draft.append(&row, submitted, None);
        new.push(row);
    }
    write(tx, batch, &new, with_requests).await?;
    tx.draft.flushed();
    let spec = |new: &NewTask| Spec { created_at: now, ..new.spec.clone() };
    let claimable = new.iter().zip(batch).filter(|(row, _)| row.life.state == State::Queued);
    tx.draft.admitted.extend(claimable.map(|(row, new)| (row.clone(), spec(new), new.input.clone())));
    let task = |(row, new): (Row, &&NewTask)| Task {
        spec: spec(new),
        life: row.life,
        started_at: None,
        finished_at: None,
        progress: None,
        error: None,
        node: None,
    };
    Ok(new.into_iter().zip(batch).map(task).collect())
}

async fn write(tx: &mut Tx<'_>, batch: &[&NewTask], new: &[Row], with_requests: bool) -> Result<(), Fault> {
    fn column<T>(batch: &[&NewTask], value: impl Fn(&Spec) -> T) -> Vec<T> {
        batch.iter().map(|new| value(&new.spec)).collect()
    }
    fn texts<'a>(batch: &[&'a NewTask], value: impl Fn(&'a Spec) -> &'a str) -> Vec<&'a str> {
        batch.iter().map(|new| value(&new.spec)).collect()
    }
    fn maybe<'a>(batch: &[&'a NewTask], value: impl Fn(&'a Spec) -> Option<&'a str>) -> Vec<Option<&'a str>> {
        batch.iter().map(|new| value(&new.spec)).collect()
    }
    let inputs: Vec<&[u8]> = batch.iter().map(|new| Bytes::as_ref(&new.input)).collect();
    let mut asked: Vec<(&str, &str, TaskId)> = Vec::new();
    if with_requests {
        let specs = batch.iter().map(|new| &new.spec);
        asked.extend(specs.filter_map(|s| Some((&*s.namespace, s.request_id.as_deref()?, s.id))));
        // In one order for everybody: whoever comes second waits, and nobody waits in a circle.
        asked.sort_unstable();
    }
    let sql = if asked.is_empty() { INSERT } else { INSERT_WITH_REQUESTS };
    let statement = sqlx::query_scalar(on(sql, &tx.days.of_all(new.iter().map(|row| row.id))))
        .bind(column(batch, |s| rows::uuid(s.id)))
        .bind(inputs)
        .bind(tx.now().micros())
        .bind(new.iter().map(|r| i16::from(r.life.state.code())).collect::<Vec<_>>())
        .bind(new.iter().map(|r| r.life.run_at.micros()).collect::<Vec<_>>())
        .bind(new.iter().map(|r| rows::stored(r.handoff)).collect::<Vec<_>>())
        .bind(new.iter().map(|r| r.queued_at.map(|at| at.micros())).collect::<Vec<_>>())
        .bind(texts(batch, |s| &s.queue))
        .bind(column(batch, |s| i16::from(s.priority.band().index())))
        .bind(column(batch, |s| rows::stored_small(s.max_attempts)))
        .bind(texts(batch, |s| &s.namespace))
        .bind(texts(batch, |s| &s.kind))
        .bind(column(batch, |s| i16::from(s.priority.value())))
        .bind(column(batch, |s| rows::micros(s.timeout)))
        .bind(maybe(batch, |s| s.request_id.as_deref()))
        .bind(maybe(batch, |s| s.traceparent.as_deref()))
        .bind(column(batch, |s| s.retry_of.map(rows::uuid)));
    let unwritten = tx.draft.unwritten();
    let mut statement =
        flush::handed_off(flush::logged(statement, tx.now(), &unwritten)?, tx.now(), &unwritten);
    if !asked.is_empty() {
        statement = statement
            .bind(flush::column(&asked, |a| a.0))
            .bind(flush::column(&asked, |a| a.1))
            .bind(flush::column(&asked, |a| rows::uuid(a.2)));
    }
    statement.fetch_one(&mut *tx.conn).await?;
    Ok(())
}
