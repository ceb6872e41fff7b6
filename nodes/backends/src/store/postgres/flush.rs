//! How what a transaction has gathered is written: changed rows, then what is only appended.
//!
//! Nothing that is appended depends on anything else, so it goes along with the changed rows in one statement: a
//! statement less is a round trip less, and with small batches most of what a statement costs does not depend on
//! its rows. What is not there to be written is not in the statement: it would be planned all the same.

use super::draft::{Draft, Unwritten};
use super::events;
use super::fault::Fault;
use super::rows::{self, Note, Row};
use super::tx::{Day, Tx, on};
use callboard_domain::Timestamp;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;
use sqlx::{PgConnection, Postgres};

/// How long a fresh outbox row is hidden, in microseconds: whoever committed publishes it from memory.
pub(super) const BORN_LEASED: i64 = 2_000_000;

/// The changed rows, as parameters 1 to 23. A row that is not as its fence says is not written.
macro_rules! moved {
    () => {
        "WITH moved AS ( \
            UPDATE tasks{day} t SET state = u.state, attempt = u.attempt, failures = u.failures, lost = u.lost, \
                last_seq = u.last_seq, session = u.session, started = u.started, \
                cancel_requested = u.cancel_requested, run_at = u.run_at, handoff = u.handoff, \
                alone = u.alone, queued_at = u.queued_at, not_before = u.not_before, \
                started_at = u.started_at, finished_at = u.finished_at, node = u.node \
            FROM unnest($1::uuid[], $2::smallint[], $3::int[], $4::int[], $5::int[], $6::bigint[], \
                $7::uuid[], $8::bool[], $9::bool[], $10::bigint[], $11::bigint[], $12::bool[], \
                $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::text[], $18::bigint[], \
                $19::bigint[], $20::int[], $21::uuid[]) \
                AS u (id, state, attempt, failures, lost, last_seq, session, started, cancel_requested, \
                run_at, handoff, alone, queued_at, not_before, started_at, finished_at, node, was_seq, \
                was_handoff, was_attempt, was_session) \
            WHERE t.id = u.id AND t.id = ANY($1) AND t.id BETWEEN $22 AND $23 \
                AND (u.was_seq IS NULL OR (t.last_seq = u.was_seq AND t.handoff = u.was_handoff \
                AND t.attempt = u.was_attempt AND t.session IS NOT DISTINCT FROM u.was_session)) \
            RETURNING 1)"
    };
}

/// Lines of the log: when, then their columns.
macro_rules! log_columns {
    ($at:literal, $id:literal, $seq:literal, $type:literal, $state:literal, $attempt:literal, $node:literal, $detail:literal) => {
        concat!(
            ", logged AS (INSERT INTO task_events{day} (task_id, seq, at, type, state, attempt, node, detail) \
                SELECT e.task_id, e.seq, ", $at, ", e.type, e.state, e.attempt, e.node, e.detail FROM unnest(",
            $id, "::uuid[], ", $seq, "::bigint[], ", $type, "::smallint[], ", $state, "::smallint[], ",
            $attempt, "::int[], ", $node, "::text[], ", $detail, "::text[]) \
                AS e (task_id, seq, type, state, attempt, node, detail))"
        )
    };
}

/// Hand-offs: until when a fresh one is hidden, then their columns.
macro_rules! hand_off_columns {
    ($hidden:literal, $id:literal, $handoff:literal, $queue:literal, $band:literal, $alone:literal, $queued_at:literal, $not_before:literal) => {
        concat!(
            ", handed_off AS ( \
                INSERT INTO outbox (task_id, handoff, queue, band, alone, queued_at, not_before, next_try_at) \
                SELECT o.*, greatest(o.not_before, ", $hidden, ") FROM unnest(", $id, "::uuid[], ",
            $handoff, "::bigint[], ", $queue, "::text[], ", $band, "::smallint[], ", $alone, "::bool[], ",
            $queued_at, "::bigint[], ", $not_before, "::bigint[]) \
                AS o (task_id, handoff, queue, band, alone, queued_at, not_before))"
        )
    };
}
pub(super) use {hand_off_columns, log_columns};

macro_rules! moved_and_logged {
    () => {
        concat!(moved!(), log_columns!("$24", "$25", "$26", "$27", "$28", "$29", "$30", "$31"))
    };
}

macro_rules! kept {
    () => {
        ", kept AS (INSERT INTO task_results{day} (task_id, result) SELECT * FROM unnest($32::uuid[], $33::bytea[]))"
    };
}

macro_rules! counted {
    ($($part:expr),*) => {
        concat!($($part,)* " SELECT count(*) FROM moved")
    };
}

