//! Nodes, providers, kinds, alerts and generated texts, for a person.

use super::money::dollars;
use super::providers::{left_out, overrides, spent_key, switched};
use super::style::{Paint, Palette, clean, clean_lines, word};
use super::table::{Cell, Table, pairs};
use super::tasks::payload;
use super::time::{bytes, duration, point, relative, span};
use callboard_client::v1;
use callboard_domain::Timestamp;
use std::collections::BTreeMap;

/// Nodes as a table.
#[must_use]
pub fn nodes(nodes: &[v1::Node], now: Timestamp, palette: Palette, width: Option<usize>) -> String {
    if nodes.is_empty() {
        return "no nodes\n".to_owned();
    }
    let mut table = Table::new(&[
        "NAME",
        "STATE",
        ">SLOTS",
        "STARTED",
        ">MEMORY",
        ">RESTARTS",
        "VERSION",
        "ADDRESS",
        "ROLES",
    ]);
    for node in nodes {
        let restarts: u64 = node.actor_restarts.values().sum();
        let (state, paint) = match (node.unreachable.is_empty(), node.draining) {
            (false, _) => ("no answer", Paint::Bad),
            (true, true) => ("draining", Paint::Warn),
            (true, false) => ("up", Paint::Good),
        };
        table.row(vec![
            Cell::new(&node.name, Paint::Strong),
            Cell::new(state, paint),
            format!("{}/{}", node.slots_used, node.slots).into(),
            point(node.started_at.as_ref()).map_or_else(String::new, |at| relative(at, now)).into(),
            bytes(node.memory_bytes).into(),
            Cell::new(restarts.to_string(), if restarts == 0 { Paint::Plain } else { Paint::Warn }),
            Cell::from(&node.version),
            Cell::from(node.addresses.get("public").map_or("", String::as_str)),
            Cell::from(node.roles.join(", ")),
        ]);
    }
    let mut out = table.render(palette, width);
    for node in nodes {
        let restarts: BTreeMap<_, _> = node.actor_restarts.iter().filter(|(_, count)| **count > 0).collect();
        if !restarts.is_empty() {
            let list: Vec<_> =
                restarts.iter().map(|(actor, count)| format!("{} {count}", clean(actor))).collect();
            out.push_str(&format!("actors restarted on {}: {}\n", clean(&node.name), list.join(", ")));
        }
        for suspicion in &node.suspects {
            let since = point(suspicion.since.as_ref()).map_or_else(String::new, |at| relative(at, now));
            let (by, node, why) = (clean(&node.name), clean(&suspicion.node), clean(&suspicion.reason));
            out.push_str(&format!("{by} suspects {node}, since {since}: {why}\n"));
        }
        let backends: BTreeMap<_, _> = node.backends.iter().filter(|(_, how)| *how != "ok").collect();
        for (backend, how) in backends {
            out.push_str(&format!("{} sees {}: {}\n", clean(&node.name), clean(backend), clean(how)));
        }
        if !node.unreachable.is_empty() {
            out.push_str(&format!("{} does not answer: {}\n", clean(&node.name), clean(&node.unreachable)));
        }
    }
    out
}

