//! What is kept of providers.

use super::Store;
use super::fault::Fault;
use super::line::Work;
use super::rows;
use super::tx::Tx;
use async_trait::async_trait;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use callboard_ports::ProviderRecords;
use callboard_ports::store::Error;
use sqlx::postgres::PgRow;

const SAVE: &str = "INSERT INTO provider_records (topic, provider, key_id, model, epoch, until_at, at, \
    cool_down_us, value, note, author) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
    ON CONFLICT (topic, provider, key_id, model) DO UPDATE SET epoch = excluded.epoch, \
    until_at = excluded.until_at, at = excluded.at, cool_down_us = excluded.cool_down_us, \
    value = excluded.value, note = excluded.note, author = excluded.author \
    WHERE (excluded.epoch, excluded.until_at, excluded.at, excluded.cool_down_us, excluded.value, \
    excluded.note, excluded.author) > (provider_records.epoch, provider_records.until_at, \
    provider_records.at, provider_records.cool_down_us, provider_records.value, provider_records.note, \
    provider_records.author)";
const ALL: &str = "SELECT topic, provider, key_id, model, epoch, until_at, at, cool_down_us, value, note, \
                   author FROM provider_records";
const FORGET: &str = "DELETE FROM provider_records WHERE topic = $1 AND at < $2 AND until_at < $2";

/// Writes records down.
struct Save(Vec<ProviderRecord>);

impl Work for Save {
    type Out = ();

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        // In one order for every node: they hear of the same.
        self.0.sort_by(|a, b| a.subject.cmp(&b.subject));
        for record in &self.0 {
            let Subject { topic, provider, key, model } = &record.subject;
            sqlx::query(SAVE)
                .bind(i16::from(topic.code()))
                .bind(rows::clean(provider))
                .bind(rows::clean(key))
                .bind(rows::clean(model))
                .bind(rows::stored(record.epoch))
                .bind(record.until.micros())
                .bind(record.at.micros())
                .bind(rows::micros(record.cool_down))
                .bind(rows::clean(&record.value))
                .bind(rows::clean(&record.note))
                .bind(rows::clean(&record.author))
                .execute(&mut *tx.conn)
                .await?;
        }
        Ok(())
    }
}

/// Deletes those of breakers that are old.
struct Forget(Timestamp);

impl Work for Forget {
    type Out = ();

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let topic = i16::from(Topic::Breaker.code());
        sqlx::query(FORGET).bind(topic).bind(self.0.micros()).execute(&mut *tx.conn).await?;
        Ok(())
    }
}

/// A record; none of a topic that a later version knows.
fn record(sql: &PgRow) -> Result<Option<ProviderRecord>, Fault> {
    let Some(topic) = Topic::from_code(rows::byte(sql, 0)?) else { return Ok(None) };
    Ok(Some(ProviderRecord {
        subject: Subject {
            topic,
            provider: rows::get(sql, 1)?,
            key: rows::get(sql, 2)?,
            model: rows::get(sql, 3)?,
        },
        epoch: rows::count(sql, 4)?,
        until: rows::time(sql, 5)?,
        at: rows::time(sql, 6)?,
        cool_down: rows::span(sql, 7)?,
        value: rows::get(sql, 8)?,
        note: rows::get(sql, 9)?,
        author: rows::get(sql, 10)?,
    }))
}

#[async_trait]
impl ProviderRecords for Store {
    async fn save_provider_records(&self, records: Vec<ProviderRecord>) -> Result<(), Error> {
        self.work(&self.workers, Save(records)).await
    }

    async fn provider_records(&self) -> Result<Vec<ProviderRecord>, Error> {
        self.read(async {
            self.pool.all(sqlx::query(ALL)).await?.iter().filter_map(|sql| record(sql).transpose()).collect()
        })
        .await
    }

    async fn forget_breakers(&self, before: Timestamp) -> Result<(), Error> {
        self.work(&self.workers, Forget(before)).await
    }
}
