//! The port's traits on [`Store`].

use super::attempts::{Report, Said};
use super::outbox::{Confirm, Postpone, Repair, TakeLease};
use super::registry::{self, NextEpoch, SaveAlerts, SaveKinds};
use super::waiting::{Cancel, ReleaseDue};
use super::{Store, claim, outbox, read, recovery, rows};
use async_trait::async_trait;
use callboard_domain::alert::Alert;
use callboard_domain::{Attempt, Event, KindSpec, NewTask, SessionId, Task, TaskId};
use callboard_ports::alerts::AlertStore;
use callboard_ports::epochs::{Epoch, Epochs};
use callboard_ports::handoff::Ready;
use callboard_ports::outbox::{Lane, Lease, Outbox, Suspect};
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session, SessionStore};
use callboard_ports::store::{
    self, Admitted, Cancelled, Claim, ClaimRequest, CommitObserver, Error, Fenced, Filter, Finish, FullTask,
    ProgressReport, QueueDepth, Released, Started, TaskReader, TaskStore,
};
use callboard_ports::taker::Taker;
use std::sync::Arc;
use std::time::Duration;

/// What a row weighs beside the payload: columns, event, index entries.
const ROW_BYTES: usize = 512;

impl Store {
    async fn report(&self, reports: Vec<Report>, bytes: usize) -> Result<Vec<Fenced>, Error> {
        self.reports.call(reports, bytes).await?.into_iter().collect()
    }
}

