//! Reads of tasks. Each sees what was committed before it began.

use super::events::{self, event_columns};
use super::fault::Fault;
use super::pool::Pool;
use super::rows::{self, AFTER_TASK, task_columns};
use crate::store::names::Names;
use bytes::Bytes;
use callboard_domain::{Attempt, Band, Event, SessionId, State, Task, TaskId, Timestamp};
use callboard_ports::handoff::Ready;
use callboard_ports::store::{Error, Filter, FullTask, QueueDepth};
use sqlx::{Postgres, QueryBuilder};
use std::sync::Arc;
use uuid::Uuid;

const TASKS: &str = concat!("SELECT ", task_columns!(), " FROM tasks t WHERE t.id = ANY($1)");
const FULL: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input, r.result FROM tasks t LEFT JOIN task_inputs i ON i.task_id = t.id AND i.task_id = $1 \
     LEFT JOIN task_results r ON r.task_id = t.id AND r.task_id = $1 WHERE t.id = $1"
);
const EVENTS: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM task_events e WHERE e.task_id = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3"
);
const EVENTS_AFTER: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM unnest($1::uuid[], $2::bigint[]) AS w (id, seq) JOIN task_events e \
     ON e.task_id = w.id AND e.seq > w.seq AND e.task_id = ANY($1) ORDER BY e.task_id, e.seq LIMIT $3"
);
/// From the index of the ids alone, at best: about half a second per million tasks.
const ENDING: &str = "SELECT id FROM tasks WHERE right(encode(uuid_send(id), 'hex'), $1) = $2 LIMIT 2";
const COUNTS: &str = "SELECT sum(scheduled)::bigint, sum(queued)::bigint, sum(running)::bigint, \
    sum(succeeded)::bigint, sum(failed)::bigint, sum(cancelled)::bigint FROM task_totals";
const DEPTHS: &str =
    "SELECT queue, band, count(*) FROM tasks WHERE state = 2 GROUP BY queue, band ORDER BY queue, band";
/// One look into the index for each queue, and one for each band of it. Counts stop at $2.
const DEPTHS_WITHIN: &str = "WITH RECURSIVE q AS ( \
        (SELECT queue, 1 AS number FROM tasks WHERE state = 2 ORDER BY queue LIMIT 1) \
        UNION ALL \
        SELECT next.queue, q.number + 1 FROM q CROSS JOIN LATERAL ( \
            SELECT t.queue FROM tasks t WHERE t.state = 2 AND t.queue > q.queue ORDER BY t.queue LIMIT 1) next \
        WHERE q.number < $1) \
    SELECT q.queue, b.band, (SELECT count(*) FROM (SELECT 1 FROM tasks t \
            WHERE t.state = 2 AND t.queue = q.queue AND t.band = b.band LIMIT $2) counted) AS depth, first.id, \
        first.queued_at \
    FROM q CROSS JOIN (VALUES (0::smallint), (1::smallint), (2::smallint)) AS b (band) \
    CROSS JOIN LATERAL (SELECT t.id, t.queued_at FROM tasks t \
        WHERE t.state = 2 AND t.queue = q.queue AND t.band = b.band ORDER BY t.queued_at, t.id LIMIT 1) first \
    ORDER BY q.queue, b.band";
const QUEUED: &str = "SELECT id, queued_at, handoff, alone, not_before FROM tasks \
    WHERE state = 2 AND queue = $1 AND band = $2 ORDER BY queued_at, id LIMIT $3";
const HELD: &str = "SELECT id, attempt FROM tasks WHERE state = 3 AND session = $1 ORDER BY id";

/// The tasks with these ids.
pub(super) async fn get(pool: &Pool, ids: Vec<TaskId>) -> Result<Vec<Task>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = ids.into_iter().map(rows::uuid).collect();
    let mut names = Names::default();
    let found = pool.all(sqlx::query(TASKS).bind(ids)).await?;
    found.iter().map(|sql| rows::task(sql, &mut names)).collect()
}

/// One task with input and result.
pub(super) async fn get_full(pool: &Pool, id: TaskId) -> Result<Result<FullTask, Error>, Fault> {
    let found = pool.first(sqlx::query(FULL).bind(rows::uuid(id))).await?;
    let Some(sql) = found else { return Ok(Err(Error::NotFound)) };
    Ok(Ok(FullTask {
        task: rows::task(&sql, &mut Names::default())?,
        input: Bytes::from(rows::get::<Vec<u8>>(&sql, AFTER_TASK)?),
        result: rows::get::<Option<Vec<u8>>>(&sql, AFTER_TASK + 1)?.map(Bytes::from),
    }))
}

