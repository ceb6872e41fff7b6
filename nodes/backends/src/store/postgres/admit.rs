//! Writing new tasks down.

use super::batch::{self, Batch, Mode, Part};
use super::fault::Fault;
use super::flush::{self, hand_off_columns, log_columns};
use super::group;
use super::line::{Line, Work};
use super::rows::{self, AFTER_TASK, Note, Row, task_columns};
use super::tx::{Day, Tx, on};
use bytes::Bytes;
use callboard_domain::{Command, Lifecycle, NewTask, SessionId, Spec, State, Task, TaskId, limits};
use callboard_ports::store::{Admitted, Claimed, Error};
use std::collections::{BTreeSet, HashMap, HashSet};
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
/// New tasks, as parameters 1 to 21, with their log.
macro_rules! inserted {
    () => {
        concat!(
            "WITH kept AS ( \
                INSERT INTO task_inputs{day} (task_id, input) SELECT * FROM unnest($1::uuid[], $2::bytea[])), \
             new AS ( \
                INSERT INTO tasks{day} (created_at, failures, lost, started, cancel_requested, alone, id, state, \
                    run_at, handoff, queued_at, queue, band, max_attempts, namespace, kind, priority, \
                    timeout_us, request_id, traceparent, retry_of, last_seq, attempt, session, node) \
                SELECT $3, 0, 0, false, false, false, t.* FROM unnest($1::uuid[], $4::smallint[], \
                    $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::smallint[], $10::int[], \
                    $11::text[], $12::text[], $13::smallint[], $14::bigint[], $15::text[], $16::text[], \
                    $17::uuid[], $18::bigint[], $19::int[], $20::uuid[], $21::text[]) AS t)",
            log_columns!("$22", "$23", "$24", "$25", "$26", "$27", "$28", "$29")
        )
    };
}
/// With their hand-offs too: where all are taken at once there is none.
macro_rules! inserted_and_handed_off {
    () => {
        concat!(inserted!(), hand_off_columns!("$30", "$31", "$32", "$33", "$34", "$35", "$36", "$37"))
    };
}
/// And with their request ids, as parameters from the number given: it fails if one of them is taken.
macro_rules! asked {
    ($namespace:literal, $request:literal, $id:literal) => {
        concat!(
            ", asked AS (INSERT INTO task_requests (namespace, request_id, task_id) SELECT * FROM unnest(",
            $namespace,
            "::text[], ",
            $request,
            "::text[], ",
            $id,
            "::uuid[]))"
        )
    };
}
/// By whether some are handed off, and whether some have request ids.
const INSERTS: [[&str; 2]; 2] = [
    [
        concat!(inserted!(), " SELECT 0::bigint"),
        concat!(inserted!(), asked!("$30", "$31", "$32"), " SELECT 0::bigint"),
    ],
    [
        concat!(inserted_and_handed_off!(), " SELECT 0::bigint"),
        concat!(inserted_and_handed_off!(), asked!("$38", "$39", "$40"), " SELECT 0::bigint"),
    ],
];

/// What becomes of a new task.
type Answer = Result<Written, Error>;
/// A task and its place among the answers.
type Placed = (usize, NewTask);

/// A task that is written, or was before.
struct Written {
    admitted: Admitted,
    /// If it was taken at once: the claim.
    claimed: Option<Claimed>,
    /// Whether an earlier commit of this very call, that had no answer, may have claimed it.
    in_doubt: bool,
}

impl Written {
    fn new(task: Task) -> Self {
        Self { admitted: Admitted { task, existed: false }, claimed: None, in_doubt: false }
    }

    fn before(task: Task, existed: bool) -> Self {
        Self { in_doubt: !existed, admitted: Admitted { task, existed }, claimed: None }
    }
}

/// A new task, and who takes it at once if anybody does.
struct Item {
    new: NewTask,
    taken: Option<(SessionId, Arc<str>)>,
}

/// Commits admissions.
pub(super) struct Admitter(pub(super) Line);

impl group::Commit for Admitter {
    type Item = NewTask;
    type Out = Result<Admitted, Error>;

