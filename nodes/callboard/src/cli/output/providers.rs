//! What an admin has switched of providers, and how a test of one went, for a person.

use super::style::{Paint, clean};
use super::time::{self, point, relative};
use callboard_client::v1;
use callboard_domain::Timestamp;

/// How a provider is switched, if it is switched off.
pub(super) fn switched(provider: &v1::Provider) -> Option<(String, Paint)> {
    match provider.switch.as_ref()?.state() {
        v1::ProviderSwitchState::Disabled => Some(("disabled".to_owned(), Paint::Bad)),
        v1::ProviderSwitchState::Draining if provider.in_flight > 0 => {
            Some((format!("draining ({})", provider.in_flight), Paint::Warn))
        }
        v1::ProviderSwitchState::Draining => Some(("drained".to_owned(), Paint::Bad)),
        v1::ProviderSwitchState::Enabled | v1::ProviderSwitchState::Unspecified => None,
    }
}

/// What stands above the configuration, who said so and when; each line beside what the file says.
pub(super) fn overrides(provider: &v1::Provider, now: Timestamp) -> String {
    let name = clean(&provider.name);
    let mut out = String::new();
    if let Some((switch, state)) = provider.switch.as_ref().zip(switched(provider)) {
        let what = state.0.split(' ').next().unwrap_or_default().to_owned();
        out.push_str(&format!("{name}: {what} {}; the configuration uses it\n", by(switch, now)));
    }
    if let Some(primary) = &provider.primary {
        let place = provider.place;
        let by = by(primary, now);
        out.push_str(&format!("{name}: made the first {by}; number {place} in the configuration\n"));
    }
    for weight in &provider.weights {
        let who = match weight.key.as_str() {
            "" => name.clone(),
            key => format!("{name} with {}", clean(key)),
        };
        let (value, configured) = (weight.weight, weight.configured);
        let by = said(&weight.author, &weight.reason, weight.at.as_ref(), now);
        out.push_str(&format!("{who}: weight {value} {by}; {configured} in the configuration\n"));
    }
    if !out.is_empty() {
        out.push_str(&format!("`callboard providers reset {name}` has it follow the configuration again\n"));
    }
    out
}

fn by(switch: &v1::ProviderSwitch, now: Timestamp) -> String {
    said(&switch.author, &switch.reason, switch.at.as_ref(), now)
}

fn said(author: &str, reason: &str, at: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let at = point(at).map_or_else(String::new, |at| format!(" {}", relative(at, now)));
    let who = if author.is_empty() { String::new() } else { format!(" ({})", clean(author)) };
    let why = if reason.is_empty() { String::new() } else { format!(": {}", clean(reason)) };
    format!("by an admin{who}{at}{why}")
}

/// The name of a provider, with the key's if it has several.
fn with_key(provider: &v1::Provider, key: &str) -> String {
    match provider.keys.len() > 1 && !key.is_empty() {
        true => format!("{} with {}", clean(&provider.name), clean(key)),
        false => clean(&provider.name),
    }
}

/// What a provider has said is not left of a key, and until when.
pub(super) fn spent_key(
    provider: &v1::Provider,
    key: &v1::ProviderKey,
    model: &str,
    until: &prost_types::Timestamp,
    now: Timestamp,
) -> String {
    let until = point(Some(until)).map_or_else(String::new, |at| relative(at, now));
    let (who, model) = (with_key(provider, &key.id), clean(model));
    format!("{who}, model {model}: nothing left, as the provider said; used again {until}\n")
}

/// Why a provider is not used for a model, since when, and until when.
pub(super) fn left_out(provider: &v1::Provider, breaker: &v1::ProviderBreaker, now: Timestamp) -> String {
    let since = point(breaker.since.as_ref()).map_or_else(String::new, |at| relative(at, now));
    let next = match point(breaker.until.as_ref()) {
        Some(until) => format!("tried again {}", relative(until, now)),
        None => "the next call tries it".to_owned(),
    };
    let (who, model, cause) =
        (with_key(provider, &breaker.key), clean(&breaker.model), clean(&breaker.cause));
    format!("{who}, model {model}: left out {since}, after {cause}; {next}\n")
}

/// How a test of a provider went.
#[must_use]
pub fn tested(attempt: &v1::ProviderAttempt) -> String {
    let took = time::span(time::duration(attempt.duration.as_ref()).unwrap_or_default());
    let (provider, model) = (clean(&attempt.provider), clean(&attempt.model));
    match attempt.error.is_empty() {
        true => format!("{provider} answered with {model} in {took}"),
        false => {
            let (error, message) = (clean(&attempt.error), clean(&attempt.message));
            format!("{provider} failed with {model} after {took}: {error}: {message}")
        }
    }
}

