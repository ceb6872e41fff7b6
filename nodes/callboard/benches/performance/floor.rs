//! The floor: what durability alone costs, with none of what the product is for.
//!
//! The same calls over gRPC are gathered, admitted in one statement (row, event, outbox), published with confirms,
//! consumed, claimed in one statement (row, event, the outbox row goes) and acknowledged, and ended in one statement
//! (row with result, event), on the same servers and with the same bytes. There is no validation, no lease, no
//! fence, no fairness, no retry, and nothing survives an error.

use crate::Result;
use crate::node::Place;
use callboard_client::v1;
use callboard_client::v1::task_service_server::{TaskService, TaskServiceServer};
use futures::StreamExt as _;
use futures::stream::{BoxStream, FuturesUnordered};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// The most tasks of one statement.
const GROUP: usize = 500;
/// How many statements of each sort are under way at once.
const LINES: usize = 2;
/// How many messages are sent ahead of their acknowledgement.
const PREFETCH: u16 = 16;

const TABLES: &str = "
    CREATE TABLE tasks (id uuid PRIMARY KEY, state smallint NOT NULL, attempt int NOT NULL, input bytea NOT NULL,
                        result bytea);
    CREATE TABLE events (task_id uuid, seq int, kind smallint NOT NULL, at timestamptz NOT NULL DEFAULT now(),
                         PRIMARY KEY (task_id, seq));
    CREATE TABLE outbox (task_id uuid PRIMARY KEY, handoff bigint NOT NULL);";
const ADMIT: &str = "
    WITH new AS (SELECT * FROM unnest($1::uuid[], $2::bytea[]) AS n (id, input)),
    row AS (INSERT INTO tasks (id, state, attempt, input) SELECT id, 2, 0, input FROM new),
    event AS (INSERT INTO events (task_id, seq, kind) SELECT id, 1, 1 FROM new)
    INSERT INTO outbox (task_id, handoff) SELECT id, 1 FROM new";
const CLAIM: &str = "
    WITH claimed AS (UPDATE tasks t SET state = 3, attempt = t.attempt + 1 FROM unnest($1::uuid[]) AS n (id)
                     WHERE t.id = n.id AND t.state = 2 RETURNING t.id, t.input),
    event AS (INSERT INTO events (task_id, seq, kind) SELECT id, 2, 3 FROM claimed),
    gone AS (DELETE FROM outbox o USING claimed c WHERE o.task_id = c.id)
    SELECT id, input FROM claimed";
const FINISH: &str = "
    WITH ended AS (UPDATE tasks t SET state = 4, result = n.result FROM unnest($1::uuid[], $2::bytea[]) AS n (id, result)
                   WHERE t.id = n.id AND t.state = 3 RETURNING t.id)
    INSERT INTO events (task_id, seq, kind) SELECT id, 3, 10 FROM ended";

struct Job {
    id: Uuid,
    input: Vec<u8>,
    admitted: oneshot::Sender<()>,
}

/// How many tasks have ended.
#[derive(Default)]
struct Ended {
    count: AtomicUsize,
    more: Notify,
}

/// A floor that serves.
pub(crate) struct Floor {
    address: String,
    ended: Arc<Ended>,
    // Everything it started ends with it.
    work: tokio::task::JoinSet<Result<()>>,
}

impl Floor {
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        let options: PgConnectOptions = place.postgres.parse()?;
        let pool = PgPoolOptions::new().max_connections(3 * LINES as u32 + 1).connect_with(options).await?;
        sqlx::raw_sql(TABLES).execute(&pool).await?;
        let connect = async || Connection::connect(&place.rabbitmq, ConnectionProperties::default()).await;
        let (publishes, consumes) = (connect().await?, connect().await?);
        let queue: Arc<str> = format!("{}.floor", place.prefix).into();
        // Once, before it is used: a quorum queue that two declare at the same time may break a connection.
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let channel = publishes.create_channel().await?;
        channel.queue_declare((&*queue).into(), QueueDeclareOptions::durable(), quorum).await?;
        let mut work = tokio::task::JoinSet::new();
        let ended = Arc::new(Ended::default());
        let (jobs, to_admit) = mpsc::channel(10_000);
        let (admitted, to_publish) = mpsc::channel(1_000);
        let (claimed, to_finish) = mpsc::channel(1_000);
        let (to_admit, to_finish) = (Arc::new(Mutex::new(to_admit)), Arc::new(Mutex::new(to_finish)));
        for _ in 0..LINES {
            work.spawn(admit(pool.clone(), Arc::clone(&to_admit), admitted.clone()));
            work.spawn(finish(pool.clone(), Arc::clone(&to_finish), Arc::clone(&ended)));
        }
        work.spawn(publish(publishes, Arc::clone(&queue), to_publish));
        work.spawn(consume(consumes, queue, pool, claimed));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        work.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            let service = TaskServiceServer::new(Submits { jobs });
            Ok(Server::builder().add_service(service).serve_with_incoming(incoming).await?)
        });
        Ok(Self { address, ended, work })
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true))
    }

    /// Waits until so many tasks have ended.
    ///
    /// # Errors
    /// A part of the floor broke.
    pub(crate) async fn ended(&mut self, count: usize) -> Result<()> {
        loop {
            let more = self.ended.more.notified();
            if self.ended.count.load(Ordering::SeqCst) >= count {
                return Ok(());
            }
            tokio::select! {
                () = more => {}
                broken = self.work.join_next() => {
                    return Err(format!("a part of the floor ended: {broken:?}").into());
                }
            }
        }
    }
}

/// As many as wait, at most a group. One reader at a time.
async fn group<T>(from: &Mutex<mpsc::Receiver<T>>) -> Vec<T> {
    let mut group = Vec::new();
    from.lock().await.recv_many(&mut group, GROUP).await;
    group
}

