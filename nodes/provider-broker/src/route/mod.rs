//! Which provider a call goes to, for how long, and what happens when it fails.
//!
//! Candidates are tried in the order that a policy puts them into (see [`policy`]), each within the attempt's timeout and all within the
//! call's. One whose breaker is open is left out, and one for which a limit leaves no room: no call touches it. The next is tried if the failure allows
//! it. Of one that has several keys, a key that fails for its own sake (rejected, spent, limited) is followed by the next
//! key before the next provider is tried. Only the last one that is left is tried again, for what may pass, and within its budget of retries:
//! anybody else is more likely to answer, and asking a provider again that has too much to do makes it worse.

mod attempt;
mod calls;
mod course;
mod embed;
mod failures;
mod live;
mod outage;
mod policy;
mod retry;
mod routes;
mod spans;
mod stream;
mod switches;
mod test;
mod turn;
mod waits;
mod weights;
mod won;

pub(crate) use live::Live;
pub(crate) use policy::arm_score;
pub(crate) use retry::Counts as RetryCounts;
pub use routes::{RouteStatus, TargetStatus};
pub use stream::{Piece, PieceStream};
pub use switches::{SwitchState, Switched};
pub use weights::WeightStatus;

use crate::accounts::Accounts;
use crate::admission::{self, Admission};
use crate::breaker::Board;
use crate::broker::{Deps, Jitter};
use crate::config::{Adapter, Config};
use crate::cost;
use crate::health::{Health, KeyStatus, ProviderCounts, ProviderStatus};
use crate::keys::{Key, Ring};
use crate::provider::{Description, Provider};
use crate::shared::Records;
use callboard_domain::llm::{
    Error, ErrorKind, ImageRequest, ImageResponse, TextRequest, TextResponse, ToolChoice, Trial, Usage,
};
use callboard_domain::provider_record::{Subject, Topic};
use callboard_ports::Clock;
use callboard_ports::trace::{Kind, Span, Tracer};
use callboard_runtime::mesh;
use calls::CallIds;
use futures::FutureExt as _;
use retry::Retries;
use routes::Routes;
use spans::Operation;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switches::{Switches, View};

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    attempt: Duration,
    total: Duration,
}

/// The spans of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    text: Limits,
    image: Limits,
    stall: Duration,
}

impl From<&Config> for Timeouts {
    fn from(config: &Config) -> Self {
        Self {
            text: Limits { attempt: config.attempt_timeout, total: config.total_timeout },
            image: Limits { attempt: config.image_attempt_timeout, total: config.image_total_timeout },
            stall: config.stall_timeout,
        }
    }
}

pub(crate) struct Router {
    providers: Vec<Arc<dyn Provider>>,
    /// The same with their keys.
    rings: Vec<Arc<Ring>>,
    health: Health,
    breakers: Arc<Board>,
    switches: Switches,
    /// Held while the keys' weights are set, from the look at what they are.
    weighing: Mutex<()>,
    retries: Retries,
    routes: Routes,
    admission: Admission,
    accounts: Arc<Accounts>,
    timeouts: Timeouts,
    tracer: Tracer,
    clock: Arc<dyn Clock>,
    random: Jitter,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.providers.iter().map(|p| p.name()).collect();
        f.debug_struct("Router")
            .field("providers", &names)
            .field("health", &self.health)
            .field("breakers", &self.breakers)
            .finish_non_exhaustive()
    }
}

/// A provider that may be tried.
struct Candidate {
    index: usize,
    name: String,
    model: String,
    adapter: Adapter,
    /// How many keys it has.
    keys: usize,
    /// Its share of the calls, for policies that look at it.
    weight: u32,
    /// How many tokens its model takes, if that is known.
    context: Option<u32>,
}

impl Candidate {
    /// Its name for people, with the key if it has several.
    fn with(&self, key: &Key) -> String {
        if self.keys > 1 { format!("{} with {}", self.name, key.id()) } else { self.name.clone() }
    }

    /// Whether it is no provider, but its stand-in.
    fn local(&self) -> bool {
        self.adapter == Adapter::Offline
    }
}

