//! Small tables beside the tasks: the kinds, the alerts and the epochs.

use super::fault::Fault;
use super::line::Work;
use super::rows;
use super::tx::Tx;
use crate::store::codec::{severity, severity_code, standing, standing_code};
use callboard_domain::alert::Alert;
use callboard_domain::{KindSpec, Timestamp};
use callboard_ports::epochs::Epoch;
use sqlx::postgres::PgRow;
use std::sync::Arc;

const SAVE_KIND: &str = "INSERT INTO kinds (name, version, description, input_schema, result_schema, \
    example_input, queue, timeout_us, max_attempts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, description = excluded.description, \
    input_schema = excluded.input_schema, result_schema = excluded.result_schema, \
    example_input = excluded.example_input, queue = excluded.queue, timeout_us = excluded.timeout_us, \
    max_attempts = excluded.max_attempts WHERE excluded.version >= kinds.version";
pub(super) const KINDS: &str = "SELECT name, version, description, input_schema, result_schema, \
    example_input, queue, timeout_us, max_attempts FROM kinds ORDER BY name";
const SAVE_ALERT: &str = "INSERT INTO alerts (id, rule, subject, severity, standing, message, count, \
    first_at, last_at, resolved_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    ON CONFLICT (id) DO UPDATE SET rule = excluded.rule, subject = excluded.subject, \
    severity = excluded.severity, standing = excluded.standing, message = excluded.message, \
    count = excluded.count, first_at = excluded.first_at, last_at = excluded.last_at, \
    resolved_at = excluded.resolved_at";

macro_rules! select_alerts {
    ($rest:literal) => {
        concat!(
            "SELECT id, rule, subject, severity, standing, message, count, first_at, last_at, resolved_at \
             FROM alerts ",
            $rest
        )
    };
}
pub(super) const OPEN_ALERTS: &str =
    select_alerts!("WHERE standing <> 4 AND ($1 IS NULL OR id < $1) ORDER BY id DESC LIMIT $2");
pub(super) const ALL_ALERTS: &str = select_alerts!("WHERE $1 IS NULL OR id < $1 ORDER BY id DESC LIMIT $2");

const NEXT_EPOCH: &str = "INSERT INTO epochs (name, number, holder) VALUES ($1, 1, $2) \
    ON CONFLICT (name) DO UPDATE SET number = epochs.number + 1, holder = excluded.holder RETURNING number";
/// Held until the commit: the next epoch begins after it.
const EPOCH: &str = "SELECT number FROM epochs WHERE name = $1 FOR SHARE";

/// Writes kinds down.
pub(super) struct SaveKinds(pub(super) Vec<KindSpec>);

impl Work for SaveKinds {
    type Out = ();

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        // In one order for every node that starts: they register the same kinds.
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
        for kind in &self.0 {
            sqlx::query(SAVE_KIND)
                .bind(&kind.name)
                .bind(i64::from(kind.version))
                .bind(&kind.description)
                .bind(&kind.input_schema)
                .bind(&kind.result_schema)
                .bind(&kind.example_input)
                .bind(&kind.queue)
                .bind(rows::micros(kind.timeout))
                .bind(rows::stored_small(kind.max_attempts))
                .execute(&mut *tx.conn)
                .await?;
        }
        Ok(())
    }
}

/// Reads a row of [`KINDS`].
pub(super) fn kind(sql: &PgRow) -> Result<KindSpec, Fault> {
    Ok(KindSpec {
        name: rows::get(sql, 0)?,
        version: u32::try_from(rows::get::<i64>(sql, 1)?).map_err(|_| rows::wrong("a version"))?,
        description: rows::get(sql, 2)?,
        input_schema: rows::get(sql, 3)?,
        result_schema: rows::get(sql, 4)?,
        example_input: rows::get(sql, 5)?,
        queue: rows::get(sql, 6)?,
        timeout: rows::span(sql, 7)?,
        max_attempts: rows::small(sql, 8)?,
    })
}

/// Writes alerts down.
pub(super) struct SaveAlerts(pub(super) Vec<Alert>);

impl Work for SaveAlerts {
    type Out = ();

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.0.sort_by(|a, b| a.id.cmp(&b.id));
        for alert in &self.0 {
            sqlx::query(SAVE_ALERT)
                .bind(&alert.id)
                .bind(&alert.rule)
                .bind(rows::clean(&alert.subject))
                .bind(i16::from(severity_code(alert.severity)))
                .bind(i16::from(standing_code(alert.standing)))
                .bind(rows::clean(&alert.message))
                .bind(rows::stored(alert.count))
                .bind(alert.first_at.micros())
                .bind(alert.last_at.micros())
                .bind(alert.resolved_at.map(Timestamp::micros))
                .execute(&mut *tx.conn)
                .await?;
        }
        Ok(())
    }
}

/// Reads a row of [`OPEN_ALERTS`] or [`ALL_ALERTS`].
pub(super) fn alert(sql: &PgRow) -> Result<Alert, Fault> {
    Ok(Alert {
        id: rows::get(sql, 0)?,
        rule: rows::get(sql, 1)?,
        subject: rows::get(sql, 2)?,
        severity: severity(rows::byte(sql, 3)?).ok_or_else(|| rows::wrong("a severity"))?,
        standing: standing(rows::byte(sql, 4)?).ok_or_else(|| rows::wrong("a standing"))?,
        message: rows::get(sql, 5)?,
        count: rows::count(sql, 6)?,
        first_at: rows::time(sql, 7)?,
        last_at: rows::time(sql, 8)?,
        resolved_at: rows::maybe_time(sql, 9)?,
    })
}

/// Starts the next epoch of a role.
pub(super) struct NextEpoch {
    pub(super) name: Arc<str>,
    pub(super) holder: String,
}

impl Work for NextEpoch {
    type Out = Epoch;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Epoch, Fault> {
        let next = sqlx::query(NEXT_EPOCH).bind(&*self.name).bind(&self.holder);
        let next = next.fetch_one(&mut *tx.conn).await?;
        Ok(Epoch { name: Arc::clone(&self.name), number: rows::count(&next, 0)? })
    }
}

/// Whether an epoch is the newest of its role. None can begin before the commit.
pub(super) async fn is_newest(tx: &mut Tx<'_>, epoch: &Epoch) -> Result<bool, Fault> {
    let found: Option<i64> =
        sqlx::query_scalar(EPOCH).bind(&*epoch.name).fetch_optional(&mut *tx.conn).await?;
    Ok(found == Some(rows::stored(epoch.number)))
}
