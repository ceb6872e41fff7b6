use crate::book::Book;
use callboard_contracts::mesh::v1;
use callboard_contracts::mesh::v1::alert_service_server::AlertService;
use callboard_domain::alert::Observation;
use callboard_domain::convert::observation_from_proto;
use callboard_domain::{Code, Error};
use callboard_ports::{Clock, Store, store};
use callboard_runtime::actor::{Address, Behaviour, Handle, Handling, Request, Scope};
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Response, Status};

const DEADLINE: Duration = Duration::from_secs(10);
/// How often alerts that went quiet are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);
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
}

/// The Alert actor's state.
pub struct Alert {
    deps: Deps,
    /// `None` until it was read from the store. Held across the write, so that the book and the store
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
        let (deps, book, life) = (self.deps.clone(), Arc::clone(&self.book), self.life.clone());
        scope.spawn(async move {
            let work = async {
                loop {
                    tokio::time::sleep(EXPIRE_EVERY).await;
                    if let Err(error) = change(&deps, &book, |book| book.expire(deps.clock.now())).await {
                        tracing::warn!(%error, "cannot resolve alerts");
                    }
                }
            };
            life.run_until_cancelled(work).await;
        });
    }
}

/// Changes the book and writes down what changed. If the write fails the book is read anew next time.
async fn change(
    deps: &Deps,
    book: &Mutex<Option<Book>>,
    change: impl FnOnce(&mut Book) -> Vec<callboard_domain::alert::Alert>,
) -> Result<(), store::Error> {
    let mut slot = book.lock().await;
    let mut book = match slot.take() {
        Some(book) => book,
        None => Book::new(deps.store.open_alerts().await?),
    };
    let changed = change(&mut book);
    if !changed.is_empty() {
        for alert in &changed {
            let (rule, subject, standing) = (&alert.rule, &alert.subject, alert.standing);
            tracing::warn!(rule, subject, ?standing, message = alert.message, "alert");
        }
        deps.store.save_alerts(changed).await?;
    }
    *slot = Some(book);
    Ok(())
}

struct Report(Vec<Observation>);

impl Request for Report {
    type Reply = Result<(), store::Error>;
}

impl Handle<Report> for Alert {
    fn handle(&mut self, Report(seen): Report) -> Handling<Result<(), store::Error>> {
        let (deps, book) = (self.deps.clone(), Arc::clone(&self.book));
        Handling::Later(
            async move { change(&deps, &book, |book| book.observe(&seen, || (deps.new_id)())).await }.boxed(),
        )
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
