use crate::book::Book;
use crate::id;
use callboard_contracts::mesh::v1;
use callboard_contracts::mesh::v1::alert_service_server::AlertService;
use callboard_domain::alert::{Alert as Raised, Observation, Standing};
use callboard_domain::convert::observation_from_proto;
use callboard_domain::{Code, Error};
use callboard_ports::{Clock, Store, store};
use callboard_runtime::actor::{Address, Behaviour, Handle, Handling, Request, Scope};
use futures::FutureExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Response, Status};

const DEADLINE: Duration = Duration::from_secs(10);
/// How often alerts that went quiet are looked for.
pub const EXPIRE_EVERY: Duration = Duration::from_secs(30);
/// The newest alerts that are looked at for an id that is taken: those of one second, and many more.
const NEWEST: usize = 1_000;
/// The most observations of one report.
const BATCH: usize = 1_000;

/// What the actor stands on.
#[derive(Clone)]
pub struct Deps {
    /// Where alerts are kept.
    pub store: Arc<dyn Store>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids, sortable by time.
    pub new_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether other nodes write alerts too. Then nothing is remembered from one report to the next, ids are
    /// such that two nodes choose the same, and whoever runs the node calls [`expire`] on one node at a time.
    pub shared: bool,
}

/// The Alert actor's state.
pub struct Alert {
    deps: Deps,
    /// `None` until it was read from the store, and always if others write alerts too. Held across the write, so that the book and the store
    /// move together; nothing waits for it but reports.
    book: Arc<Mutex<Option<Book>>>,
    life: CancellationToken,
    _ends: DropGuard,
}

impl Alert {
    /// An actor with an empty memory.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let life = CancellationToken::new();
        Self { deps, book: Arc::default(), _ends: life.clone().drop_guard(), life }
    }
}

impl Behaviour for Alert {
    const NAME: &'static str = "alert";

    fn started(&mut self, scope: &Scope) {
        if self.deps.shared {
            return;
        }
        let (deps, book, life) = (self.deps.clone(), Arc::clone(&self.book), self.life.clone());
        scope.spawn(async move {
            let work = async {
                loop {
                    tokio::time::sleep(EXPIRE_EVERY).await;
                    if let Err(error) = change(&deps, &book, Change::Expire).await {
                        tracing::warn!(%error, "cannot resolve alerts");
                    }
                }
            };
            life.run_until_cancelled(work).await;
        });
    }
}

/// What happens to the book.
enum Change {
    /// Something was seen.
    Observe(Vec<Observation>),
    /// Time has passed.
    Expire,
}

/// Changes the book and writes down what changed. If the write fails the book is read anew next time.
async fn change(deps: &Deps, book: &Mutex<Option<Book>>, change: Change) -> Result<(), store::Error> {
    let mut slot = book.lock().await;
    let (mut book, mut changed) = match slot.take() {
        Some(book) => (book, Vec::new()),
        None if deps.shared => Book::merged(deps.store.open_alerts().await?, deps.clock.now()),
        None => (Book::new(deps.store.open_alerts().await?), Vec::new()),
    };
    let made = match change {
        Change::Expire => book.expire(deps.clock.now()),
        Change::Observe(seen) if deps.shared => {
            let mut taken = if book.raises(&seen) { taken(deps).await? } else { HashSet::new() };
            book.observe(&seen, |seen| name(seen, &mut taken))
        }
        Change::Observe(seen) => book.observe(&seen, |_| (deps.new_id)()),
    };
    // The newer state of an alert is the one that is written.
    changed.retain(|alert: &Raised| made.iter().all(|newer| newer.id != alert.id));
    changed.extend(made);
    if !changed.is_empty() {
        for alert in &changed {
            let (rule, subject, standing) = (&alert.rule, &alert.subject, alert.standing);
            tracing::warn!(rule, subject, ?standing, message = alert.message, "alert");
        }
        deps.store.save_alerts(changed).await?;
    }
    *slot = Some(book).filter(|_| !deps.shared);
    Ok(())
}

/// The ids of the newest alerts that are resolved, and final.
async fn taken(deps: &Deps) -> Result<HashSet<String>, store::Error> {
    let newest = deps.store.list_alerts(false, None, NEWEST).await?;
    let resolved = newest.into_iter().filter(|alert| alert.standing == Standing::Resolved);
    Ok(resolved.map(|alert| alert.id).collect())
}

/// The first id for what was seen that no other alert has.
fn name(seen: &Observation, taken: &mut HashSet<String>) -> String {
    let mut ids = (0..=u8::MAX).map(|nth| id::shared(seen, nth));
    // The last one is as good as any after 256 alerts for one thing in a second.
    let id = ids.find(|id| !taken.contains(id)).unwrap_or_else(|| id::shared(seen, u8::MAX));
    taken.insert(id.clone());
    id
}

struct Expire;

impl Request for Expire {
    type Reply = Result<(), store::Error>;
}

impl Handle<Expire> for Alert {
    fn handle(&mut self, Expire: Expire) -> Handling<Result<(), store::Error>> {
        let (deps, book) = (self.deps.clone(), Arc::clone(&self.book));
        Handling::Later(async move { change(&deps, &book, Change::Expire).await }.boxed())
    }
}

/// Resolves alerts that went quiet, and merges those that two nodes raised for the same thing. For a cluster: to
/// be called every [`EXPIRE_EVERY`] on one node at a time; on several at once it does no harm.
///
/// # Errors
/// The store's; [`store::Error::Unavailable`] also if the actor does not answer.
pub async fn expire(actor: &Address<Alert>) -> Result<(), store::Error> {
    let answer = actor.call(Expire, DEADLINE).await;
    answer.unwrap_or_else(|error| Err(store::Error::Unavailable(error.to_string())))
}

struct Report(Vec<Observation>);

impl Request for Report {
    type Reply = Result<(), store::Error>;
}

impl Handle<Report> for Alert {
    fn handle(&mut self, Report(seen): Report) -> Handling<Result<(), store::Error>> {
        let (deps, book) = (self.deps.clone(), Arc::clone(&self.book));
        Handling::Later(async move { change(&deps, &book, Change::Observe(seen)).await }.boxed())
    }
}

/// The Alert actor as a service of the mesh.
pub struct Service {
    actor: Address<Alert>,
}

impl Service {
    /// A service in front of an actor.
    #[must_use]
    pub fn new(actor: Address<Alert>) -> Self {
        Self { actor }
    }
}

#[tonic::async_trait]
impl AlertService for Service {
    async fn report(
        &self,
        request: tonic::Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let observations = request.into_inner().observations;
        if observations.len() > BATCH {
            let message = format!("must be at most {BATCH}");
            return Err(Error::field(Code::InvalidArgument, "observations", message).into());
        }
        let seen = observations.into_iter().map(observation_from_proto).collect();
        self.actor
            .call(Report(seen), DEADLINE)
            .await?
            .map_err(|error| Status::from(Error::new(Code::StoreUnavailable, error.to_string())))?;
        Ok(Response::new(v1::ReportResponse {}))
    }
}
