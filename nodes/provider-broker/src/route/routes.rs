//! Named routes, and the order of candidates on each.

use super::policy::{self, Choice, Facts, PeakEwma};
use super::{Candidate, Candidates, Router, without_switched_off};
use crate::accounts::Accounts;
use crate::broker::{Deps, Jitter};
use crate::config::{Adapter, Config, Policy};
use callboard_domain::llm::{Error, ErrorKind, TextRequest, Usage};
use callboard_runtime::mesh;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Of so many models of a provider it is known how fast they are. Callers name models.
const MODELS: usize = 64;

/// A route, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStatus {
    /// Its name: what a call gives as its model.
    pub name: String,
    /// How the order is found.
    pub policy: Policy,
    /// Where it leads, in the configured order.
    pub targets: Vec<TargetStatus>,
}

/// A model of a provider on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// The provider.
    pub provider: String,
    /// The model; empty if the provider's own is not known yet.
    pub model: String,
    /// Its weight; an admin's, if one has set it.
    pub weight: u32,
}

/// A model of a provider on a route, as it is configured.
struct Target {
    /// The provider, by its place.
    provider: usize,
    model: Option<String>,
    weight: u32,
    context: Option<u32>,
}

/// A route.
pub(super) struct Route {
    name: String,
    pub(super) policy: Policy,
    targets: Vec<Target>,
}

/// The routes.
pub(super) struct Routes {
    usual: Policy,
    /// Of the providers, in their order.
    weights: Vec<u32>,
    named: HashMap<String, Route>,
    /// Their names, as configured.
    names: Vec<String>,
    /// How fast the models of each provider are; empty if no policy wants to know.
    latencies: Vec<Mutex<HashMap<String, PeakEwma>>>,
    jitter: Jitter,
}

impl Routes {
    pub(super) fn new(config: &Config, providers: Vec<String>, deps: &Deps) -> Self {
        let usual = config.routing.policy;
        let weight = |name: &String| config.routing.weights.get(name).copied().unwrap_or(1);
        let place = |name: &str| providers.iter().position(|provider| provider == name);
        let routes = config.routes.iter().map(|route| {
            let targets = route.providers.iter().filter_map(|target| {
                let provider = place(&target.provider)?;
                let (model, weight) = (target.model.clone(), target.weight);
                Some(Target { provider, model, weight, context: target.context_tokens })
            });
            let policy = route.policy.unwrap_or(usual);
            (route.name.clone(), Route { name: route.name.clone(), policy, targets: targets.collect() })
        });
        let named: HashMap<_, _> = routes.collect();
        let all = named.values().map(|route| route.policy).chain([usual]);
        let wanted = all.into_iter().any(|policy| policy == Policy::LeastLatency);
        Self {
            usual,
            weights: providers.iter().map(weight).collect(),
            names: config.routes.iter().map(|route| route.name.clone()).collect(),
            named,
            latencies: providers.iter().filter(|_| wanted).map(|_| Mutex::default()).collect(),
            jitter: deps.jitter.clone(),
        }
    }

    /// The policy for calls that name no route.
    pub(super) const fn usual(&self) -> Policy {
        self.usual
    }

    /// The route of that name.
    pub(super) fn named(&self, name: &str) -> Option<&Route> {
        self.named.get(name)
    }

    /// The names of the routes.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The weight of a provider for calls that name no route.
    pub(super) fn weight(&self, provider: usize) -> u32 {
        self.weights.get(provider).copied().unwrap_or(1)
    }

    /// The policies of the routes that lead to a provider.
    pub(super) fn lead_to(&self, provider: usize) -> impl Iterator<Item = Policy> {
        let leads = move |route: &&Route| route.targets.iter().any(|target| target.provider == provider);
        self.named.values().filter(leads).map(|route| route.policy)
    }

    fn latencies(&self, provider: usize) -> Option<MutexGuard<'_, HashMap<String, PeakEwma>>> {
        Some(self.latencies.get(provider)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn slowness(&self, provider: usize, model: &str) -> Option<f64> {
        self.latencies(provider)?.get(model)?.slowness(Instant::now())
    }

    /// Makes a call, and measures it if a policy wants to know: until the whole answer, of a stream until its first piece.
    pub(super) async fn timed<T>(
        &self,
        provider: usize,
        model: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(mut clock) = self.begin(provider, model) else { return call.await };
        let answer = call.await;
        clock.say(|average, began, now| match &answer {
            Ok(_) => average.answered(now - began, now),
            Err(error) if error.kind.is_of_the_call() => average.end(),
            Err(_) => average.failed(now - began, now),
        });
        answer
    }

    /// A call begins: it is measured, if a policy wants to know.
    fn begin<'a>(&'a self, provider: usize, model: &'a str) -> Option<Clock<'a>> {
        let (mut latencies, now) = (self.latencies(provider)?, Instant::now());
        if !latencies.contains_key(model) {
            make_room(&mut latencies);
            latencies.insert(model.to_owned(), PeakEwma::new(now));
        }
        latencies.get_mut(model)?.begin();
        Some(Clock { routes: self, provider, model, began: now, said: false })
    }

    /// Puts candidates into the order of a policy.
    fn arrange(&self, policy: Policy, candidates: &mut Candidates, subject: &str, accounts: &Accounts) {
        let Candidates { list, estimate, expected, images, .. } = candidates;
        if policy == Policy::Priority || list.len() < 2 {
            return;
        }
        let choices: Vec<_> = list.iter().map(choice).collect();
        let facts = Facts {
            draw: &*self.jitter,
            slowness: &|place| list.get(place).and_then(|c| self.slowness(c.index, &c.model)),
            cost: &|place| {
                list.get(place).and_then(|c| accounts.price(c.index, &c.model, *expected, *images))
            },
            subject,
            tokens: *estimate,
        };
        let order = policy::order(policy, &choices, &facts);
        let mut rest: Vec<_> = std::mem::take(list).into_iter().map(Some).collect();
        list.extend(order.into_iter().filter_map(|place| rest.get_mut(place)?.take()));
    }
}

fn choice(candidate: &Candidate) -> Choice<'_> {
    Choice {
        provider: &candidate.name,
        model: &candidate.model,
        weight: candidate.weight,
        local: candidate.local(),
        context: candidate.context,
    }
}