const MOVE: &str = counted!(moved!());
const MOVE_LOG: &str = counted!(moved_and_logged!());
const MOVE_LOG_KEEP: &str = counted!(moved_and_logged!(), kept!());
const MOVE_LOG_KEEP_HAND_OFF: &str = counted!(
    moved_and_logged!(),
    kept!(),
    hand_off_columns!("$34", "$35", "$36", "$37", "$38", "$39", "$40", "$41")
);

const NOTE: &str = "UPDATE tasks{day} t SET \
        progress_percent = CASE WHEN u.progress THEN u.percent ELSE t.progress_percent END, \
        progress_message = CASE WHEN u.progress THEN u.says ELSE t.progress_message END, \
        error_reason = CASE WHEN u.error THEN u.reason ELSE t.error_reason END, \
        error_message = CASE WHEN u.error THEN u.message ELSE t.error_message END, \
        error_retryable = CASE WHEN u.error THEN u.retryable ELSE t.error_retryable END \
    FROM unnest($1::uuid[], $2::bool[], $3::smallint[], $4::text[], $5::bool[], $6::text[], $7::text[], \
        $8::bool[]) AS u (id, progress, percent, says, error, reason, message, retryable) \
    WHERE t.id = u.id AND t.id = ANY($1) AND t.id BETWEEN $9 AND $10";

/// A statement that answers with a count.
pub(super) type Counting<'q> = QueryScalar<'q, Postgres, i64, PgArguments>;

impl Tx<'_> {
    /// Writes what is in the draft and not yet written.
    ///
    /// # Errors
    /// [`Fault::Moved`]: a row was not as it had been read; it is forgotten.
    pub(super) async fn flush(&mut self) -> Result<(), Fault> {
        let changed: Vec<&Row> = self.draft.rows.values().filter(|row| row.changed).collect();
        let mut days = Vec::new();
        for day in changed.chunk_by(|a, b| Day::of(a.id) == Day::of(b.id)) {
            days.push(day);
        }
        let appends = self.draft.has_more_to_append();
        if appends && days.is_empty() {
            days.push(&[]);
        }
        let last = days.len();
        for (n, day) in (1..).zip(days) {
            let with = Some(&self.draft).filter(|_| appends && n == last);
            let all = day.iter().map(|row| row.id).chain(with.into_iter().flat_map(Draft::appended_to));
            let of = self.days.of_all(all);
            let found = match count(self.conn, day, with, &of).await {
                // A row that has moved on may have its lines of the log, and its hand-offs, already; one that was
                // dropped has no place for them.
                Err(fault) if self.trusts && (fault.is_unique_violation() || fault.lacks_partition()) => 0,
                found => found?,
            };
            if usize::try_from(found) != Ok(day.len()) {
                self.recent.forget(day.iter().map(|row| row.id));
                return Err(Fault::Moved { found, wanted: day.len() });
            }
            let mut noted = Vec::new();
            noted.extend(day.iter().filter(|r| r.progress != Note::Keep || r.error != Note::Keep).copied());
            if !noted.is_empty() {
                note(self.conn, &noted, &of).await?;
            }
        }
        self.draft.flushed();
        Ok(())
    }
}

/// Gathers one column of many rows.
pub(super) fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Writes the changed rows of a day, and what is to be appended if that is to go along. Answers how many rows were as
/// their fences say.
async fn count(
    conn: &mut PgConnection,
    day: &[&Row],
    with: Option<&Draft>,
    suffix: &str,
) -> Result<i64, Fault> {
    let Some(draft) = with else {
        return Ok(moved(sqlx::query_scalar(on(MOVE, suffix)), day).fetch_one(conn).await?);
    };
    let unwritten = draft.unwritten();
    let (results, ready) = (!unwritten.results.is_empty(), !unwritten.ready.is_empty());
    let sql = match (results, ready) {
        (false, false) => MOVE_LOG,
        (true, false) => MOVE_LOG_KEEP,
        (_, true) => MOVE_LOG_KEEP_HAND_OFF,
    };
    let mut statement = logged(moved(sqlx::query_scalar(on(sql, suffix)), day), draft.now, &unwritten)?;
    if results || ready {
        statement = statement
            .bind(column(unwritten.results, |(id, _)| rows::uuid(*id)))
            .bind(column(unwritten.results, |(_, result)| result.as_ref()));
    }
    if ready {
        statement = handed_off(statement, draft.now, &unwritten);
    }
    Ok(statement.fetch_one(conn).await?)
}