/// What a reload did on each node that was reloaded.
#[must_use]
pub fn reloaded(nodes: &[v1::ProviderReload]) -> String {
    let mut out = String::new();
    for node in nodes.iter().filter(|node| node.error.is_empty()) {
        let list = |keys: &[String]| keys.iter().map(|key| clean(key)).collect::<Vec<_>>().join(", ");
        let changed = match node.changed.is_empty() {
            true => "nothing has changed".to_owned(),
            false => format!("changed: {}", list(&node.changed)),
        };
        let providers: Vec<_> = node.providers.iter().map(|name| clean(name)).collect();
        out.push_str(&format!("{}: reloaded: {}; {changed}", clean(&node.node), providers.join(", then ")));
        if !node.after_restart.is_empty() {
            out.push_str(&format!("; after a restart: {}", list(&node.after_restart)));
        }
        out.push('\n');
    }
    out
}

/// How far a provider is drained.
#[must_use]
pub fn draining(provider: &str, nodes: &[v1::ProviderNodeLoad]) -> String {
    let state = |node: &v1::ProviderNodeLoad| {
        let name = clean(&node.node);
        match (node.error.as_str(), node.off, node.in_flight) {
            ("", true, 0) => None,
            ("", true, calls) => Some(format!("{calls} in flight from {name}")),
            ("", false, _) => Some(format!("{name} has not heard of it yet")),
            (error, ..) => Some(format!("{name} does not answer: {}", clean(error))),
        }
    };
    let left: Vec<_> = nodes.iter().filter_map(state).collect();
    match left.is_empty() {
        true => format!("{} is drained: no calls in flight", clean(provider)),
        false => format!("{} is draining: {}", clean(provider), left.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A configuration file that is ignored once a database holds the same key.
    #[test]
    fn complaint_what_is_switched_is_shown_beside_what_the_file_says() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let at = |ago: i64| Some(prost_types::Timestamp { seconds: 1_700_000_000 - ago, nanos: 0 });
        let switch = v1::ProviderSwitch {
            state: v1::ProviderSwitchState::Disabled.into(),
            reason: "the bill".into(),
            author: "ops".into(),
            at: at(180),
        };
        let mut provider = v1::Provider {
            name: "main".into(),
            switch: Some(switch.clone()),
            primary: Some(v1::ProviderSwitch { at: at(60), ..Default::default() }),
            place: 2,
            weights: vec![
                v1::ProviderWeight { weight: 0, configured: 3, at: at(60), ..Default::default() },
                v1::ProviderWeight {
                    key: "second".into(),
                    weight: 10,
                    configured: 1,
                    reason: "a larger quota".into(),
                    author: "ops".into(),
                    at: at(120),
                },
            ],
            ..Default::default()
        };
        insta::assert_snapshot!(overrides(&provider, now));
        provider.switch =
            Some(v1::ProviderSwitch { state: v1::ProviderSwitchState::Draining.into(), ..switch });
        assert_eq!(switched(&provider).unwrap().0, "drained");
        provider.in_flight = 3;
        assert_eq!(switched(&provider).unwrap().0, "draining (3)");
        assert_eq!(overrides(&v1::Provider { name: "main".into(), ..Default::default() }, now), "");
    }

    #[test]
    fn a_test_says_model_time_and_error() {
        let attempt = v1::ProviderAttempt {
            provider: "main".into(),
            model: "m".into(),
            duration: Some(Duration::from_millis(250).try_into().unwrap()),
            ..Default::default()
        };
        let failed = v1::ProviderAttempt {
            error: "PROVIDER_AUTHENTICATION".into(),
            message: "no".into(),
            ..attempt.clone()
        };
        assert!(tested(&attempt).starts_with("main answered with m in 250"), "{}", tested(&attempt));
        assert!(tested(&failed).ends_with(": PROVIDER_AUTHENTICATION: no"), "{}", tested(&failed));
    }

    #[test]
    fn a_drain_says_who_still_has_calls() {
        let node = |name: &str, in_flight, off, error: &str| v1::ProviderNodeLoad {
            node: name.into(),
            in_flight,
            off,
            error: error.into(),
        };
        let done = draining("local", &[node("a", 0, true, ""), node("b", 0, true, "")]);
        assert_eq!(done, "local is drained: no calls in flight");
        let busy = [
            node("a", 3, true, ""),
            node("b", 0, false, ""),
            node("c", 0, false, "gone"),
            node("d", 0, true, ""),
        ];
        assert_eq!(
            draining("local", &busy),
            "local is draining: 3 in flight from a, b has not heard of it yet, c does not answer: gone"
        );
    }

    #[test]
    fn a_reload_says_what_changed_on_each_node() {
        let node = |name: &str, changed: &[&str], error: &str| v1::ProviderReload {
            node: name.into(),
            providers: vec!["main".into(), "offline".into()],
            changed: changed.iter().map(|key| (*key).to_owned()).collect(),
            after_restart: if changed.is_empty() { vec![] } else { vec!["broker.cache".into()] },
            error: error.into(),
        };
        let nodes = [
            node("a", &["broker.providers.main", "broker.cache"], ""),
            node("b", &[], ""),
            node("c", &[], "it is wrong"),
        ];
        assert_eq!(
            reloaded(&nodes),
            "a: reloaded: main, then offline; changed: broker.providers.main, broker.cache; \
             after a restart: broker.cache\n\
             b: reloaded: main, then offline; nothing has changed\n"
        );
    }
}
