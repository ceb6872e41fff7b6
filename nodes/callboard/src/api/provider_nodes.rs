//! What every node that calls providers is asked, one by one.

use super::Api;
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::administer_request::Action;
use callboard_contracts::v1;
use callboard_domain::{Code, Error};
use callboard_runtime::mesh::BrokerClient;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a node may take to read its configuration, with the files of its keys.
const RELOAD_WITHIN: Duration = Duration::from_secs(15);
/// How long a node may take to say how many calls it has under way, or what its caches did.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

impl Api {
    /// Has each node read its configuration of providers again, or the one that is named.
    ///
    /// # Errors
    /// There is no such node. What a node is refused for is in its answer.
    pub(super) async fn reload_nodes(
        &self,
        node: &str,
        author: &str,
    ) -> Result<Vec<v1::ProviderReload>, Error> {
        let mut brokers = (self.deps.brokers)();
        if !node.is_empty() {
            let named = brokers.remove_entry(node);
            let (name, broker) = named.ok_or_else(|| unknown_node(node, &brokers))?;
            brokers = BTreeMap::from([(name, broker)]);
        }
        let reloads = brokers.into_iter().map(|(node, broker)| async move {
            let action = Some(Action::Reload(v1::ReloadProvidersRequest::default()));
            let request = mesh::AdministerRequest { context: None, author: author.to_owned(), action };
            match broker.administer(request, RELOAD_WITHIN).await {
                Ok(done) => v1::ProviderReload {
                    node,
                    providers: done.providers,
                    changed: done.changed,
                    after_restart: done.after_restart,
                    error: String::new(),
                },
                Err(error) => v1::ProviderReload { node, error: message(error), ..Default::default() },
            }
        });
        Ok(join_all(reloads).await)
    }

    /// What the caches of each node did, or why it could not be asked.
    pub(super) async fn cache_statistics(&self) -> Vec<v1::NodeCacheStatistics> {
        let asked = (self.deps.brokers)().into_iter().map(|(node, broker)| async move {
            let request = mesh::GetCacheStatisticsRequest { context: None };
            match broker.get_cache_statistics(request, ASKED_WITHIN).await {
                Ok(answer) => v1::NodeCacheStatistics { node, rows: answer.rows, unreachable: String::new() },
                Err(error) => v1::NodeCacheStatistics { node, rows: Vec::new(), unreachable: message(error) },
            }
        });
        join_all(asked).await
    }

    /// How many calls are at a provider from each node.
    ///
    /// # Errors
    /// No node that answers knows the provider, or there is none to ask.
    pub(super) async fn load_of(&self, provider: &str) -> Result<Vec<v1::ProviderNodeLoad>, Error> {
        let brokers = (self.deps.brokers)();
        if brokers.is_empty() {
            return Err(no_node());
        }
        let asked = brokers.into_iter().map(|(node, broker)| async move {
            let request = mesh::ListProvidersRequest { context: None };
            (node, broker.list_providers(request, ASKED_WITHIN).await)
        });
        let (mut nodes, mut known, mut names) = (Vec::new(), false, Vec::new());
        for (node, answer) in join_all(asked).await {
            let blank = v1::ProviderNodeLoad { node, ..Default::default() };
            match answer {
                Err(error) => nodes.push(v1::ProviderNodeLoad { error: message(error), ..blank }),
                Ok(list) => match list.providers.iter().find(|of| of.name == provider) {
                    // One whose configuration lacks it has nothing to do with it.
                    None => names.extend(list.providers.into_iter().map(|of| of.name)),
                    Some(of) => {
                        known = true;
                        let (in_flight, off) = (of.in_flight, of.switch.is_some());
                        nodes.push(v1::ProviderNodeLoad { in_flight, off, ..blank });
                    }
                },
            }
        }
        if !known && nodes.iter().all(|node| node.error.is_empty()) {
            names.sort_unstable();
            names.dedup();
            let text = format!("no provider is called `{provider}`; there are: {}", names.join(", "));
            return Err(Error::field(Code::InvalidArgument, "name", text));
        }
        Ok(nodes)
    }
}

fn unknown_node(node: &str, brokers: &BTreeMap<String, BrokerClient>) -> Error {
    if brokers.is_empty() {
        return no_node();
    }
    let names: Vec<_> = brokers.keys().map(String::as_str).collect();
    let text = format!("no node `{node}` calls providers; there are: {}", names.join(", "));
    Error::field(Code::InvalidArgument, "node", text)
}

fn no_node() -> Error {
    let text = "no node that is up calls providers: start one with the role `provider-broker`, and try again";
    Error::new(Code::ActorUnavailable, text)
}

/// What a node answered, in its own words.
fn message(error: callboard_runtime::mesh::Error) -> String {
    error.into_status().message().to_owned()
}