/// The providers that may be tried, in their order.
struct Candidates {
    list: Vec<Candidate>,
    pinned: bool,
    /// Each with the model that a route names: not that of the call, nor the provider's own.
    routed: bool,
    /// Each with its own model, as the call names none.
    any_model: bool,
    /// The route, of a call that may go to all that it leads to.
    route: Option<String>,
    /// How many get no calls, as an admin has switched them off.
    off: usize,
    /// How many tokens the call will take, as far as can be told: of an image nothing is.
    estimate: u32,
    /// The same, of the prompt and of the answer.
    expected: Usage,
    /// How many images it makes.
    images: u32,
    /// The arm of an experiment.
    trial: Option<Trial>,
}

impl Router {
    pub(crate) fn new(rings: Vec<Arc<Ring>>, config: &Config, records: &Arc<Records>, deps: &Deps) -> Self {
        Self::build(None, rings, config, records, deps)
    }

    /// One that takes the place of another, with what is known of providers that stay.
    pub(crate) fn after(
        old: &Self,
        rings: Vec<Arc<Ring>>,
        before: &Config,
        config: &Config,
        records: &Arc<Records>,
        deps: &Deps,
    ) -> Self {
        Self::build(Some((old, before)), rings, config, records, deps)
    }

    fn build(
        old: Option<(&Self, &Config)>,
        rings: Vec<Arc<Ring>>,
        config: &Config,
        records: &Arc<Records>,
        deps: &Deps,
    ) -> Self {
        let providers: Vec<_> = rings.iter().map(|ring| Arc::clone(ring.any())).collect();
        let names = rings.iter().map(|ring| {
            let keys = ring.keys().map(|key| key.id().to_owned()).filter(|id| !id.is_empty());
            (ring.any().name().to_owned(), keys.collect())
        });
        let breakers = Board::new(
            config.breaker.clone(),
            names,
            Arc::clone(records),
            old.map(|(old, _)| &*old.breakers),
            deps,
        );
        let names: Vec<_> = providers.iter().map(|provider| provider.name().to_owned()).collect();
        let health = match old {
            Some((old, _)) => {
                old.health.after(&names.iter().map(|name| old.place(name).ok()).collect::<Vec<_>>())
            }
            None => Health::new(names.len(), Arc::clone(&deps.clock), Arc::clone(&deps.observe)),
        };
        let counted = |config: &Config| {
            let Config { quotas, budgets, prices, prices_version, .. } = config;
            (quotas.clone(), budgets.clone(), prices.clone(), prices_version.clone())
        };
        let same = old.filter(|(old, before)| {
            old.providers.iter().map(|p| p.name()).eq(names.iter()) && counted(before) == counted(config)
        });
        let accounts = match same {
            Some((old, _)) => Arc::clone(&old.accounts),
            None => Arc::new(Accounts::new(names.clone(), config, deps)),
        };
        let switches = Switches::new(names, Arc::clone(records));
        let retries = Retries::new(config.retry.clone(), providers.len(), deps);
        let routes = Routes::new(config, providers.iter().map(|p| p.name().to_owned()).collect(), deps);
        let (timeouts, tracer) = (config.into(), deps.tracer.clone());
        let admission = Admission::new(config.limits.clone(), Arc::clone(&deps.buckets));
        let router = Self {
            providers,
            rings,
            health,
            breakers,
            switches,
            weighing: Mutex::default(),
            retries,
            routes,
            admission,
            accounts,
            timeouts,
            tracer,
            clock: Arc::clone(&deps.clock),
            random: Arc::clone(&deps.jitter),
        };
        router.tell_waits(records);
        router.health.set_routes(router.routes.names());
        router
    }

    /// The span of a call on its way through here.
    fn begin(&self, operation: Operation) -> Span {
        self.tracer.start(|| operation.pipeline(), Kind::Internal, mesh::current().trace())
    }

    /// The keys of a provider, by its place.
    pub(crate) fn ring(&self, provider: usize) -> Option<Arc<Ring>> {
        self.rings.get(provider).map(Arc::clone)
    }

