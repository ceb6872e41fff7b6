//! The judge: reads PostgreSQL itself and the record of the effect sink, never the product's API.

use crate::limit;
use crate::report::Report;
use crate::servers::Servers;
use crate::sink::{Entry, What};
use anyhow::{Context as _, Result};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Microseconds since the epoch, on this machine's clock, which is the store's too.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

async fn count(servers: &mut Servers, sql: &str) -> Result<i64> {
    let text = servers.sql(sql.to_owned()).await?;
    text.trim().parse().with_context(|| format!("`{sql}` answers `{text}`"))
}

/// Waits until every acknowledged task has ended and the outbox is empty. `None`: they do not.
pub(crate) async fn settle(servers: &mut Servers, within: Duration) -> Result<Option<Duration>> {
    let began = Instant::now();
    loop {
        let open = count(servers, "SELECT count(*) FROM tasks WHERE state < 4").await?;
        let outbox = count(servers, "SELECT count(*) FROM outbox").await?;
        if open + outbox == 0 {
            return Ok(Some(began.elapsed()));
        }
        if began.elapsed() > within {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What the log may not hold. Each counts offences.
const LAWS: [(&str, &str); 9] = [
    ("tasks that have not ended", "SELECT count(*) FROM tasks WHERE state < 4"),
    ("rows left in the outbox", "SELECT count(*) FROM outbox"),
    (
        "results recorded twice",
        "SELECT count(*) FROM (SELECT task_id FROM task_events WHERE state = 4 GROUP BY task_id \
         HAVING count(*) > 1) t",
    ),
    (
        "stale attempts committed",
        "SELECT count(*) FROM tasks t JOIN task_results r ON r.task_id = t.id \
         WHERE (convert_from(r.result, 'UTF8')::json->>'attempt')::int <> t.attempt",
    ),
    (
        "successes without a result",
        "SELECT count(*) FROM tasks t WHERE t.state = 4 \
         AND NOT EXISTS (SELECT 1 FROM task_results r WHERE r.task_id = t.id)",
    ),
    (
        "logs with gaps",
        "SELECT count(*) FROM (SELECT task_id FROM task_events GROUP BY task_id \
         HAVING min(seq) <> 1 OR max(seq) <> count(*)) t",
    ),
    (
        "logs that do not end in the task's state",
        "SELECT count(*) FROM tasks t JOIN task_events e ON e.task_id = t.id AND e.seq = t.last_seq \
         WHERE e.state <> t.state OR e.attempt <> t.attempt",
    ),
    (
        "illegal sequences of events",
        // From waiting: to waiting, queued or cancelled; from queued: to running or cancelled; from running: on,
        // or to anything; an end is the end. An attempt counts up by one, when it is claimed, and never else.
        "SELECT count(*) FROM (SELECT state, attempt, lag(state) OVER w AS was, lag(attempt) OVER w AS had \
         FROM task_events WINDOW w AS (PARTITION BY task_id ORDER BY seq)) e \
         WHERE (was IS NULL AND (state NOT IN (1, 2) OR attempt <> 0)) OR was >= 4 \
         OR (was = 1 AND state NOT IN (1, 2, 6)) OR (was = 2 AND state NOT IN (3, 6)) \
         OR (attempt <> had + CASE WHEN was = 2 AND state = 3 THEN 1 ELSE 0 END)",
    ),
    (
        "tasks held by a session that has ended",
        "SELECT count(*) FROM tasks t JOIN node_sessions s ON s.id = t.session \
         WHERE t.state = 3 AND s.ended_at IS NOT NULL",
    ),
];

/// Judges everything that was acknowledged and recorded.
pub(crate) async fn judge(
    servers: &mut Servers,
    acked: &[String],
    entries: &[Entry],
    report: &mut Report,
) -> Result<()> {
    for (what, sql) in LAWS {
        let offences = count(servers, sql).await?;
        report.zero.insert(what, offences);
    }
    // The ids of the database against those of the client.
    let stored = servers.sql("SELECT id FROM tasks".to_owned()).await?;
    let stored: HashSet<&str> = stored.lines().map(str::trim).collect();
    let lost = acked.iter().filter(|id| !stored.contains(id.as_str())).count();
    report.zero.insert("acknowledged tasks lost", i64::try_from(lost)?);
    // What succeeded has had its effect, by the attempt that is recorded.
    let succeeded = servers.sql("SELECT id || ' ' || attempt FROM tasks WHERE state = 4".to_owned()).await?;
    let effects: HashSet<(&str, u32)> =
        entries.iter().filter(|e| e.what == What::Effect).map(|e| (e.task.as_str(), e.attempt)).collect();
    let without = succeeded.lines().filter_map(|line| line.trim().split_once(' '));
    let without = without.filter(|(id, attempt)| !effects.contains(&(*id, attempt.parse().unwrap_or(0))));
    report.zero.insert("successes without their effect", i64::try_from(without.count())?);
    let failed = count(servers, "SELECT count(*) FROM tasks WHERE state IN (5, 6)").await?;
    report.zero.insert("tasks that failed though they need not", failed);
    let tokens: Vec<_> = entries.iter().filter_map(|entry| entry.token).collect();
    report.tokens = (tokens.len(), limit::most_over(tokens, &report.apart));
    let mut ended = 0;
    for (from, to) in report.outages.clone() {
        let sql = format!(
            "SELECT count(*) FROM node_sessions WHERE ended_at BETWEEN {from} AND {to} \
             AND ended_reason LIKE '%silent%'"
        );
        ended += count(servers, &sql).await?;
    }
    report.zero.insert("sessions ended by the store's outage", ended);
    if report.settled_in.is_none() {
        report.note(stuck(servers).await?);
    }
    for id in report.late.clone().iter().take(3) {
        report.note(format!("late: {id}\n{}", log(servers, id).await?));
    }
    Ok(())
}

/// What there is to know of some tasks that have not ended.
async fn stuck(servers: &mut Servers) -> Result<String> {
    let sql = "SELECT t.id, t.state, t.attempt, t.handoff, t.session, o.handoff, o.tries, o.next_try_at \
               FROM tasks t LEFT JOIN outbox o ON o.task_id = t.id WHERE t.state < 4 LIMIT 10";
    let rows = servers.sql(sql.to_owned()).await?;
    let mut text = format!("stuck: id, state, attempt, handoff, session, outbox\n{rows}");
    for line in rows.lines().take(2) {
        let id = line.split('|').next().unwrap_or_default();
        write!(text, "log of {id}:\n{}", log(servers, id).await?)?;
    }
    Ok(text)
}

/// The log of a task.
async fn log(servers: &mut Servers, id: &str) -> Result<String> {
    let sql = format!(
        "SELECT seq, to_timestamp(at / 1e6), type, state, attempt, node, detail FROM task_events \
         WHERE task_id = '{id}' ORDER BY seq"
    );
    servers.sql(sql).await
}
