//! The outbox: hand-offs that the broker has not confirmed, and tasks it may have lost.

use super::fault::Fault;
use super::line::Work;
use super::registry;
use super::rows;
use super::tx::Tx;
use crate::store::names::Names;
use callboard_domain::{Band, State, TaskId, Timestamp};
use callboard_ports::epochs::Epoch;
use callboard_ports::handoff::Ready;
use callboard_ports::outbox::{Lane, Lease, Suspect};
use callboard_ports::store::Error;
use sqlx::postgres::PgRow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The longest that leasing alone hides a row, in microseconds.
const HIDDEN: i64 = 60_000_000;
/// How many of the oldest tasks of a lane are looked through for suspects.
const LOOKED_AT: i64 = 20_000;

/// One look into the index for each lane.
const LANES: &str = "WITH RECURSIVE lane AS ( \
        (SELECT queue, band FROM outbox ORDER BY queue, band LIMIT 1) \
        UNION ALL \
        SELECT next.queue, next.band FROM lane CROSS JOIN LATERAL ( \
            SELECT o.queue, o.band FROM outbox o WHERE (o.queue, o.band) > (lane.queue, lane.band) \
            ORDER BY o.queue, o.band LIMIT 1) next) \
    SELECT queue, band FROM lane";
/// By when their time came, so that a long backlog that is hidden is not looked through.
const LEASE: &str = "UPDATE outbox o SET tries = o.tries + 1, \
        next_try_at = $4 + least($5 * (1::bigint << least(o.tries, 30)), greatest($5, $6)) \
    FROM (SELECT task_id, handoff FROM outbox WHERE queue = $1 AND band = $2 AND next_try_at <= $4 \
        ORDER BY next_try_at, task_id LIMIT $3 FOR UPDATE SKIP LOCKED) due \
    WHERE o.task_id = due.task_id AND o.handoff = due.handoff \
    RETURNING o.task_id, o.handoff, o.queue, o.band, o.alone, o.not_before, o.queued_at";
const CONFIRM: &str = "DELETE FROM outbox o USING unnest($1::uuid[], $2::bigint[]) AS c (task_id, handoff) \
    WHERE o.task_id = c.task_id AND o.handoff = c.handoff AND o.task_id = ANY($1)";
const POSTPONE: &str = "UPDATE outbox o SET next_try_at = greatest(o.next_try_at, $3) \
    FROM unnest($1::uuid[], $2::bigint[]) AS p (task_id, handoff) \
    WHERE o.task_id = p.task_id AND o.handoff = p.handoff AND o.task_id = ANY($1)";
const ROWS_OF: &str = "SELECT task_id, handoff FROM outbox WHERE task_id = ANY($1)";
pub(super) const BACKLOG: &str = "SELECT count(*) FROM outbox";

macro_rules! suspects_of {
    ($queue:literal, $band:literal) => {
        concat!(
            "SELECT t.id, t.handoff FROM (SELECT id, handoff, queued_at FROM tasks WHERE state = 2 AND queue = ",
            $queue,
            " AND band = ",
            $band,
            " ORDER BY queued_at, id LIMIT $1) t WHERE NOT EXISTS ( \
             SELECT 1 FROM outbox o WHERE o.task_id = t.id AND o.handoff = t.handoff)"
        )
    };
}
pub(super) const SUSPECTS: &str = concat!(suspects_of!("$2", "$3"), " ORDER BY t.queued_at, t.id LIMIT $4");
pub(super) const SUSPECT_LANES: &str = concat!(
    "WITH RECURSIVE lane AS ( \
        (SELECT queue, band FROM tasks WHERE state = 2 ORDER BY queue, band LIMIT 1) \
        UNION ALL \
        SELECT next.queue, next.band FROM lane CROSS JOIN LATERAL ( \
            SELECT t.queue, t.band FROM tasks t \
            WHERE t.state = 2 AND (t.queue, t.band) > (lane.queue, lane.band) \
            ORDER BY t.queue, t.band LIMIT 1) next) \
    SELECT queue, band FROM lane WHERE EXISTS (",
    suspects_of!("lane.queue", "lane.band"),
    ")"
);

/// Leases rows.
pub(super) struct TakeLease(pub(super) Lease);