    pub(crate) fn shared_accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.accounts)
    }

    /// Whether two routers count in the same accounts.
    pub(crate) fn shares_accounts(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.accounts, &other.accounts)
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(crate) fn limits_left(&self) -> Vec<(String, f64)> {
        self.admission.left()
    }

    pub(crate) fn counts(&self) -> Vec<ProviderCounts> {
        let counts = |(i, p): (usize, &Arc<dyn Provider>)| {
            let counts =
                self.health.counts(i, p.name(), self.breakers.standing(i), self.retries.counts(i))?;
            Some(ProviderCounts {
                telemetry_name: p.describe().adapter.telemetry_name(),
                quotas: self.accounts.quotas(i),
                costs: self.accounts.costs(i),
                ..counts
            })
        };
        self.providers.iter().enumerate().filter_map(counts).collect()
    }

    pub(crate) fn status(&self) -> Vec<ProviderStatus> {
        let view = self.switches.view();
        let status = |i: usize| {
            let ring = &self.rings[i];
            let breakers = self.breakers.status(i);
            let keys = ring.keys().filter(|key| !key.id().is_empty());
            let keys = keys.map(|key| KeyStatus::of(key, &breakers, &*self.clock)).enumerate();
            let keys = keys.map(|(at, key)| KeyStatus { weight: ring.weight(at), ..key }).collect();
            ProviderStatus {
                place: i + 1,
                switch: view.off[i].clone(),
                weights: self.weights(i),
                primary: view.primary.as_ref().filter(|(first, _)| *first == i).map(|(_, by)| by.clone()),
                in_flight: ring.in_flight(),
                quotas: self.accounts.quotas(i),
                spent_today: self.accounts.spent_today(i),
                ..self.health.status(i, &**ring.any(), breakers, keys)
            }
        };
        view.order.iter().copied().map(status).collect()
    }

    /// Does what is known of a subject, which may be news.
    pub(crate) fn adopt(&self, subject: &Subject) {
        match subject.topic {
            Topic::Breaker => self.breakers.adopt(subject),
            Topic::Switch | Topic::Primary => self.switches.refresh(),
            Topic::Weight => {
                self.switches.refresh();
                self.weigh_keys();
            }
            Topic::Cache | Topic::Experiment => {}
        }
    }

    /// Does all that is known.
    pub(crate) fn adopt_all(&self) {
        self.switches.refresh();
        self.weigh_keys();
        self.breakers.adopt_all();
    }

    /// Closes the breakers of a provider, on every node.
    pub(crate) fn close_breakers(&self, provider: usize) {
        self.breakers.close(provider);
    }

    pub(crate) async fn text(&self, request: &TextRequest) -> Result<TextResponse, Error> {
        let candidates = self.text_candidates(request)?;
        let mut won = self
            .attempt_all(Operation::Chat, candidates, self.text_limits(request), |p, asked| match asked {
                None => p.text(request),
                Some(model) => {
                    let request = routes::with_model(request, model);
                    async move { p.text(&request).await }.boxed()
                }
            })
            .await?;
        let answer = &won.value;
        let (model, finish_reason, usage) =
            (answer.model.clone(), answer.finish_reason.clone(), answer.usage);
        won.dropped = self.dropped(&won.candidate, request, &model);
        let arguments: usize = answer.tool_calls.iter().map(|call| call.arguments.len()).sum();
        let bytes = answer.text.len() + arguments;
        let usage = won.settle(&model, usage, bytes).await;
        let (mut answer, summary) = won.finish(self, model, finish_reason, usage);
        if !answer.tool_calls.is_empty() {
            CallIds::draw(&self.random).name(&mut answer.tool_calls);
        }
        Ok(TextResponse { text: answer.text, tool_calls: answer.tool_calls, summary })
    }

    pub(crate) async fn image(&self, request: &ImageRequest) -> Result<ImageResponse, Error> {
        let mut candidates = self.candidates(request.provider.as_deref(), |d| d.image_model)?;
        candidates.list.retain(|c| !c.model.is_empty());
        if candidates.list.is_empty() {
            let who = request.provider.as_deref().unwrap_or("no configured provider");
            let what = if request.provider.is_some() { "makes no images" } else { "makes images" };
            return Err(Error::new(ErrorKind::InvalidRequest, format!("{who} {what}: set its image_model")));
        }
        let limits = self.timeouts.image;
        let expected = Usage { input_tokens: cost::tokens_of(request.prompt.len()), ..Usage::default() };
        let mut candidates = Candidates { expected, images: 1, any_model: true, ..candidates };
        self.arrange(self.routes.usual(), &mut candidates, None);
        let mut won = self.attempt_all(Operation::Image, candidates, limits, |p, _| p.image(request)).await?;
        let (model, usage) = (won.value.model.clone(), won.value.usage);
        let usage = won.settle(&model, usage, 0).await;
        let (image, summary) = won.finish(self, model, "stop".into(), usage);
        Ok(ImageResponse { data: image.data, media_type: image.media_type, summary })
    }

    /// What of a call its candidate was not told. `answered` is the model, where it is not known by the candidate.
    fn dropped(&self, candidate: &Candidate, request: &TextRequest, answered: &str) -> Vec<&'static str> {
        let model = if candidate.model.is_empty() { answered } else { &candidate.model };
        self.providers.get(candidate.index).map_or_else(Vec::new, |provider| provider.dropped(request, model))
    }

    fn text_limits(&self, request: &TextRequest) -> Limits {
        let limits = self.timeouts.text;
        Limits { total: request.timeout.unwrap_or(limits.total), ..limits }
    }

    fn text_candidates(&self, request: &TextRequest) -> Result<Candidates, Error> {
        let named = request.model.as_deref().and_then(|model| self.routes.named(model));
        let (policy, mut candidates) = match named {
            Some(route) => (route.policy, self.on_route(route, request.provider.as_deref())?),
            None => {
                let any_model = request.model.is_none();
                (self.routes.usual(), Candidates { any_model, ..self.by_model(request)? })
            }
        };
        // It calls none, and that it does not must not hide why the others failed.
        let forced = request.tool_choice.as_ref().is_some_and(ToolChoice::is_forced);
        if forced && !candidates.list.iter().all(Candidate::local) {
            candidates.list.retain(|candidate| !candidate.local());
        }
        let prompt = request.text_bytes();
        let estimate = admission::estimate(prompt, request.max_tokens);
        let output_tokens = admission::estimate(0, request.max_tokens);
        let expected = Usage::of(cost::tokens_of(prompt), output_tokens);
        let trial = request.trial.clone();
        let mut candidates = Candidates { estimate, expected, trial, ..candidates };
        self.arrange(policy, &mut candidates, request.subject.as_deref());
        Ok(candidates)
    }

    /// Where a call goes that names no route.
    fn by_model<'a>(&'a self, request: &'a TextRequest) -> Result<Candidates, Error> {
        self.candidates(request.provider.as_deref(), |d| match (&request.model, d.adapter) {
            (_, Adapter::Offline) | (None, _) => d.text_model,
            (Some(model), _) => model,
        })
    }

    /// The providers a call may go to, with the model it would use at each.
    fn candidates<'a>(
        &'a self,
        pin: Option<&str>,
        model: impl Fn(&Description<&'a str>) -> &'a str,
    ) -> Result<Candidates, Error> {
        let view = self.switches.view();
        let mut list: Vec<_> = view
            .order
            .iter()
            .map(|index| (*index, &self.providers[*index]))
            .filter(|(_, p)| pin.is_none_or(|name| name == p.name()))
            .map(|(index, p)| {
                let description = p.describe();
                let (model, adapter) = (model(&description).to_owned(), description.adapter);
                let keys = self.rings[index].keys().len();
                let weight = view.weights.or(index, self.routes.weight(index));
                Candidate { index, name: p.name().to_owned(), model, adapter, keys, weight, context: None }
            })
            .collect();
        if let (true, Some(name)) = (list.is_empty(), pin) {
            let known: Vec<_> = self.providers.iter().map(|p| p.name()).collect();
            let message = format!("no provider is called `{name}`; there are: {}", known.join(", "));
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        let off = without_switched_off(&mut list, &view)?;
        Ok(Candidates {
            list,
            pinned: pin.is_some(),
            routed: false,
            any_model: false,
            route: None,
            off,
            estimate: 0,
            expected: Usage::default(),
            images: 0,
            trial: None,
        })
    }
}

/// Leaves out the candidates that an admin has switched off. Answers how many providers are.
fn without_switched_off(list: &mut Vec<Candidate>, view: &View) -> Result<usize, Error> {
    let is_off = |c: &Candidate| view.off.get(c.index).and_then(Option::as_ref);
    if list.iter().all(|c| is_off(c).is_some()) {
        let all = list.iter().filter_map(|c| Some(format!("{} is {}", c.name, is_off(c)?.describe())));
        let message = all.collect::<Vec<_>>().join("; ");
        return Err(Error::new(ErrorKind::Disabled, message));
    }
    list.retain(|c| is_off(c).is_none());
    Ok(view.off.iter().flatten().count())
}
