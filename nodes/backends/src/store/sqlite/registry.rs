//! Small tables beside the tasks: the kinds and the alerts.

use super::fault::Fault;
use super::readers::Reader;
use super::rows;
use super::tx::Tx;
use crate::store::codec::{severity, severity_code, standing, standing_code};
use callboard_domain::alert::Alert;
use callboard_domain::{KindSpec, Timestamp};
use rusqlite::{params, types::Type};

const SAVE_KIND: &str = "INSERT INTO kinds (name, version, description, input_schema, result_schema, \
    example_input, queue, timeout_us, max_attempts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, description = excluded.description, \
    input_schema = excluded.input_schema, result_schema = excluded.result_schema, \
    example_input = excluded.example_input, queue = excluded.queue, timeout_us = excluded.timeout_us, \
    max_attempts = excluded.max_attempts WHERE excluded.version >= version";
const KINDS: &str = "SELECT name, version, description, input_schema, result_schema, example_input, queue, \
                     timeout_us, max_attempts FROM kinds ORDER BY name";
const SAVE_ALERT: &str = "INSERT OR REPLACE INTO alerts (id, rule, subject, severity, standing, message, \
    count, first_at, last_at, resolved_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

macro_rules! select_alerts {
    ($rest:literal) => {
        concat!(
            "SELECT id, rule, subject, severity, standing, message, count, first_at, last_at, resolved_at \
             FROM alerts ",
            $rest
        )
    };
}
const OPEN_ALERTS: &str = select_alerts!(
    "INDEXED BY alerts_open WHERE standing <> 4 AND (?1 IS NULL OR id < ?1) ORDER BY id DESC LIMIT ?2"
);
const ALL_ALERTS: &str = select_alerts!("WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2");

/// Writes kinds down.
pub(super) fn save_kinds(tx: &mut Tx<'_>, kinds: &[KindSpec]) -> Result<(), Fault> {
    for kind in kinds {
        tx.sql(SAVE_KIND)?.execute(params![
            kind.name,
            kind.version,
            kind.description,
            kind.input_schema,
            kind.result_schema,
            kind.example_input,
            kind.queue,
            rows::micros(kind.timeout),
            kind.max_attempts,
        ])?;
    }
    Ok(())
}

/// The kinds, by name.
pub(super) fn kinds(reader: &mut Reader) -> Result<Vec<KindSpec>, Fault> {
    let mut statement = reader.conn.prepare_cached(KINDS)?;
    let kinds = statement.query_map([], |sql| {
        Ok(KindSpec {
            name: sql.get(0)?,
            version: sql.get(1)?,
            description: sql.get(2)?,
            input_schema: sql.get(3)?,
            result_schema: sql.get(4)?,
            example_input: sql.get(5)?,
            queue: sql.get(6)?,
            timeout: rows::span(sql, 7)?,
            max_attempts: sql.get(8)?,
        })
    })?;
    Ok(kinds.collect::<Result<_, _>>()?)
}

/// Writes alerts down.
pub(super) fn save_alerts(tx: &mut Tx<'_>, alerts: &[Alert]) -> Result<(), Fault> {
    for alert in alerts {
        tx.sql(SAVE_ALERT)?.execute(params![
            alert.id,
            alert.rule,
            alert.subject,
            severity_code(alert.severity),
            standing_code(alert.standing),
            alert.message,
            rows::stored(alert.count),
            alert.first_at.micros(),
            alert.last_at.micros(),
            alert.resolved_at.map(Timestamp::micros),
        ])?;
    }
    Ok(())
}

/// Alerts, newest first.
pub(super) fn alerts(
    reader: &mut Reader,
    open_only: bool,
    before: Option<&str>,
    limit: usize,
) -> Result<Vec<Alert>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = reader.conn.prepare_cached(if open_only { OPEN_ALERTS } else { ALL_ALERTS })?;
    let alerts = statement.query_map(params![before, limit], alert)?;
    Ok(alerts.collect::<Result<_, _>>()?)
}

fn alert(sql: &rusqlite::Row<'_>) -> rusqlite::Result<Alert> {
    Ok(Alert {
        id: sql.get(0)?,
        rule: sql.get(1)?,
        subject: sql.get(2)?,
        severity: severity(sql.get(3)?).ok_or_else(|| rows::wrong(3, Type::Integer))?,
        standing: standing(sql.get(4)?).ok_or_else(|| rows::wrong(4, Type::Integer))?,
        message: sql.get(5)?,
        count: rows::count(sql, 6)?,
        first_at: rows::time(sql, 7)?,
        last_at: rows::time(sql, 8)?,
        resolved_at: rows::maybe(sql, 9, rows::time)?,
    })
}