/// A call as a target of a route gets it: with its model. Empty: its provider's own.
pub(super) fn with_model(request: &TextRequest, model: &str) -> TextRequest {
    TextRequest { model: (!model.is_empty()).then(|| model.to_owned()), ..request.clone() }
}

/// Forgets what was not heard of for the longest time, if there are too many.
fn make_room(latencies: &mut HashMap<String, PeakEwma>) {
    if latencies.len() >= MODELS
        && let Some(oldest) = latencies.iter().min_by_key(|(_, average)| average.at()).map(|(m, _)| m.clone())
    {
        latencies.remove(&oldest);
    }
}

/// A call that is under way. Dropped, it was given up: it has run out of its time, or its caller has gone.
struct Clock<'a> {
    routes: &'a Routes,
    provider: usize,
    model: &'a str,
    began: Instant,
    said: bool,
}

impl Clock<'_> {
    fn say(&mut self, what: impl FnOnce(&mut PeakEwma, Instant, Instant)) {
        self.said = true;
        if let Some(mut latencies) = self.routes.latencies(self.provider)
            && let Some(average) = latencies.get_mut(self.model)
        {
            what(average, self.began, Instant::now());
        }
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        if !self.said {
            self.say(|average, began, now| average.given_up(now - began, now));
        }
    }
}

impl Router {
    /// How the order is found where a call names no route, and the routes.
    pub(crate) fn routes(&self) -> (Policy, Vec<RouteStatus>) {
        let view = self.switches.view();
        let status = |name: &String| {
            let route = self.routes.named(name)?;
            let targets = route.targets.iter().map(|target| {
                let provider = &self.providers[target.provider];
                let model =
                    target.model.as_deref().unwrap_or_else(|| provider.describe().text_model).to_owned();
                let weight = view.weights.or(target.provider, target.weight);
                TargetStatus { provider: provider.name().to_owned(), model, weight }
            });
            let (name, policy) = (route.name.clone(), route.policy);
            Some(RouteStatus { name, policy, targets: targets.collect() })
        };
        (self.routes.usual(), self.routes.names.iter().filter_map(status).collect())
    }

    /// Where a route leads: of a call that names a provider too, to no other.
    pub(super) fn on_route(&self, route: &Route, pin: Option<&str>) -> Result<Candidates, Error> {
        let view = self.switches.view();
        let candidate = |target: &Target| {
            let (index, provider) = (target.provider, &self.providers[target.provider]);
            let description = provider.describe();
            let own = description.adapter == Adapter::Offline;
            let model = target.model.as_deref().filter(|_| !own).unwrap_or(description.text_model).to_owned();
            Candidate {
                index,
                name: provider.name().to_owned(),
                model,
                adapter: description.adapter,
                keys: self.rings[index].keys().len(),
                weight: view.weights.or(index, target.weight),
                context: target.context,
            }
        };
        let list = route.targets.iter().map(candidate);
        let mut list: Vec<_> = list.filter(|candidate| pin.is_none_or(|pin| pin == candidate.name)).collect();
        let Some(first) = list.first() else {
            let who = pin.unwrap_or("any provider");
            let message = format!("the route `{}` does not lead to {who}", route.name);
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        };
        let pinned = list.iter().all(|candidate| candidate.index == first.index);
        let off = without_switched_off(&mut list, &view)?;
        let expected = Usage::default();
        let whole = pin.is_none().then(|| route.name.clone());
        Ok(Candidates {
            list,
            pinned,
            routed: true,
            any_model: false,
            route: whole,
            off,
            estimate: 0,
            expected,
            images: 0,
            trial: None,
        })
    }

    /// Puts candidates into the order of a policy, behind the one that an admin made the first. A call that names no subject has that of the task that makes it: its kind;
    /// or the namespace of its caller.
    pub(super) fn arrange(&self, policy: Policy, candidates: &mut Candidates, subject: Option<&str>) {
        match (policy, subject) {
            (Policy::Sticky, None) => {
                let mesh::Context { namespace, kind, .. } = mesh::current();
                let subject = if kind.is_empty() { namespace } else { format!("{namespace}\n{kind}") };
                self.routes.arrange(policy, candidates, &subject, &self.accounts);
            }
            (_, subject) => {
                self.routes.arrange(policy, candidates, subject.unwrap_or_default(), &self.accounts);
            }
        }
        // What an admin made the first goes before what any policy says.
        if let Some((first, _)) = &self.switches.view().primary {
            candidates.list.sort_by_key(|candidate| candidate.index != *first);
        }
    }
}