fn moved<'q>(statement: Counting<'q>, day: &[&'q Row]) -> Counting<'q> {
    let ids = column(day, |r| rows::uuid(r.id));
    let (first, last) = (ids.first().copied(), ids.last().copied());
    let micros = |at: Option<Timestamp>| at.map(Timestamp::micros);
    statement
        .bind(ids)
        .bind(column(day, |r| i16::from(r.life.state.code())))
        .bind(column(day, |r| rows::stored_small(r.life.attempt)))
        .bind(column(day, |r| rows::stored_small(r.life.failures)))
        .bind(column(day, |r| rows::stored_small(r.life.lost)))
        .bind(column(day, |r| rows::stored(r.life.seq)))
        .bind(column(day, |r| r.life.session.map(rows::session_uuid)))
        .bind(column(day, |r| r.life.started))
        .bind(column(day, |r| r.life.cancel_requested))
        .bind(column(day, |r| r.life.run_at.micros()))
        .bind(column(day, |r| rows::stored(r.handoff)))
        .bind(column(day, |r| r.life.is_suspect()))
        .bind(column(day, |r| micros(r.queued_at)))
        .bind(column(day, |r| micros(r.not_before)))
        .bind(column(day, |r| micros(r.started_at)))
        .bind(column(day, |r| micros(r.finished_at)))
        .bind(day.iter().map(|r| r.node.as_deref()).collect::<Vec<_>>())
        .bind(column(day, |r| r.fence.map(|f| rows::stored(f.seq))))
        .bind(column(day, |r| r.fence.map(|f| rows::stored(f.handoff))))
        .bind(column(day, |r| r.fence.map(|f| rows::stored_small(f.attempt))))
        .bind(column(day, |r| r.fence.and_then(|f| f.session).map(rows::session_uuid)))
        .bind(first)
        .bind(last)
}

/// Binds what [`log_columns!`] has, in its order.
pub(super) fn logged<'q>(
    statement: Counting<'q>,
    now: Timestamp,
    Unwritten { events, .. }: &Unwritten<'q>,
) -> Result<Counting<'q>, Fault> {
    let details = events.iter().map(|e| events::detail(&e.what)).collect::<Result<Vec<_>, _>>()?;
    Ok(statement
        .bind(now.micros())
        .bind(column(events, |e| rows::uuid(e.task_id)))
        .bind(column(events, |e| rows::stored(e.seq)))
        .bind(column(events, |e| events::code(&e.what)))
        .bind(column(events, |e| i16::from(e.state.code())))
        .bind(column(events, |e| rows::stored_small(e.attempt)))
        .bind(column(events, |e| e.node.as_deref()))
        .bind(details))
}

/// Binds what [`hand_off_columns!`] has, in its order.
pub(super) fn handed_off<'q>(
    statement: Counting<'q>,
    now: Timestamp,
    Unwritten { ready, queued_at, .. }: &Unwritten<'q>,
) -> Counting<'q> {
    statement
        .bind(now.micros() + BORN_LEASED)
        .bind(column(ready, |r| rows::uuid(r.id)))
        .bind(column(ready, |r| rows::stored(r.handoff)))
        .bind(column(ready, |r| &*r.queue))
        .bind(column(ready, |r| i16::from(r.band.index())))
        .bind(column(ready, |r| r.alone))
        .bind(column(queued_at, |at| at.micros()))
        .bind(column(ready, |r| r.not_before.map(Timestamp::micros)))
}

async fn note(conn: &mut PgConnection, rows: &[&Row], suffix: &str) -> Result<(), Fault> {
    let ids = column(rows, |r| rows::uuid(r.id));
    let (first, last) = (ids.first().copied(), ids.last().copied());
    fn set<T>(note: &Note<T>) -> Option<&T> {
        if let Note::Set(value) = note { Some(value) } else { None }
    }
    sqlx::query(on(NOTE, suffix))
        .bind(ids)
        .bind(column(rows, |r| r.progress != Note::Keep))
        .bind(column(rows, |r| set(&r.progress).map(|p| i16::from(p.percent))))
        .bind(column(rows, |r| set(&r.progress).map(|p| rows::clean(&p.message))))
        .bind(column(rows, |r| r.error != Note::Keep))
        .bind(column(rows, |r| set(&r.error).map(|e| rows::clean(&e.reason))))
        .bind(column(rows, |r| set(&r.error).map(|e| rows::clean(&e.message))))
        .bind(column(rows, |r| set(&r.error).map(|e| e.retryable)))
        .bind(first)
        .bind(last)
        .execute(conn)
        .await?;
    Ok(())
}