#[async_trait]
impl TaskStore for Store {
    async fn admit(&self, batch: Vec<NewTask>) -> Vec<Result<Admitted, Error>> {
        let count = batch.len();
        let bytes = batch.iter().map(|new| new.input.len() + ROW_BYTES).sum();
        self.admits.call(batch, bytes).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, Error> {
        let ClaimRequest { session, node, hosted, take, give_back } = request;
        let taken = take.len();
        let ids = take.into_iter().map(|id| (id, true)).chain(give_back.into_iter().map(|id| (id, false)));
        let items: Vec<_> = ids
            .map(|(id, take)| {
                let (node, hosted) = (Arc::clone(&node), Arc::clone(&hosted));
                claim::Item { session, node, hosted, id, take }
            })
            .collect();
        if items.is_empty() {
            // Nothing to write, but the session must be live all the same.
            let live = self.live_sessions().await?;
            return if live.iter().any(|s| s.opened.id == session) {
                Ok(Vec::new())
            } else {
                Err(Error::SessionEnded)
            };
        }
        let mut claims = Vec::with_capacity(taken);
        let mut failed = None;
        for answer in self.claims.call(items, 0).await? {
            match answer {
                Ok(claim) => claims.push(claim),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => {
                claims.truncate(taken);
                Ok(claims)
            }
        }
    }

    async fn start(&self, session: SessionId, batch: Vec<Started>) -> Result<Vec<Fenced>, Error> {
        let report = |Started { attempt, at }| Report { session, attempt, said: Said::Started(at) };
        self.report(batch.into_iter().map(report).collect(), 0).await
    }

    async fn progress(&self, session: SessionId, batch: Vec<ProgressReport>) -> Result<Vec<Fenced>, Error> {
        let bytes = batch.iter().map(|report| report.progress.message.len()).sum();
        let report = |ProgressReport { attempt, progress }| Report {
            session,
            attempt,
            said: Said::Progress(progress),
        };
        self.report(batch.into_iter().map(report).collect(), bytes).await
    }

    async fn finish(&self, session: SessionId, batch: Vec<Finish>) -> Result<Vec<Fenced>, Error> {
        let bytes = batch.iter().map(|end| end.result.as_ref().map_or(0, bytes::Bytes::len)).sum();
        self.report(batch.into_iter().map(|end| Report::end(session, end)).collect(), bytes).await
    }

    async fn give_back(&self, session: SessionId, batch: Vec<Attempt>) -> Result<Vec<Fenced>, Error> {
        let report = |attempt| Report { session, attempt, said: Said::GivenBack };
        self.report(batch.into_iter().map(report).collect(), 0).await
    }

    async fn cancel(&self, id: TaskId) -> Result<Cancelled, Error> {
        self.work(&self.workers, Cancel(id)).await?
    }

    async fn release_due(&self, limit: usize) -> Result<Released, Error> {
        self.work(&self.workers, ReleaseDue(limit)).await
    }

    async fn register_kinds(&self, kinds: Vec<KindSpec>) -> Result<(), Error> {
        self.work(&self.workers, SaveKinds(kinds)).await
    }
}

#[async_trait]
impl TaskReader for Store {
    async fn get(&self, ids: Vec<TaskId>) -> Result<Vec<Task>, Error> {
        self.read(read::get(&self.pool, ids)).await
    }

    async fn get_full(&self, id: TaskId) -> Result<FullTask, Error> {
        self.read(read::get_full(&self.pool, id)).await?
    }

    async fn find(&self, suffix: &str) -> Result<TaskId, Error> {
        self.read(read::find(&self.pool, suffix)).await?
    }

    async fn list(&self, filter: Filter, before: Option<TaskId>, limit: usize) -> Result<Vec<Task>, Error> {
        self.read(read::list(&self.pool, filter, before, limit)).await
    }

    async fn events(&self, id: TaskId, after_seq: u64, limit: usize) -> Result<Vec<Event>, Error> {
        self.read(read::log(&self.pool, id, after_seq, limit)).await
    }

    async fn events_after(&self, tasks: Vec<(TaskId, u64)>, limit: usize) -> Result<Vec<Event>, Error> {
        self.read(read::logs(&self.pool, tasks, limit)).await
    }

    async fn counts(&self) -> Result<[u64; 6], Error> {
        self.read(read::counts(&self.pool)).await
    }

    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, Error> {
        self.depths().await
    }

    async fn queue_depths_within(&self, queues: usize, most: u64) -> Result<Vec<QueueDepth>, Error> {
        self.read(read::queue_depths_within(&self.pool, queues, most)).await
    }

    async fn queued(&self, queues: &[Arc<str>], limit: usize) -> Result<Vec<Ready>, Error> {
        self.read(read::queued(&self.pool, queues.to_vec(), limit)).await
    }

    async fn held_by(&self, session: SessionId) -> Result<Vec<Attempt>, Error> {
        self.read(read::held_by(&self.pool, session)).await
    }

    async fn kinds(&self) -> Result<Vec<KindSpec>, Error> {
        self.read(async {
            let found = self.pool.all(sqlx::query(registry::KINDS)).await?;
            found.iter().map(registry::kind).collect()
        })
        .await
    }
}

#[async_trait]
impl SessionStore for Store {
    async fn open_session(&self, session: NewSession) -> Result<(), Error> {
        let sessions = Arc::clone(&self.sessions);
        self.own(async move { sessions.open_session(session).await }).await
    }

    async fn renew_session(&self, id: SessionId) -> Result<Vec<TaskId>, Error> {
        let sessions = Arc::clone(&self.sessions);
        self.own(async move { sessions.renew_session(id).await }).await
    }

    async fn end_session(&self, id: SessionId, reason: &str) -> Result<EndedSession, Error> {
        let (lines, reason) = (Arc::clone(&self.recovery), reason.to_owned());
        self.own(async move { recovery::end(&mut *lines.take().await?, id, reason).await }).await
    }

    async fn accuse(&self, accusation: Accusation) -> Result<Option<EndedSession>, Error> {
        let lines = Arc::clone(&self.recovery);
        self.own(async move { recovery::accuse(&mut *lines.take().await?, accusation).await }).await
    }

    async fn recover_orphans(&self, limit: usize) -> Result<usize, Error> {
        let lines = Arc::clone(&self.recovery);
        self.own(async move { recovery::orphans(&mut *lines.take().await?, limit).await }).await
    }

    async fn live_sessions(&self) -> Result<Vec<Session>, Error> {
        self.read(async {
            let found = self.pool.all(sqlx::query(super::sessions::LIVE)).await?;
            found.iter().map(super::sessions::session).collect()
        })
        .await
    }
}

#[async_trait]
impl AlertStore for Store {
    async fn save_alerts(&self, alerts: Vec<Alert>) -> Result<(), Error> {
        self.work(&self.workers, SaveAlerts(alerts)).await
    }

    async fn open_alerts(&self) -> Result<Vec<Alert>, Error> {
        self.list_alerts(true, None, usize::MAX).await
    }

    async fn list_alerts(
        &self,
        open_only: bool,
        before: Option<String>,
        limit: usize,
    ) -> Result<Vec<Alert>, Error> {
        let sql = if open_only { registry::OPEN_ALERTS } else { registry::ALL_ALERTS };
        self.read(async {
            let found = self.pool.all(sqlx::query(sql).bind(before).bind(rows::limit(limit))).await?;
            found.iter().map(registry::alert).collect()
        })
        .await
    }
}

impl store::Store for Store {
    fn observe(&self, observer: Arc<dyn CommitObserver>) {
        self.add_observer(observer);
    }

    fn offer_to(&self, taker: Arc<dyn Taker>) {
        self.add_taker(taker);
    }
}

#[async_trait]
impl Outbox for Store {
    async fn lease(&self, lease: Lease) -> Result<Vec<Ready>, Error> {
        self.work(&self.outbox, TakeLease(lease)).await
    }

    async fn confirm(&self, batch: Vec<(TaskId, u64)>) -> Result<usize, Error> {
        self.work(&self.outbox, Confirm(batch)).await
    }

    async fn postpone(&self, batch: Vec<(TaskId, u64)>, hide: Duration) -> Result<(), Error> {
        self.work(&self.outbox, Postpone { batch, hide }).await
    }

    async fn backlog(&self) -> Result<u64, Error> {
        self.read(async {
            let sql = self.pool.one(sqlx::query(outbox::BACKLOG)).await?;
            rows::count(&sql, 0)
        })
        .await
    }

    async fn suspect_lanes(&self) -> Result<Vec<Lane>, Error> {
        self.read(async {
            let lanes = sqlx::query(outbox::SUSPECT_LANES).bind(outbox::looked_at());
            let found = self.pool.all(lanes).await?;
            let mut names = crate::store::names::Names::default();
            found.iter().map(|sql| outbox::lane_of(sql, &mut names)).collect()
        })
        .await
    }

    async fn suspects(&self, lane: &Lane, limit: usize) -> Result<Vec<Suspect>, Error> {
        let (queue, band) = outbox::lane_values(lane);
        self.read(async {
            let suspects = sqlx::query(outbox::SUSPECTS)
                .bind(outbox::looked_at())
                .bind(queue)
                .bind(band)
                .bind(rows::limit(limit));
            self.pool.all(suspects).await?.iter().map(outbox::suspect).collect()
        })
        .await
    }

    async fn repair(&self, suspects: Vec<Suspect>, fence: &Epoch) -> Result<usize, Error> {
        self.work(&self.workers, Repair { suspects, fence: fence.clone() }).await?
    }
}

#[async_trait]
impl Epochs for Store {
    async fn next_epoch(&self, name: &str, holder: &str) -> Result<Epoch, Error> {
        let next = NextEpoch { name: name.into(), holder: holder.to_owned() };
        self.work(&self.workers, next).await
    }
}
