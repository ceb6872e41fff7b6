//! What is kept of providers.

use super::fault::Fault;
use super::readers::Reader;
use super::rows;
use super::tx::Tx;
use super::{Store, Weight};
use async_trait::async_trait;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use callboard_ports::ProviderRecords;
use callboard_ports::store::Error;
use rusqlite::params;

const SAVE: &str = "INSERT INTO provider_records (topic, provider, key_id, model, epoch, until_at, at, \
    cool_down_us, value, note, author) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
    ON CONFLICT (topic, provider, key_id, model) DO UPDATE SET epoch = excluded.epoch, \
    until_at = excluded.until_at, at = excluded.at, cool_down_us = excluded.cool_down_us, \
    value = excluded.value, note = excluded.note, author = excluded.author \
    WHERE (excluded.epoch, excluded.until_at, excluded.at, excluded.cool_down_us, excluded.value, \
    excluded.note, excluded.author) > (provider_records.epoch, provider_records.until_at, \
    provider_records.at, provider_records.cool_down_us, provider_records.value, provider_records.note, \
    provider_records.author)";
const ALL: &str = "SELECT topic, provider, key_id, model, epoch, until_at, at, cool_down_us, value, note, \
                   author FROM provider_records";
const FORGET: &str = "DELETE FROM provider_records WHERE topic = ?1 AND at < ?2 AND until_at < ?2";

fn save(tx: &mut Tx<'_>, records: &[ProviderRecord]) -> Result<(), Fault> {
    for record in records {
        let Subject { topic, provider, key, model } = &record.subject;
        tx.sql(SAVE)?.execute(params![
            topic.code(),
            provider,
            key,
            model,
            rows::stored(record.epoch),
            record.until.micros(),
            record.at.micros(),
            rows::micros(record.cool_down),
            record.value,
            record.note,
            record.author,
        ])?;
    }
    Ok(())
}

fn all(reader: &mut Reader) -> Result<Vec<ProviderRecord>, Fault> {
    let mut statement = reader.conn.prepare_cached(ALL)?;
    let records = statement.query_map([], |sql| {
        // None of a topic that a later version knows.
        let Some(topic) = Topic::from_code(sql.get(0)?) else { return Ok(None) };
        Ok(Some(ProviderRecord {
            subject: Subject { topic, provider: sql.get(1)?, key: sql.get(2)?, model: sql.get(3)? },
            epoch: rows::count(sql, 4)?,
            until: rows::time(sql, 5)?,
            at: rows::time(sql, 6)?,
            cool_down: rows::span(sql, 7)?,
            value: sql.get(8)?,
            note: sql.get(9)?,
            author: sql.get(10)?,
        }))
    })?;
    Ok(records.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

#[async_trait]
impl ProviderRecords for Store {
    async fn save_provider_records(&self, records: Vec<ProviderRecord>) -> Result<(), Error> {
        self.write(Weight::rows(records.len()), move |tx| save(tx, &records).map(Ok)).await
    }

    async fn provider_records(&self) -> Result<Vec<ProviderRecord>, Error> {
        self.readers.read(all).await
    }

    async fn forget_breakers(&self, before: Timestamp) -> Result<(), Error> {
        let forget = move |tx: &mut Tx<'_>| {
            tx.sql(FORGET)?.execute(params![Topic::Breaker.code(), before.micros()])?;
            Ok(Ok(()))
        };
        self.write(Weight::rows(1), forget).await
    }
}