impl Work for TakeLease {
    type Out = Vec<Ready>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Ready>, Fault> {
        let Lease { except, limit, hide } = &self.0;
        let lanes = sqlx::query(LANES).fetch_all(&mut *tx.conn).await?;
        let mut leased = Vec::new();
        for lane in &lanes {
            let lane = lane_of(lane, &mut tx.names)?;
            if except.contains(&lane) {
                continue;
            }
            let found = sqlx::query(LEASE)
                .bind(&*lane.0)
                .bind(i16::from(lane.1.index()))
                .bind(rows::limit(*limit))
                .bind(tx.now().micros())
                .bind(rows::micros(*hide))
                .bind(HIDDEN)
                .fetch_all(&mut *tx.conn)
                .await?;
            let mut of_lane = Vec::with_capacity(found.len());
            for sql in &found {
                of_lane.push((rows::time(sql, 6)?, ready(sql, &lane)?));
            }
            of_lane.sort_by_key(|(queued_at, ready)| (*queued_at, ready.id));
            leased.extend(of_lane.into_iter().map(|(_, ready)| ready));
        }
        Ok(leased)
    }
}

fn ready(sql: &PgRow, (queue, band): &Lane) -> Result<Ready, Fault> {
    Ok(Ready {
        id: rows::id(sql, 0)?,
        handoff: rows::count(sql, 1)?,
        queue: Arc::clone(queue),
        band: *band,
        alone: rows::get(sql, 4)?,
        not_before: rows::maybe_time(sql, 5)?,
    })
}

/// Reads the queue and band a row begins with.
pub(super) fn lane_of(sql: &PgRow, names: &mut Names) -> Result<Lane, Fault> {
    Ok((rows::name(sql, 0, names)?, rows::band(sql, 1)?))
}

/// Reads a row of [`SUSPECTS`].
pub(super) fn suspect(sql: &PgRow) -> Result<Suspect, Fault> {
    Ok(Suspect { id: rows::id(sql, 0)?, handoff: rows::count(sql, 1)? })
}

/// How [`SUSPECTS`] and [`SUSPECT_LANES`] are bounded: the first parameter.
pub(super) const fn looked_at() -> i64 {
    LOOKED_AT
}

/// A lane as parameters.
pub(super) fn lane_values((queue, band): &(Arc<str>, Band)) -> (&str, i16) {
    (queue, i16::from(band.index()))
}

fn columns(batch: &mut [(TaskId, u64)]) -> (Vec<Uuid>, Vec<i64>) {
    // In one order for everybody, so that nobody waits in a circle.
    batch.sort_unstable();
    batch.iter().map(|(id, handoff)| (rows::uuid(*id), rows::stored(*handoff))).unzip()
}

/// Deletes confirmed rows.
pub(super) struct Confirm(pub(super) Vec<(TaskId, u64)>);

impl Work for Confirm {
    type Out = usize;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<usize, Fault> {
        let (ids, handoffs) = columns(&mut self.0);
        let deleted = sqlx::query(CONFIRM).bind(ids).bind(handoffs).execute(&mut *tx.conn).await?;
        Ok(usize::try_from(deleted.rows_affected()).unwrap_or(usize::MAX))
    }
}

/// Hides rows.
pub(super) struct Postpone {
    pub(super) batch: Vec<(TaskId, u64)>,
    pub(super) hide: Duration,
}

impl Work for Postpone {
    type Out = ();

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let until: Timestamp = tx.now().after(self.hide);
        let (ids, handoffs) = columns(&mut self.batch);
        sqlx::query(POSTPONE).bind(ids).bind(handoffs).bind(until.micros()).execute(&mut *tx.conn).await?;
        Ok(())
    }
}

/// Hands suspects off again.
pub(super) struct Repair {
    pub(super) suspects: Vec<Suspect>,
    pub(super) fence: Epoch,
}

impl Work for Repair {
    type Out = Result<usize, Error>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, Fault> {
        if !registry::is_newest(tx, &self.fence).await? {
            return Ok(Err(Error::Fenced));
        }
        tx.load(self.suspects.iter().map(|suspect| suspect.id)).await?;
        let ids: Vec<Uuid> = self.suspects.iter().map(|suspect| rows::uuid(suspect.id)).collect();
        let mut rowed = HashSet::new();
        for sql in sqlx::query(ROWS_OF).bind(ids).fetch_all(&mut *tx.conn).await? {
            rowed.insert((rows::id(&sql, 0)?, rows::count(&sql, 1)?));
        }
        let mut count = 0;
        for Suspect { id, handoff } in &self.suspects {
            let Some(row) = tx.draft.rows.get(id) else { continue };
            let lost = row.life.state == State::Queued && row.handoff == *handoff;
            if lost && !rowed.contains(&(*id, *handoff)) {
                let not_before = row.not_before;
                tx.draft.hand_off_again(*id, not_before);
                count += 1;
            }
        }
        Ok(Ok(count))
    }
}
