//! Which provider and which model a name stands for.
//!
//! In this order: an alias of the configuration; `auto`, every provider's own model; `PROVIDER/MODEL`, that model there
//! and nowhere else; and any other name as it is, which the broker takes for a route or an experiment if it has one of that name, else for a
//! model at whichever provider is tried. What is listed is what can be known: aliases, `auto`, routes, experiments, and each provider's
//! own models.

use super::Endpoint;
use super::error::Error;
use crate::config::Alias;
use axum::Json;
use axum::extract::{Path, State};
use callboard_contracts::v1;
use callboard_domain::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// The name that leaves the model to the providers.
const AUTO: &str = "auto";
/// Who is said to own what belongs to no provider.
const OURS: &str = "callboard";

/// The names there are.
pub(super) struct Models {
    aliases: BTreeMap<String, Alias>,
    created: i64,
}

impl Models {
    pub(super) fn new(aliases: BTreeMap<String, Alias>, created: Timestamp) -> Self {
        Self { aliases, created: created.micros().div_euclid(1_000_000) }
    }
}

/// What a model is to a client of OpenAI.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Model {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
}

/// A list of models.
#[derive(Debug, Serialize)]
pub(super) struct List {
    object: &'static str,
    data: Vec<Model>,
}

impl Endpoint {
    /// What a name stands for.
    pub(super) async fn named(&self, name: &str) -> Result<Alias, Error> {
        let models = &self.0.models;
        if let Some(alias) = models.aliases.get(name) {
            return Ok(alias.clone());
        }
        if name == AUTO {
            return Ok(Alias::default());
        }
        // Names of models have slashes too: `meta-llama/Llama-3.1-8B`.
        if let Some((provider, model)) = name.split_once('/').filter(|(_, model)| !model.is_empty()) {
            let known = match self.0.broker.knows(provider) {
                Some(known) => known,
                None => self.providers().await?.iter().any(|known| known.name == provider),
            };
            if known {
                return Ok(Alias { provider: provider.into(), model: model.into() });
            }
        }
        Ok(Alias { provider: String::new(), model: name.into() })
    }

    async fn listed(&self) -> Result<Vec<Model>, Error> {
        let models = &self.0.models;
        let model = |id: String, owner: &str| Model {
            id,
            object: "model",
            created: models.created,
            owned_by: owner.into(),
        };
        let aliases = models.aliases.keys().map(|name| model(name.clone(), OURS));
        let mut listed: Vec<_> = aliases.collect();
        if !models.aliases.contains_key(AUTO) {
            listed.push(model(AUTO.into(), OURS));
        }
        let known = self.0.broker.listed().await?;
        let routes = known.routes.iter().filter(|route| !models.aliases.contains_key(&route.name));
        listed.extend(routes.map(|route| model(route.name.clone(), OURS)));
        let experiments = known.experiments.iter().filter(|of| !models.aliases.contains_key(&of.name));
        listed.extend(experiments.map(|of| model(of.name.clone(), OURS)));
        for provider in known.providers {
            let v1::Provider { name, text_model, image_model, embedding_model, .. } = &provider;
            for own in [text_model, image_model, embedding_model].into_iter().filter(|own| !own.is_empty()) {
                let id = format!("{name}/{own}");
                if listed.iter().all(|model| model.id != id) {
                    listed.push(model(id, name));
                }
            }
        }
        Ok(listed)
    }
}

/// `GET /v1/models`.
pub(super) async fn list(State(endpoint): State<Endpoint>) -> Result<Json<List>, Error> {
    Ok(Json(List { object: "list", data: endpoint.listed().await? }))
}

/// `GET /v1/models/{id}`.
pub(super) async fn one(
    State(endpoint): State<Endpoint>,
    Path(id): Path<String>,
) -> Result<Json<Model>, Error> {
    let found = endpoint.listed().await?.into_iter().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| {
        Error::no_such_model(format!(
            "`{id}` is not listed; a name that is not is passed on to providers as it is"
        ))
    })
}