/// Providers as a table, in the order they are tried.
#[must_use]
pub fn providers(
    providers: &[v1::Provider],
    now: Timestamp,
    palette: Palette,
    width: Option<usize>,
) -> String {
    if providers.is_empty() {
        return "no providers\n".to_owned();
    }
    let mut table = Table::new(&[
        "NAME",
        "STATE",
        "ADAPTER",
        "KEY",
        "TEXT MODEL",
        "IMAGE MODEL",
        ">ANSWERED",
        ">FAILED",
        ">TRIPS",
        "LAST ERROR",
    ]);
    for provider in providers {
        let key = match (provider.adapter.as_str(), provider.has_key) {
            ("offline", _) => Cell::new("not needed", Paint::Dim),
            _ if provider.keys.len() > 1 => {
                let (all, used) = (provider.keys.len(), provider.keys.iter().filter(|k| in_use(k)).count());
                let paint = if used == all { Paint::Good } else { Paint::Warn };
                Cell::new(format!("{used} of {all}"), paint)
            }
            (_, true) => Cell::new("yes", Paint::Good),
            // Some that speak the API, on one's own machine, ask for none.
            (_, false) => Cell::new("none", Paint::Warn),
        };
        let error = match point(provider.last_error_at.as_ref()) {
            Some(at) if !provider.last_error.is_empty() => {
                format!("{}, {}", provider.last_error, relative(at, now))
            }
            _ => provider.last_error.clone(),
        };
        let (state, paint) = match switched(provider) {
            Some((state, paint)) => (state, paint),
            None => {
                let (state, paint) = standing(state(provider));
                (state.to_owned(), paint)
            }
        };
        table.row(vec![
            Cell::new(&provider.name, Paint::Strong),
            Cell::new(state, paint),
            Cell::from(&provider.adapter),
            key,
            Cell::from(&provider.text_model),
            Cell::from(&provider.image_model),
            provider.successes.to_string().into(),
            provider.failures.to_string().into(),
            provider.breakers.iter().map(|b| b.trips).sum::<u64>().to_string().into(),
            Cell::new(error, Paint::Warn),
        ]);
    }
    let mut out = table.render(palette, width);
    for provider in providers {
        out.push_str(&overrides(provider, now));
        let open = provider.breakers.iter().filter(|b| standing(b.state()).1 != Paint::Good);
        open.for_each(|breaker| out.push_str(&left_out(provider, breaker, now)));
        for key in &provider.keys {
            let spent: BTreeMap<_, _> = key.spent.iter().collect();
            spent
                .into_iter()
                .for_each(|(model, until)| out.push_str(&spent_key(provider, key, model, until, now)));
        }
    }
    out
}

/// Whether calls go over a key.
fn in_use(key: &v1::ProviderKey) -> bool {
    standing(key.state()).1 == Paint::Good
}

/// How a provider stands for the worst of its models: with the best of its keys, if it has several.
fn state(provider: &v1::Provider) -> v1::BreakerState {
    let of_all = provider.breakers.iter().filter(|breaker| breaker.key.is_empty());
    let of_model = |breaker: &v1::ProviderBreaker| {
        let of_key = |key: &v1::ProviderKey| {
            let own = provider.breakers.iter().find(|own| own.key == key.id && own.model == breaker.model);
            own.map_or(v1::BreakerState::Closed, v1::ProviderBreaker::state)
        };
        let best = provider.keys.iter().map(of_key).min();
        breaker.state().max(best.unwrap_or_default())
    };
    of_all.map(of_model).max().unwrap_or_default()
}

/// What a breaker's state means for the provider.
fn standing(state: v1::BreakerState) -> (&'static str, Paint) {
    match state {
        v1::BreakerState::Open => ("left out", Paint::Bad),
        v1::BreakerState::HalfOpen => ("on trial", Paint::Warn),
        v1::BreakerState::Closed | v1::BreakerState::Unspecified => ("in use", Paint::Good),
    }
}

/// Kinds as a table.
#[must_use]
pub fn kinds(kinds: &[v1::Kind], palette: Palette, width: Option<usize>) -> String {
    if kinds.is_empty() {
        return "no kinds: no worker has registered any\n".to_owned();
    }
    let mut table = Table::new(&["NAME", ">VERSION", "QUEUE", ">TIMEOUT", ">ATTEMPTS", "WHAT IT DOES"]);
    for kind in kinds {
        table.row(vec![
            Cell::new(&kind.name, Paint::Strong),
            kind.version.to_string().into(),
            Cell::from(&kind.queue),
            duration(kind.timeout.as_ref()).map_or_else(String::new, span).into(),
            kind.max_attempts.to_string().into(),
            Cell::from(&kind.description),
        ]);
    }
    table.render(palette, width)
}

