//! One channel with confirms, and the task that owns it.
//!
//! lapin gives a returned message to whichever confirm comes next, not to its own. So every confirm that is
//! ready is looked at before any is believed, and a returned message is known by its id.

use super::link::Link;
use super::trace;
use callboard_ports::planted::Bug;
use callboard_ports::trace::{Span, Tracer};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Confirmed,
    /// Its queue is at its bound.
    Full,
    /// There is no such queue.
    Returned,
    /// The channel or its connection broke: it may be in the queue or not.
    Failed,
}

/// Where a message goes.
pub(super) enum Target {
    /// Into this queue. It is returned if there is none.
    Queue(String),
    /// To all who listen for notices.
    Notice,
}

/// A message to publish. It takes its place in the window until the broker has answered, however late.
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) body: Vec<u8>,
    pub(super) outcome: oneshot::Sender<Outcome>,
    pub(super) place: OwnedSemaphorePermit,
}

/// A message without an answer.
struct Waiting {
    outcome: oneshot::Sender<Outcome>,
    _place: OwnedSemaphorePermit,
    span: Span,
}

impl Waiting {
    fn end(mut self, outcome: Outcome) {
        match outcome {
            Outcome::Confirmed => {}
            Outcome::Full => self.span.fail(|| "the queue is full".into()),
            Outcome::Returned => self.span.fail(|| "the queue is gone".into()),
            Outcome::Failed => self.span.fail(|| "the connection broke".into()),
        }
        // Who waited may have gone: its row is published again.
        let _ = self.outcome.send(outcome);
    }
}

type Answer = (u64, lapin::Result<Confirmation>);

struct Publisher {
    link: Arc<Link>,
    notices: String,
    tracer: Tracer,
    channel: Option<Channel>,
    next: u64,
    open: FuturesUnordered<BoxFuture<'static, Answer>>,
    waiting: HashMap<u64, Waiting>,
    returned: HashSet<u64>,
}

/// Publishes until nobody can send a job any more.
pub(super) async fn run(link: Arc<Link>, notices: String, tracer: Tracer, mut jobs: mpsc::Receiver<Job>) {
    let mut this = Publisher {
        link,
        notices,
        tracer,
        channel: None,
        next: 0,
        open: FuturesUnordered::new(),
        waiting: HashMap::new(),
        returned: HashSet::new(),
    };
    let mut batch = Vec::new();
    let mut silent = this.link.silent();
    loop {
        tokio::select! {
            biased;
            // Its sender is the link, which lives as long as this.
            Ok(()) = silent.changed() => this.abandon(),
            count = jobs.recv_many(&mut batch, 64) => {
                if count == 0 {
                    return;
                }
                for job in batch.drain(..) {
                    this.start(job).await;
                }
            }
            Some(first) = this.open.next(), if !this.open.is_empty() => this.settle(first),
        }
    }
}

impl Publisher {
    async fn start(&mut self, job: Job) {
        let Some(channel) = self.channel().await else {
            // Who waits for the outcome may have gone.
            let _ = job.outcome.send(Outcome::Failed);
            return;
        };
        let seq = self.next;
        self.next += 1;
        let span = trace::begin(&self.tracer, &job);
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let properties = trace::with(persistent.with_message_id(seq.to_string().into()), span.context());
        let (exchange, key, mandatory) = match job.target {
            Target::Queue(name) => (String::new(), name, true),
            Target::Notice => (self.notices.clone(), String::new(), false),
        };
        let options = BasicPublishOptions { mandatory, immediate: false };
        let body = job.body;
        self.waiting.insert(seq, Waiting { outcome: job.outcome, _place: job.place, span });
        // Polled first in the order they are pushed: that is the order on the wire.
        self.open.push(Box::pin(async move {
            let sent = channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await;
            let answer = match sent {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            (seq, answer)
        }));
    }

    async fn channel(&mut self) -> Option<Channel> {
        if let Some(channel) = self.channel.as_ref().filter(|c| c.status().connected()) {
            return Some(channel.clone());
        }
        self.channel = None;
        let channel = self.link.channel().await.ok()?;
        // To publish to an exchange that is not there closes the channel.
        super::notices::declare(&channel, &self.notices).await.ok()?;
        super::link::soon("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default()))
            .await
            .ok()?;
        self.channel = Some(channel.clone());
        Some(channel)
    }

    /// The connection was given up: no answer will come.
    fn abandon(&mut self) {
        self.channel = None;
        self.open.clear();
        self.returned.clear();
        self.waiting.drain().for_each(|(_, waiting)| waiting.end(Outcome::Failed));
    }

    /// Tells the outcomes of all that are answered by now.
    fn settle(&mut self, first: Answer) {
        use futures::FutureExt as _;
        let mut answers = vec![first];
        while let Some(Some(more)) = self.open.next().now_or_never() {
            answers.push(more);
        }
        let mut told = Vec::with_capacity(answers.len());
        for (seq, answer) in answers {
            let outcome = match &answer {
                Ok(Confirmation::Ack(_)) => Outcome::Confirmed,
                Ok(Confirmation::Nack(_)) => Outcome::Full,
                Ok(Confirmation::NotRequested) | Err(_) => Outcome::Failed,
            };
            let message = answer.ok().and_then(Confirmation::take_message);
            let id = message.and_then(|m| m.properties.message_id().as_ref()?.as_str().parse().ok());
            self.returned.extend::<Option<u64>>(id);
            told.push((seq, outcome));
        }
        for (seq, outcome) in told {
            let returned = self.returned.remove(&seq) && !Bug::ReturnedTakenAsConfirmed.is_planted();
            if let Some(waiting) = self.waiting.remove(&seq) {
                waiting.end(if returned { Outcome::Returned } else { outcome });
            }
        }
        if self.waiting.is_empty() {
            self.returned.clear();
        }
    }
}