/// The one task whose id ends in these digits.
pub(super) async fn find(pool: &Pool, suffix: &str) -> Result<Result<TaskId, Error>, Fault> {
    let digits = i32::try_from(suffix.len()).unwrap_or(i32::MAX);
    if !(1..=32).contains(&digits) || !suffix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Err(Error::NotFound));
    }
    let found = pool.all(sqlx::query(ENDING).bind(digits).bind(suffix)).await?;
    Ok(match found.as_slice() {
        [] => Err(Error::NotFound),
        [sql] => Ok(rows::id(sql, 0)?),
        _ => Err(Error::Ambiguous),
    })
}

/// Tasks that fit, newest first. One search per state, so that a rare state is read from its own index.
pub(super) async fn list(
    pool: &Pool,
    filter: Filter,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Vec<Task>, Fault> {
    if filter.states.is_empty() {
        return search(pool, None, &filter, before, limit).await;
    }
    let mut states = filter.states.clone();
    states.sort_unstable();
    states.dedup();
    let mut tasks = Vec::new();
    for state in states {
        tasks.extend(search(pool, Some(state), &filter, before, limit).await?);
    }
    // A task that changed its state between two searches is in both.
    tasks.sort_by_key(|task| std::cmp::Reverse(task.spec.id));
    tasks.dedup_by_key(|task| task.spec.id);
    tasks.truncate(limit);
    Ok(tasks)
}

async fn search(
    pool: &Pool,
    state: Option<State>,
    filter: &Filter,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Vec<Task>, Fault> {
    let mut sql =
        QueryBuilder::<Postgres>::new(concat!("SELECT ", task_columns!(), " FROM tasks t WHERE true"));
    if let Some(state) = state {
        // A number in the text, not a parameter: only so does a partial index fit for certain.
        sql.push(format!(" AND t.state = {}", state.code()));
    }
    if let Some(id) = before {
        sql.push(" AND t.id < ").push_bind(rows::uuid(id));
    }
    if let Some(kind) = &filter.kind {
        sql.push(" AND t.kind = ").push_bind(kind.clone());
    }
    if let Some(queue) = &filter.queue {
        sql.push(" AND t.queue = ").push_bind(queue.clone());
    }
    if let Some(at) = filter.created_after {
        sql.push(" AND t.created_at >= ").push_bind(at.micros());
    }
    if let Some(at) = filter.created_before {
        sql.push(" AND t.created_at < ").push_bind(at.micros());
    }
    sql.push(" ORDER BY t.id DESC LIMIT ").push_bind(rows::limit(limit));
    let (mut tasks, mut names) = (Vec::new(), Names::default());
    for sql in pool.all(sql.build()).await? {
        match rows::task(&sql, &mut names) {
            Ok(task) => tasks.push(task),
            // One row that cannot be read must not hide all the others.
            Err(error) => tracing::error!(%error, "a stored task cannot be read, it is not listed"),
        }
    }
    Ok(tasks)
}

/// Events of a task after a seq.
pub(super) async fn log(pool: &Pool, id: TaskId, after_seq: u64, limit: usize) -> Result<Vec<Event>, Fault> {
    let events =
        sqlx::query(EVENTS).bind(rows::uuid(id)).bind(rows::stored(after_seq)).bind(rows::limit(limit));
    let found = pool.all(events).await?;
    let mut names = Names::default();
    found.iter().map(|sql| events::read(sql, &mut names)).collect()
}

/// Events of many tasks, each after a seq.
pub(super) async fn logs(pool: &Pool, tasks: Vec<(TaskId, u64)>, limit: usize) -> Result<Vec<Event>, Fault> {
    let (ids, seqs): (Vec<Uuid>, Vec<i64>) =
        tasks.into_iter().map(|(id, seq)| (rows::uuid(id), rows::stored(seq))).unzip();
    let found = pool.all(sqlx::query(EVENTS_AFTER).bind(ids).bind(seqs).bind(rows::limit(limit))).await?;
    let mut names = Names::default();
    found.iter().map(|sql| events::read(sql, &mut names)).collect()
}

/// How many tasks are in each state.
pub(super) async fn counts(pool: &Pool) -> Result<[u64; 6], Fault> {
    let sql = pool.one(sqlx::query(COUNTS)).await?;
    let mut counts = [0; 6];
    for (i, count) in counts.iter_mut().enumerate() {
        *count = rows::count(&sql, i)?;
    }
    Ok(counts)
}

/// How deep each queue is.
pub(super) async fn queue_depths(pool: &Pool) -> Result<Vec<QueueDepth>, Fault> {
    let (mut depths, mut names): (Vec<QueueDepth>, _) = (Vec::new(), Names::default());
    for sql in pool.all(sqlx::query(DEPTHS)).await? {
        let queue = rows::name(&sql, 0, &mut names)?;
        let (band, count) = (rows::band(&sql, 1)?, rows::count(&sql, 2)?);
        if depths.last().is_none_or(|last| last.queue != queue) {
            depths.push(QueueDepth { queue: Arc::clone(&queue), bands: [0; 3], oldest: None });
        }
        let Some(depth) = depths.last_mut() else { continue };
        if let Some(slot) = depth.bands.get_mut(usize::from(band.index())) {
            *slot = count;
        }
        let first = sqlx::query(QUEUED).bind(&*queue).bind(i16::from(band.index())).bind(1_i64);
        if let Some(sql) = pool.first(first).await? {
            let this = (rows::id(&sql, 0)?, rows::time(&sql, 1)?);
            let age = |(id, at): &(TaskId, Timestamp)| (*at, *id);
            depth.oldest = depth.oldest.into_iter().chain([this]).min_by_key(age);
        }
    }
    Ok(depths)
}

/// How deep each of so many queues is, each band counted up to `most`.
pub(super) async fn queue_depths_within(
    pool: &Pool,
    queues: usize,
    most: u64,
) -> Result<Vec<QueueDepth>, Fault> {
    let (mut depths, mut names): (Vec<QueueDepth>, _) = (Vec::new(), Names::default());
    let found = sqlx::query(DEPTHS_WITHIN).bind(rows::limit(queues)).bind(rows::stored(most));
    for sql in pool.all(found).await? {
        let (queue, band) = (rows::name(&sql, 0, &mut names)?, rows::band(&sql, 1)?);
        if depths.last().is_none_or(|last| last.queue != queue) {
            depths.push(QueueDepth { queue, bands: [0; 3], oldest: None });
        }
        let Some(depth) = depths.last_mut() else { continue };
        if let Some(slot) = depth.bands.get_mut(usize::from(band.index())) {
            *slot = rows::count(&sql, 2)?;
        }
        let this = (rows::id(&sql, 3)?, rows::time(&sql, 4)?);
        let age = |(id, at): &(TaskId, Timestamp)| (*at, *id);
        depth.oldest = depth.oldest.into_iter().chain([this]).min_by_key(age);
    }
    Ok(depths)
}

/// The oldest QUEUED tasks of each queue and band.
pub(super) async fn queued(pool: &Pool, only: Vec<Arc<str>>, limit: usize) -> Result<Vec<Ready>, Fault> {
    let lanes: Vec<(Arc<str>, Band)> = if only.is_empty() {
        let mut names = Names::default();
        let found = pool.all(sqlx::query(DEPTHS)).await?;
        found.iter().map(|sql| super::outbox::lane_of(sql, &mut names)).collect::<Result<_, _>>()?
    } else {
        only.into_iter().flat_map(|queue| Band::ALL.map(|band| (Arc::clone(&queue), band))).collect()
    };
    let mut waiting = Vec::new();
    for (queue, band) in lanes {
        let oldest = sqlx::query(QUEUED).bind(&*queue).bind(i16::from(band.index())).bind(rows::limit(limit));
        for sql in &pool.all(oldest).await? {
            waiting.push(Ready {
                id: rows::id(sql, 0)?,
                handoff: rows::count(sql, 2)?,
                queue: Arc::clone(&queue),
                band,
                alone: rows::get(sql, 3)?,
                not_before: rows::maybe_time(sql, 4)?,
            });
        }
    }
    Ok(waiting)
}

/// The attempts a session holds.
pub(super) async fn held_by(pool: &Pool, session: SessionId) -> Result<Vec<Attempt>, Fault> {
    let found = pool.all(sqlx::query(HELD).bind(rows::session_uuid(session))).await?;
    found.iter().map(|sql| Ok(Attempt { task_id: rows::id(sql, 0)?, number: rows::small(sql, 1)? })).collect()
}