/// One kind with its schemas and an example.
#[must_use]
pub fn kind(kind: &v1::Kind, program: &str, palette: Palette) -> String {
    let rows = [
        ("name", Cell::new(&kind.name, Paint::Strong)),
        ("version", kind.version.to_string().into()),
        ("what it does", Cell::from(&kind.description)),
        ("queue", Cell::from(&kind.queue)),
        ("timeout", duration(kind.timeout.as_ref()).map_or_else(String::new, span).into()),
        ("attempts", kind.max_attempts.to_string().into()),
    ];
    let mut out = pairs(&rows, palette);
    let schemas = [("input schema", &kind.input_schema), ("result schema", &kind.result_schema)];
    for (name, schema) in schemas {
        if !schema.is_empty() {
            out.push_str(&format!("\n{}\n{}\n", palette.paint(name, Paint::Dim), payload(schema.as_bytes())));
        }
    }
    if !kind.example_input.is_empty() {
        // Quoted for a shell: a quote ends the string, an escaped one follows, a new string begins.
        let input = clean(&kind.example_input).replace('\'', "'\\''");
        out.push_str(&format!("\n{}\n", palette.paint("try", Paint::Dim)));
        out.push_str(&format!("{program} submit {} --input '{input}' --wait\n", clean(&kind.name)));
    }
    out
}

/// Alerts as a table, newest first as they came.
#[must_use]
pub fn alerts(alerts: &[v1::Alert], now: Timestamp, palette: Palette, width: Option<usize>) -> String {
    if alerts.is_empty() {
        return "no alerts\n".to_owned();
    }
    let mut table =
        Table::new(&["STATE", "SEVERITY", "RULE", "SUBJECT", ">COUNT", "FIRST", "LAST", "MESSAGE"]);
    for alert in alerts {
        let at = |t: &Option<prost_types::Timestamp>| {
            point(t.as_ref()).map_or_else(String::new, |at| relative(at, now))
        };
        table.row(vec![
            Cell::new(word(alert.state().as_str_name(), "ALERT_STATE_"), alert_paint(alert)),
            word(alert.severity().as_str_name(), "ALERT_SEVERITY_").into(),
            Cell::from(&alert.rule),
            Cell::from(&alert.subject),
            alert.count.to_string().into(),
            at(&alert.first_at).into(),
            at(&alert.last_at).into(),
            Cell::from(&alert.message),
        ]);
    }
    table.render(palette, width)
}

fn alert_paint(alert: &v1::Alert) -> Paint {
    match alert.state() {
        v1::AlertState::Firing if alert.severity() == v1::AlertSeverity::Critical => Paint::Bad,
        v1::AlertState::Firing => Paint::Warn,
        v1::AlertState::Resolved => Paint::Good,
        _ => Paint::Plain,
    }
}

/// A generated text, as it is printed: with a line break at its end.
#[must_use]
pub fn generated(text: &str) -> String {
    let text = clean_lines(text);
    if text.ends_with('\n') { text } else { format!("{text}\n") }
}