async fn admit(
    pool: PgPool,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    admitted: mpsc::Sender<Vec<Uuid>>,
) -> Result<()> {
    loop {
        let group = group(&jobs).await;
        let ids: Vec<Uuid> = group.iter().map(|job| job.id).collect();
        let inputs: Vec<&[u8]> = group.iter().map(|job| &*job.input).collect();
        sqlx::query(ADMIT).bind(&ids).bind(&inputs).execute(&pool).await?;
        drop(inputs);
        admitted.send(ids).await?;
        for job in group {
            // Its caller waits.
            _ = job.admitted.send(());
        }
    }
}

async fn publish(
    connection: Connection,
    queue: Arc<str>,
    mut admitted: mpsc::Receiver<Vec<Uuid>>,
) -> Result<()> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(ids) = admitted.recv() => {
                let (channel, queue) = (channel.clone(), Arc::clone(&queue));
                open.push(async move {
                    let body: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
                    let (options, properties) =
                        (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
                    channel.basic_publish("".into(), (&*queue).into(), options, &body, properties).await?.await
                });
            }
            Some(confirmed) = open.next(), if !open.is_empty() => drop(confirmed?),
        }
    }
}

async fn consume(
    connection: Connection,
    queue: Arc<str>,
    pool: PgPool,
    claimed: mpsc::Sender<Claimed>,
) -> Result<()> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume((&*queue).into(), "".into(), options, FieldTable::default()).await?;
    let mut ready = consumer.ready_chunks(usize::from(PREFETCH));
    while let Some(deliveries) = ready.next().await {
        let deliveries = deliveries.into_iter().collect::<lapin::Result<Vec<_>>>()?;
        let ids: Vec<Uuid> = deliveries
            .iter()
            .flat_map(|delivery| delivery.data.chunks_exact(16))
            .map(Uuid::from_slice)
            .collect::<std::result::Result<_, _>>()?;
        let tasks: Vec<Claimed> = sqlx::query_as(CLAIM).bind(&ids).fetch_all(&pool).await?;
        for delivery in deliveries {
            delivery.ack(BasicAckOptions::default()).await?;
        }
        for task in tasks {
            claimed.send(task).await?;
        }
    }
    Err("the consumer ended".into())
}

async fn finish(pool: PgPool, claimed: Arc<Mutex<mpsc::Receiver<Claimed>>>, ended: Arc<Ended>) -> Result<()> {
    loop {
        let (ids, results): (Vec<Uuid>, Vec<Vec<u8>>) = group(&claimed).await.into_iter().unzip();
        sqlx::query(FINISH).bind(&ids).bind(&results).execute(&pool).await?;
        ended.count.fetch_add(ids.len(), Ordering::SeqCst);
        ended.more.notify_waiters();
    }
}

struct Submits {
    jobs: mpsc::Sender<Job>,
}

impl Submits {
    async fn admit(&self, request: v1::SubmitTaskRequest) -> std::result::Result<v1::Task, Status> {
        let (admitted, told) = oneshot::channel();
        let id = Uuid::now_v7();
        let job = Job { id, input: request.input.to_vec(), admitted };
        let gone = |_| Status::unavailable("the floor broke");
        self.jobs.send(job).await.map_err(|_| gone(()))?;
        told.await.map_err(|_| gone(()))?;
        Ok(v1::Task { id: id.to_string(), state: v1::TaskState::Queued.into(), ..Default::default() })
    }
}

fn not_here<T>() -> std::result::Result<Response<T>, Status> {
    Err(Status::unimplemented("the floor takes tasks and nothing else"))
}

/// A task that was claimed, and its input.
type Claimed = (Uuid, Vec<u8>);

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl TaskService for Submits {
    async fn submit_task(&self, request: Request<v1::SubmitTaskRequest>) -> Answer<v1::SubmitTaskResponse> {
        let task = self.admit(request.into_inner()).await?;
        Ok(Response::new(v1::SubmitTaskResponse { task: Some(task), existed: false }))
    }

    async fn batch_submit_tasks(
        &self,
        request: Request<v1::BatchSubmitTasksRequest>,
    ) -> Answer<v1::BatchSubmitTasksResponse> {
        use v1::batch_submit_tasks_outcome::Outcome;
        let requests = request.into_inner().requests.into_iter();
        let tasks = futures::future::try_join_all(requests.map(|request| self.admit(request))).await?;
        let outcome =
            |task| v1::BatchSubmitTasksOutcome { outcome: Some(Outcome::Task(task)), existed: false };
        Ok(Response::new(v1::BatchSubmitTasksResponse { outcomes: tasks.into_iter().map(outcome).collect() }))
    }

    async fn get_task(&self, _: Request<v1::GetTaskRequest>) -> Answer<v1::GetTaskResponse> {
        not_here()
    }

    async fn list_tasks(&self, _: Request<v1::ListTasksRequest>) -> Answer<v1::ListTasksResponse> {
        not_here()
    }

    type WatchTaskStream = BoxStream<'static, std::result::Result<v1::WatchTaskResponse, Status>>;

    async fn watch_task(&self, _: Request<v1::WatchTaskRequest>) -> Answer<Self::WatchTaskStream> {
        not_here()
    }

    async fn cancel_task(&self, _: Request<v1::CancelTaskRequest>) -> Answer<v1::CancelTaskResponse> {
        not_here()
    }

    async fn retry_task(&self, _: Request<v1::RetryTaskRequest>) -> Answer<v1::RetryTaskResponse> {
        not_here()
    }

    async fn list_task_events(
        &self,
        _: Request<v1::ListTaskEventsRequest>,
    ) -> Answer<v1::ListTaskEventsResponse> {
        not_here()
    }
}