    async fn commit(&mut self, items: Vec<NewTask>) -> Vec<Self::Out> {
        let mut answers: Vec<Self::Out> = Vec::new();
        answers.resize_with(items.len(), || Err(Error::Unavailable("the task was not written".into())));
        let mut left: Vec<Placed> = items.into_iter().enumerate().collect();
        while !left.is_empty() {
            let (wave, rest) = wave(left);
            let (places, tasks): (Vec<usize>, Vec<NewTask>) = wave.into_iter().unzip();
            for (i, answer) in places.into_iter().zip(self.write(tasks).await) {
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

impl Admitter {
    /// Writes distinct tasks, and lets a worker take what it can start at once.
    async fn write(&mut self, tasks: Vec<NewTask>) -> Vec<Result<Admitted, Error>> {
        let taker = self.0.context().taker.get();
        let taking = taker.and_then(|taker| taker.take(&mut tasks.iter()));
        let item = |new: NewTask| {
            let taken = taking.as_ref().filter(|taking| taking.takes(new.spec.id));
            Item { taken: taken.map(|taking| (taking.session(), taking.node())), new }
        };
        let items: Vec<Item> = tasks.into_iter().map(item).collect();
        let (mut claimed, mut in_doubt) = (Vec::new(), false);
        let mut admitted = |answer: Answer| {
            in_doubt |= match &answer {
                Ok(written) => written.in_doubt,
                Err(error) => matches!(error, Error::Unknown(_)),
            };
            answer.map(|written| {
                claimed.extend(written.claimed);
                written.admitted
            })
        };
        let answers = batch::run::<Admit>(&mut self.0, items.into()).await;
        let answers = answers.into_iter().map(&mut admitted).collect();
        if let Some(taking) = taking {
            taking.settle(claimed, in_doubt);
        }
        answers
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
    items: Part<Item>,
    mode: Mode,
    /// The tasks that an earlier try of this very call had written.
    found: Vec<TaskId>,
}

impl Batch for Admit {
    type Item = Item;
    type Answer = Answer;
    const CAN_ASK: bool = true;
    const CALL: &'static str = "admit";
    const SUMMARY: &'static str = "INSERT tasks";

    fn trace<'a>(item: &'a Item, _: &'a Answer) -> Option<&'a str> {
        item.new.spec.traceparent.as_deref()
    }

    fn new(items: Part<Item>, mode: Mode) -> Self {
        Self { items, mode, found: Vec::new() }
    }

    fn failed(_: &Item, error: &Error) -> Answer {
        Err(error.clone())
    }

    fn found(&self) -> Vec<TaskId> {
        self.found.clone()
    }
}

impl Work for Admit {
    type Out = Vec<Answer>;
    const IS_HOT: bool = true;

    fn sessions(&self) -> Vec<SessionId> {
        let taken =
            self.items.iter().filter(|_| self.mode == Mode::Plain).filter_map(|item| item.taken.as_ref());
        let sessions: BTreeSet<SessionId> = taken.map(|(session, _)| *session).collect();
        sessions.into_iter().collect()
    }

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Answer>, Fault> {
        if let Mode::Blamed(why) = &self.mode {
            return Ok(self.items.iter().map(|_| Err(Error::Refused(why.clone()))).collect());
        }
        let mut answers: HashMap<TaskId, Answer> = HashMap::new();
        let items = self.items.clone();
        let all = || items.iter().map(|item| &item.new);
        answers.extend(all().filter_map(|new| Some((new.spec.id, Err(too_large(new)?)))));
        // As a rule, all request ids are new too: then they are taken with the insert.
        let plain = self.mode == Mode::Plain;
        if !plain {
            self.find_taken(tx, &mut answers).await?;
            self.find_requests(tx, &mut answers).await?;
        }
        let mut new: Vec<&Item> =
            self.items.iter().filter(|item| !answers.contains_key(&item.new.spec.id)).collect();
        new.sort_unstable_by_key(|item| item.new.spec.id);
        if !new.is_empty() {
            for written in insert(tx, &new, plain).await? {
                answers.insert(written.admitted.task.spec.id, Ok(written));
            }
        }
        let missing = || Err(Error::Unavailable("the task was not written".into()));
        Ok(all().map(|new| answers.remove(&new.spec.id).unwrap_or_else(missing)).collect())
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
        let mut known = known(tx, self.items.iter().map(|item| item.new.spec.id)).await?;
        for Item { new, .. } in self.items.iter() {
            let Some((task, input)) = known.remove(&new.spec.id) else { continue };
            let same = task.spec.namespace == new.spec.namespace
                && task.spec.request_id == new.spec.request_id
                && is_same(&task, &input, new);
            // After a commit without an answer it is this very call that had written it.
            let existed = self.mode != Mode::Again;
            let answer = if same {
                self.found.push(task.spec.id);
                Ok(Written::before(task, existed))
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
            .map(|item| &item.new)
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
                Some((task, input)) if is_same(task, input, new) => Ok(Written::before(task.clone(), true)),
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

/// Inserts tasks with all that belongs to them; with their request ids, if none of those is known to be taken. Then
/// they may be claimed at once, too, under a session that is live.
async fn insert(tx: &mut Tx<'_>, batch: &[&Item], plain: bool) -> Result<Vec<Written>, Fault> {
    let now = tx.now();
    let mut new = Vec::with_capacity(batch.len());
    for Item { new: NewTask { spec, run_at, .. }, taken } in batch {
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
        let taken = taken.as_ref().filter(|(session, _)| plain && tx.live.contains(session));
        let claims = taken.and_then(|(session, node)| {
            Some((row.life.decide(Command::Claim { session: *session }).ok()?, Arc::clone(node)))
        });
        match claims {
            Some((claimed, node)) => {
                tx.draft.append(&row, submitted, None);
                row.life = row.life.apply(&claimed)?;
                row.node = Some(Arc::clone(&node));
                tx.draft.entered(&mut row);
                tx.draft.append(&row, claimed, Some(node));
            }
            None => {
                tx.draft.entered(&mut row);
                tx.draft.append(&row, submitted, None);
            }
        }
        new.push(row);
    }
    write(tx, batch, &new, plain).await?;
    tx.draft.flushed();
    let written = |(row, Item { new, .. }): (Row, &&Item)| {
        let spec = Spec { created_at: now, ..new.spec.clone() };
        match row.life.state {
            State::Running => {
                let claimed = Claimed { task: task(&row, spec.clone()), input: new.input.clone() };
                let submitted = Lifecycle::submit(new.run_at, now).0;
                let admitted = Task { life: submitted, node: None, ..task(&row, spec) };
                tx.draft.rows.insert(row.id, Row { written: true, ..row });
                Written {
                    admitted: Admitted { task: admitted, existed: false },
                    claimed: Some(claimed),
                    in_doubt: false,
                }
            }
            State::Queued => {
                tx.draft.admitted.push((row.clone(), spec.clone(), new.input.clone()));
                Written::new(task(&row, spec))
            }
            _ => Written::new(task(&row, spec)),
        }
    };
    Ok(new.into_iter().zip(batch).map(written).collect())
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

async fn write(tx: &mut Tx<'_>, batch: &[&Item], new: &[Row], with_requests: bool) -> Result<(), Fault> {
    fn column<T>(batch: &[&Item], value: impl Fn(&Spec) -> T) -> Vec<T> {
        batch.iter().map(|item| value(&item.new.spec)).collect()
    }
    fn texts<'a>(batch: &[&'a Item], value: impl Fn(&'a Spec) -> &'a str) -> Vec<&'a str> {
        batch.iter().map(|item| value(&item.new.spec)).collect()
    }
    fn maybe<'a>(batch: &[&'a Item], value: impl Fn(&'a Spec) -> Option<&'a str>) -> Vec<Option<&'a str>> {
        batch.iter().map(|item| value(&item.new.spec)).collect()
    }
    let inputs: Vec<&[u8]> = batch.iter().map(|item| Bytes::as_ref(&item.new.input)).collect();
    let mut asked: Vec<(&str, &str, TaskId)> = Vec::new();
    if with_requests {
        let specs = batch.iter().map(|item| &item.new.spec);
        asked.extend(specs.filter_map(|s| Some((&*s.namespace, s.request_id.as_deref()?, s.id))));
        // In one order for everybody: whoever comes second waits, and nobody waits in a circle.
        asked.sort_unstable();
    }
    let unwritten = tx.draft.unwritten();
    let hands_off = !unwritten.ready.is_empty();
    let sql = INSERTS[usize::from(hands_off)][usize::from(!asked.is_empty())];
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
        .bind(column(batch, |s| s.retry_of.map(rows::uuid)))
        .bind(flush::column(new, |r| rows::stored(r.life.seq)))
        .bind(flush::column(new, |r| rows::stored_small(r.life.attempt)))
        .bind(flush::column(new, |r| r.life.session.map(rows::session_uuid)))
        .bind(new.iter().map(|r| r.node.as_deref()).collect::<Vec<_>>());
    let mut statement = flush::logged(statement, tx.now(), &unwritten)?;
    if hands_off {
        statement = flush::handed_off(statement, tx.now(), &unwritten);
    }
    if !asked.is_empty() {
        statement = statement
            .bind(flush::column(&asked, |a| a.0))
            .bind(flush::column(&asked, |a| a.1))
            .bind(flush::column(&asked, |a| rows::uuid(a.2)));
    }
    statement.fetch_one(&mut *tx.conn).await?;
    Ok(())
}