/// How an answer came about, on one line.
#[must_use]
pub fn summary(summary: &v1::GenerateSummary) -> String {
    let key = if summary.key.is_empty() { String::new() } else { format!(", {}", summary.key) };
    let cached = match summary.cached_input_tokens {
        0 => String::new(),
        cached => format!(" ({cached} cached)"),
    };
    let mut text = format!(
        "answered by {} ({}{key}), {} tokens in{cached} and {} out",
        summary.provider, summary.model, summary.input_tokens, summary.output_tokens
    );
    if summary.usage_estimated {
        text.push_str(" (estimated)");
    }
    if let Some(cost) = summary.cost_picodollars {
        text.push_str(&format!(", {}", dollars(cost)));
    }
    if summary.finish_reason == "length" {
        text.push_str(", cut at the most tokens");
    }
    match summary.from_cache() {
        v1::CacheSource::Unspecified => {}
        v1::CacheSource::Exact => text.push_str(", from the cache"),
        v1::CacheSource::Shared => text.push_str(", to a call for the same"),
        v1::CacheSource::Replayed => text.push_str(", to an earlier call with the same key"),
        v1::CacheSource::Similar => {
            text.push_str(&format!(", to a similar call ({} per cent)", summary.similarity_percent));
        }
    }
    if summary.degraded {
        let reason = if summary.degraded_reason.is_empty() {
            "not the first choice"
        } else {
            &summary.degraded_reason
        };
        text.push_str(&format!("; degraded: {reason}"));
    }
    clean(&text)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, ago, seconds, span};
    use super::*;
    use callboard_domain::convert::time_to_proto;

    #[test]
    fn nodes_tell_which_actors_were_restarted() {
        let node = v1::Node {
            name: "laptop".into(),
            version: "0.1.0".into(),
            roles: vec!["supervisor".into(), "worker".into()],
            started_at: ago(seconds(7_300)),
            slots: 8,
            slots_used: 3,
            actor_restarts: [("worker".to_owned(), 2), ("alert".to_owned(), 0)].into(),
            memory_bytes: 41_000_000,
            addresses: [("public".to_owned(), "127.0.0.1:7070".to_owned())].into(),
            ..Default::default()
        };
        let draining = v1::Node { name: "b".into(), draining: true, ..Default::default() };
        insta::assert_snapshot!(nodes(&[node, draining], NOW, Palette::plain(), None));
    }

    #[test]
    fn providers_say_whether_they_have_a_key_and_why_they_are_left_out() {
        let openai = v1::Provider {
            name: "openai".into(),
            adapter: "openai".into(),
            text_model: "gpt-4o-mini".into(),
            image_model: "gpt-image-1".into(),
            successes: 12,
            failures: 1,
            last_error: "RATE_LIMITED".into(),
            last_error_at: ago(seconds(30)),
            breakers: vec![
                v1::ProviderBreaker {
                    model: "gpt-4o-mini".into(),
                    key: String::new(),
                    state: v1::BreakerState::Open.into(),
                    cause: "PROVIDER_QUOTA_EXCEEDED".into(),
                    since: ago(seconds(20)),
                    until: Some(time_to_proto(NOW.after(seconds(280)))),
                    trips: 2,
                },
                v1::ProviderBreaker {
                    model: "gpt-image-1".into(),
                    key: String::new(),
                    state: v1::BreakerState::HalfOpen.into(),
                    cause: "PROVIDER_TIMEOUT".into(),
                    since: ago(seconds(90)),
                    until: None,
                    trips: 1,
                },
            ],
            ..Default::default()
        };
        let offline =
            v1::Provider { name: "offline".into(), adapter: "offline".into(), ..Default::default() };
        insta::assert_snapshot!(providers(&[openai, offline], NOW, Palette::plain(), None));
    }

    #[test]
    fn keys_of_a_provider_are_shown_with_their_state_and_one_that_fails_does_not_leave_it_out() {
        let key = |id: &str, state: v1::BreakerState| v1::ProviderKey {
            id: id.into(),
            weight: 1,
            state: state.into(),
            ..Default::default()
        };
        let breaker = |key: &str, state: v1::BreakerState| v1::ProviderBreaker {
            model: "gpt-4o-mini".into(),
            key: key.into(),
            state: state.into(),
            ..Default::default()
        };
        let mut spent = key("team-c", v1::BreakerState::Closed);
        spent.spent.insert("gpt-4o-mini".into(), time_to_proto(NOW.after(seconds(7))));
        let openai = v1::Provider {
            name: "openai".into(),
            adapter: "openai".into(),
            has_key: true,
            keys: vec![key("team-a", v1::BreakerState::Closed), key("team-b", v1::BreakerState::Open), spent],
            breakers: vec![
                breaker("", v1::BreakerState::Closed),
                v1::ProviderBreaker {
                    cause: "PROVIDER_AUTHENTICATION".into(),
                    since: ago(seconds(20)),
                    until: Some(time_to_proto(NOW.after(seconds(280)))),
                    ..breaker("team-b", v1::BreakerState::Open)
                },
            ],
            ..Default::default()
        };
        insta::assert_snapshot!(providers(&[openai], NOW, Palette::plain(), None));
    }

    #[test]
    fn a_kind_is_shown_with_a_command_to_try() {
        let kind_of = v1::Kind {
            name: "text.generate".into(),
            version: 1,
            description: "generates a text".into(),
            input_schema: r#"{"type":"object"}"#.into(),
            result_schema: r#"{"type":"object"}"#.into(),
            example_input: r#"{"prompt":"what's up?"}"#.into(),
            queue: "llm".into(),
            timeout: span(120),
            max_attempts: 5,
        };
        insta::assert_snapshot!(kind(&kind_of, "callboard", Palette::plain()));
        insta::assert_snapshot!(kinds(&[kind_of], Palette::plain(), None));
    }

    #[test]
    fn alerts_tell_since_when() {
        let alert = v1::Alert {
            rule: "task_failed".into(),
            subject: "echo".into(),
            severity: v1::AlertSeverity::Warning.into(),
            state: v1::AlertState::Firing.into(),
            message: "3 tasks failed for good".into(),
            count: 3,
            first_at: ago(seconds(3_700)),
            last_at: ago(seconds(5)),
            ..Default::default()
        };
        insta::assert_snapshot!(alerts(&[alert], NOW, Palette::plain(), None));
        assert_eq!(alerts(&[], NOW, Palette::plain(), None), "no alerts\n");
    }

    #[test]
    fn an_answer_of_before_says_so() {
        let from = |source: v1::CacheSource, percent| {
            let of = v1::GenerateSummary {
                provider: "openai".into(),
                model: "m".into(),
                from_cache: source.into(),
                similarity_percent: percent,
                ..Default::default()
            };
            summary(&of).rsplit(" out").next().unwrap().to_owned()
        };
        assert_eq!(from(v1::CacheSource::Unspecified, 0), "");
        assert_eq!(from(v1::CacheSource::Exact, 0), ", from the cache");
        assert_eq!(from(v1::CacheSource::Shared, 0), ", to a call for the same");
        assert_eq!(from(v1::CacheSource::Replayed, 0), ", to an earlier call with the same key");
        assert_eq!(from(v1::CacheSource::Similar, 97), ", to a similar call (97 per cent)");
    }

    #[test]
    fn an_answer_says_what_it_cost_and_whether_it_is_degraded() {
        let answer = v1::GenerateSummary {
            provider: "offline".into(),
            model: "offline-template-1".into(),
            input_tokens: 3,
            output_tokens: 20,
            degraded: true,
            degraded_reason: "no provider is configured".into(),
            ..Default::default()
        };
        assert_eq!(
            summary(&answer),
            "answered by offline (offline-template-1), 3 tokens in and 20 out; degraded: no provider is configured"
        );
        let paid = v1::GenerateSummary {
            provider: "openai".into(),
            model: "gpt-4o-mini".into(),
            input_tokens: 100,
            cached_input_tokens: 60,
            output_tokens: 200,
            cost_picodollars: Some(135_000_000),
            usage_estimated: true,
            ..Default::default()
        };
        assert_eq!(
            summary(&paid),
            "answered by openai (gpt-4o-mini), 100 tokens in (60 cached) and 200 out (estimated), $0.000135"
        );
        assert_eq!((generated("a").as_str(), generated("a\u{7}\n").as_str()), ("a\n", "a\n"));
    }
}
