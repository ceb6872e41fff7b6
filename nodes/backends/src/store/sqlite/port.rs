//! The port's traits on [`Store`]: each call is a piece of work for the writer or a reader.

use super::inbox::Job;
use super::{Store, Weight, admit, attempts, claim, read, registry, sessions, waiting};
use async_trait::async_trait;
use callboard_domain::alert::Alert;
use callboard_domain::{Attempt, Event, KindSpec, NewTask, SessionId, Task, TaskId};
use callboard_ports::alerts::AlertStore;
use callboard_ports::handoff::Ready;
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session, SessionStore};
use callboard_ports::store::{
    self, Admitted, Cancelled, Claim, ClaimRequest, CommitObserver, Error, Fenced, Filter, Finish, FullTask,
    ProgressReport, QueueDepth, Released, Started, TaskReader, TaskStore,
};
use callboard_ports::taker::Taker;
use std::sync::{Arc, PoisonError};

/// What a row weighs beside the payload: columns, event, index entries.
const ROW_BYTES: usize = 512;

#[async_trait]
impl TaskStore for Store {
    async fn admit(&self, batch: Vec<NewTask>) -> Vec<Result<Admitted, Error>> {
        let count = batch.len();
        let bytes = batch.iter().map(|new| new.input.len() + ROW_BYTES).sum();
        let (work, answer) = admit::Admission::new(batch, self.taker.get().cloned());
        let job = Job { work: Box::new(work), rows: count, bytes, admits: true };
        match self.shared.inbox.push(job) {
            Ok(()) => answer.await.unwrap_or_else(|_| vec![Err(super::stopped()); count]),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, Error> {
        let weight = Weight::rows(request.take.len() + request.give_back.len());
        self.write(weight, move |tx| claim::claim(tx, &request)).await
    }

    async fn start(&self, session: SessionId, batch: Vec<Started>) -> Result<Vec<Fenced>, Error> {
        let weight = Weight::rows(batch.len());
        self.write(weight, move |tx| attempts::start(tx, session, &batch).map(Ok)).await
    }

    async fn progress(&self, session: SessionId, batch: Vec<ProgressReport>) -> Result<Vec<Fenced>, Error> {
        let bytes = batch.iter().map(|report| report.progress.message.len()).sum();
        let weight = Weight { bytes, ..Weight::rows(batch.len()) };
        self.write(weight, move |tx| attempts::progress(tx, session, &batch).map(Ok)).await
    }

    async fn finish(&self, session: SessionId, batch: Vec<Finish>) -> Result<Vec<Fenced>, Error> {
        let bytes = batch.iter().map(|end| end.result.as_ref().map_or(0, bytes::Bytes::len)).sum();
        let weight = Weight { bytes, ..Weight::rows(batch.len()) };
        self.write(weight, move |tx| attempts::finish(tx, session, &batch).map(Ok)).await
    }

    async fn give_back(&self, session: SessionId, batch: Vec<Attempt>) -> Result<Vec<Fenced>, Error> {
        let weight = Weight::rows(batch.len());
        self.write(weight, move |tx| attempts::give_back(tx, session, &batch).map(Ok)).await
    }

    async fn cancel(&self, id: TaskId) -> Result<Cancelled, Error> {
        self.write(Weight::rows(1), move |tx| waiting::cancel(tx, id)).await
    }

    async fn release_due(&self, limit: usize) -> Result<Released, Error> {
        self.write(Weight::rows(1), move |tx| waiting::release_due(tx, limit).map(Ok)).await
    }

    async fn register_kinds(&self, kinds: Vec<KindSpec>) -> Result<(), Error> {
        self.write(Weight::rows(kinds.len()), move |tx| registry::save_kinds(tx, &kinds).map(Ok)).await
    }
}

#[async_trait]
impl TaskReader for Store {
    async fn get(&self, ids: Vec<TaskId>) -> Result<Vec<Task>, Error> {
        self.readers.read(move |reader| read::get(reader, &ids)).await
    }

    async fn get_full(&self, id: TaskId) -> Result<FullTask, Error> {
        self.readers.read(move |reader| read::get_full(reader, id)).await?
    }

    async fn find(&self, suffix: &str) -> Result<TaskId, Error> {
        let suffix = suffix.to_owned();
        self.readers.read(move |reader| read::find(reader, &suffix)).await?
    }

    async fn list(&self, filter: Filter, before: Option<TaskId>, limit: usize) -> Result<Vec<Task>, Error> {
        self.readers.read(move |reader| read::list(reader, &filter, before, limit)).await
    }

    async fn events(&self, id: TaskId, after_seq: u64, limit: usize) -> Result<Vec<Event>, Error> {
        self.readers.read(move |reader| read::log(reader, id, after_seq, limit)).await
    }

    async fn counts(&self) -> Result<[u64; 6], Error> {
        self.readers.read(read::counts).await
    }

    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, Error> {
        self.readers.read(|reader| read::queue_depths(reader, usize::MAX, u64::MAX)).await
    }

    async fn queue_depths_within(&self, queues: usize, most: u64) -> Result<Vec<QueueDepth>, Error> {
        self.readers.read(move |reader| read::queue_depths(reader, queues, most)).await
    }

    async fn queued(&self, queues: &[Arc<str>], limit: usize) -> Result<Vec<Ready>, Error> {
        let queues = queues.to_vec();
        self.readers.read(move |reader| read::queued(reader, queues, limit)).await
    }

    async fn held_by(&self, session: SessionId) -> Result<Vec<Attempt>, Error> {
        self.readers.read(move |reader| read::held_by(reader, session)).await
    }

    async fn kinds(&self) -> Result<Vec<KindSpec>, Error> {
        self.readers.read(registry::kinds).await
    }
}

#[async_trait]
impl SessionStore for Store {
    async fn open_session(&self, session: NewSession) -> Result<(), Error> {
        self.write(Weight::rows(1), move |tx| sessions::open(tx, &session)).await
    }

    async fn renew_session(&self, id: SessionId) -> Result<Vec<TaskId>, Error> {
        let live = self.readers.read(move |reader| sessions::to_cancel(reader, id)).await?;
        let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        match live {
            Some(to_cancel) => {
                *renewals.entry(id).or_default() += 1;
                Ok(to_cancel)
            }
            None => {
                renewals.remove(&id);
                Err(Error::SessionEnded)
            }
        }
    }

    async fn end_session(&self, id: SessionId, reason: &str) -> Result<EndedSession, Error> {
        let reason = reason.to_owned();
        let ended = self.write(Weight::rows(1), move |tx| sessions::end(tx, id, &reason).map(Ok)).await?;
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(ended)
    }

    async fn accuse(&self, accusation: Accusation) -> Result<Option<EndedSession>, Error> {
        let Accusation { accuser, accused, counter, reason } = accusation;
        let renewed = self.renewals.lock().unwrap_or_else(PoisonError::into_inner).get(&accused).copied();
        if counter.is_some_and(|seen| seen != renewed.unwrap_or_default()) {
            return Ok(None);
        }
        self.write(Weight::rows(1), move |tx| sessions::accuse(tx, accuser, accused, &reason)).await
    }

    async fn recover_orphans(&self, limit: usize) -> Result<usize, Error> {
        self.write(Weight::rows(1), move |tx| sessions::recover_orphans(tx, limit).map(Ok)).await
    }

    async fn live_sessions(&self) -> Result<Vec<Session>, Error> {
        let mut live = self.readers.read(sessions::live).await?;
        let renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        for session in &mut live {
            session.counter = renewals.get(&session.opened.id).copied().unwrap_or_default();
        }
        Ok(live)
    }
}

#[async_trait]
impl AlertStore for Store {
    async fn save_alerts(&self, alerts: Vec<Alert>) -> Result<(), Error> {
        self.write(Weight::rows(alerts.len()), move |tx| registry::save_alerts(tx, &alerts).map(Ok)).await
    }

    async fn open_alerts(&self) -> Result<Vec<Alert>, Error> {
        self.readers.read(|reader| registry::alerts(reader, true, None, usize::MAX)).await
    }

    async fn list_alerts(
        &self,
        open_only: bool,
        before: Option<String>,
        limit: usize,
    ) -> Result<Vec<Alert>, Error> {
        self.readers.read(move |reader| registry::alerts(reader, open_only, before.as_deref(), limit)).await
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
