//! `doctor`: looks at one thing after the other, and says what to do about each.

use crate::cli::args::DoctorArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::local;
use crate::cli::output::doctor::{Check, Json, Level, render};
use crate::cli::output::time::{duration, now, point, relative, span};
use callboard_client::{Client, Error, Options, v1};
use callboard_domain::Timestamp;
use std::time::Duration;

/// How far two clocks may be apart.
const SKEW: Duration = Duration::from_secs(2);
/// How long a task may wait before that is worth a look.
const WAIT: Duration = Duration::from_secs(60);
/// How recent a provider's error is still news.
const NEWS: Duration = Duration::from_secs(600);

/// What a node told about itself.
struct Facts {
    cluster: v1::GetClusterResponse,
    nodes: Vec<v1::Node>,
    providers: Vec<v1::Provider>,
    alerts: Vec<v1::Alert>,
    /// This machine's clock, half way through the call that told the store's.
    asked_at: Timestamp,
}

pub(super) async fn run(context: &mut Context, args: DoctorArgs) -> Result<(), Failure> {
    let checks = if args.config.is_some() || args.data_dir.is_some() {
        local::doctor(&args)?
    } else {
        remote(context).await?
    };
    if context.out.is_json() {
        context.out.document(&Json { checks: &checks })?;
    } else {
        context.out.text(&render(&checks, context.out.palette()))?;
    }
    match checks.iter().filter(|c| c.level == Level::Fail).count() {
        0 => Ok(()),
        1 => Err(Failure::Task("1 check failed".to_owned())),
        failed => Err(Failure::Task(format!("{failed} checks failed"))),
    }
}

async fn remote(context: &Context) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    let mut answered = None;
    for address in &context.client.options().addresses {
        // Each on its own: a client of all would hide those that are away.
        let options = Options {
            addresses: vec![address.clone()],
            patience: Duration::ZERO,
            timeout: Duration::from_secs(5),
            ..context.client.options().clone()
        };
        match facts(&Client::connect(options)?).await {
            Ok(facts) => {
                checks
                    .push(Check::ok("address", format!("{address} answers as node {}", facts.cluster.node)));
                answered.get_or_insert(facts);
            }
            Err(error) => checks.push(away(address, &error, &context.program)),
        }
    }
    if let Some(facts) = &answered {
        checks.extend(examine(facts, env!("CARGO_PKG_VERSION"), now(), &context.program));
    }
    Ok(checks)
}

async fn facts(client: &Client) -> Result<Facts, Error> {
    let before = now();
    let cluster = client.cluster().await?;
    let asked_at = before.after(now().since(before) / 2);
    let nodes = client.nodes().await?;
    let providers = client.providers().await?;
    let request = v1::ListAlertsRequest { page_size: 100, active_only: true, ..Default::default() };
    let alerts = client.alerts(request).await?.alerts;
    Ok(Facts { cluster, nodes, providers, alerts, asked_at })
}

fn away(address: &str, error: &Error, program: &str) -> Check {
    if error.is_unreachable() {
        let advice = format!("start a node with `{program} up`, or name its address with --addr");
        return Check::fail("address", error.message.clone(), advice);
    }
    let advice = "is it a Callboard node? 7070 is the API's port, 7072 is for health and metrics";
    Check::fail("address", format!("{address} is open, but does not answer: {}", error.message), advice)
}

/// What there is to say about a node that answers.
fn examine(facts: &Facts, version: &str, now: Timestamp, program: &str) -> Vec<Check> {
    let mut checks = vec![versions(facts, version), clock(facts)];
    checks.extend(facts.nodes.iter().map(node));
    checks.push(waiting(facts, program));
    checks.push(alerts(facts, program));
    checks.extend(providers(facts, now));
    checks
}

fn versions(facts: &Facts, version: &str) -> Check {
    let theirs = &facts.cluster.version;
    if theirs == version {
        return Check::ok("version", format!("{version}, here and there"));
    }
    Check::warn("version", format!("{version} here, {theirs} there"), "run the same version on both sides")
}

fn clock(facts: &Facts) -> Check {
    let Some(theirs) = point(facts.cluster.time.as_ref()) else {
        return Check::warn("clock", "the node does not tell its time", "run the same version on both sides");
    };
    let skew = theirs.since(facts.asked_at).max(facts.asked_at.since(theirs));
    if skew <= SKEW {
        return Check::ok("clock", format!("within {} of the node's", span(SKEW)));
    }
    let advice = "set both clocks by NTP: `--at` is compared with the node's clock";
    Check::warn("clock", format!("{} apart from the node's", span(skew)), advice)
}

fn node(node: &v1::Node) -> Check {
    let restarts: u64 = node.actor_restarts.values().sum();
    let data = if node.data_dir.is_empty() { String::new() } else { format!(", data in {}", node.data_dir) };
    let text = format!("{}: {} of {} slots taken{data}", node.name, node.slots_used, node.slots);
    if node.draining {
        return Check::warn(
            "node",
            format!("{text}; it is draining"),
            "it takes no more tasks: wait for its end",
        );
    }
    if restarts > 0 {
        let advice = "an actor failed and was restarted: its log says why";
        return Check::warn("node", format!("{text}; {restarts} actor restarts"), advice);
    }
    Check::ok("node", text)
}

fn waiting(facts: &Facts, program: &str) -> Check {
    let waits = facts.cluster.queues.iter().filter_map(|q| Some((q, duration(q.oldest_wait.as_ref())?)));
    let Some((queue, wait)) = waits.max_by_key(|(_, wait)| *wait) else {
        return Check::ok("queues", "no task waits");
    };
    let text = format!("the oldest task of queue {} has waited {}", queue.queue, span(wait));
    if wait <= WAIT {
        return Check::ok("queues", text);
    }
    let (slots, used) =
        facts.nodes.iter().fold((0, 0), |(all, used), n| (all + n.slots, used + n.slots_used));
    if used >= slots {
        return Check::warn("queues", text, "all slots are taken: give the node more with --slots");
    }
    let advice = format!(
        "slots are free, so no node may run its kind: compare `{program} get {}` with `{program} kinds`",
        queue.oldest_task_id
    );
    Check::warn("queues", text, advice)
}

fn alerts(facts: &Facts, program: &str) -> Check {
    let firing: Vec<_> = facts.alerts.iter().filter(|a| a.state() == v1::AlertState::Firing).collect();
    let Some(first) = firing.first() else { return Check::ok("alerts", "none is firing") };
    let text =
        format!("{} firing, such as {} for {}: {}", firing.len(), first.rule, first.subject, first.message);
    Check::warn("alerts", text, format!("`{program} alerts` shows them"))
}

fn providers(facts: &Facts, now: Timestamp) -> Vec<Check> {
    let mut checks = Vec::new();
    for provider in facts.providers.iter().filter(|p| p.adapter != "offline") {
        let text = format!("{} at {}", provider.name, provider.base_url);
        let recent = point(provider.last_error_at.as_ref()).filter(|at| now.since(*at) < NEWS);
        checks.push(match recent {
            Some(at) if !provider.last_error.is_empty() => {
                let text = format!("{text}: {} {}", provider.last_error, relative(at, now));
                Check::warn("provider", text, mend(&provider.last_error, &provider.adapter))
            }
            _ if !provider.has_key => Check::ok("provider", format!("{text}, without a key")),
            _ => Check::ok("provider", format!("{text}, with a key")),
        });
    }
    if checks.is_empty() {
        let advice = "start the node with OPENAI_API_KEY set, or with --openai-base-url";
        checks.push(Check::warn("provider", "only the offline generator answers", advice));
    }
    checks
}

fn mend(error: &str, adapter: &str) -> &'static str {
    match error.strip_prefix("PROVIDER_").unwrap_or(error) {
        "AUTHENTICATION" if adapter == "openai" => {
            "the key is missing or wrong: set OPENAI_API_KEY for the node and start it again"
        }
        "AUTHENTICATION" => {
            "the key is missing or wrong: correct it where the configuration says, and start the node again"
        }
        "QUOTA_EXCEEDED" => "the account has no credit left: add some, or configure another provider",
        "RATE_LIMITED" | "OVERLOADED" => "it passes by itself; another provider as fallback helps meanwhile",
        "CONNECTION" | "TIMEOUT" => "is its address right, and reachable from the node?",
        "INVALID_REQUEST" => "does it know the configured model?",
        _ => "the node's log has the details",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Palette;
    use crate::cli::values::{span_to_proto, time_to_proto};
    use callboard_domain::llm::ErrorKind;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn healthy() -> Facts {
        let node = v1::Node { name: "a".into(), slots: 8, data_dir: "/data".into(), ..Default::default() };
        let provider = v1::Provider {
            name: "openai".into(),
            adapter: "openai".into(),
            base_url: "https://api.openai.com/v1".into(),
            has_key: true,
            ..Default::default()
        };
        Facts {
            cluster: v1::GetClusterResponse {
                version: "1.0.0".into(),
                node: "a".into(),
                time: Some(time_to_proto(NOW)),
                ..Default::default()
            },
            nodes: vec![node],
            providers: vec![provider],
            alerts: Vec::new(),
            asked_at: NOW,
        }
    }

    #[test]
    fn a_healthy_node_gives_no_warning() {
        let checks = examine(&healthy(), "1.0.0", NOW, "callboard");
        assert!(checks.iter().all(|c| c.level == Level::Ok), "{checks:?}");
        insta::assert_snapshot!(render(&checks, Palette::plain()));
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_what_to_do() {
        let mut facts = healthy();
        facts.asked_at = NOW.after(Duration::from_secs(90));
        facts.nodes[0].slots_used = 8;
        facts.nodes[0].actor_restarts.insert("worker".into(), 2);
        facts.cluster.queues.push(v1::QueueStatus {
            queue: "llm".into(),
            oldest_wait: Some(span_to_proto(Duration::from_secs(300))),
            oldest_task_id: "7".into(),
            ..Default::default()
        });
        facts.alerts.push(v1::Alert {
            rule: "task_failed".into(),
            subject: "echo".into(),
            message: "3 tasks failed".into(),
            state: v1::AlertState::Firing.into(),
            ..Default::default()
        });
        facts.providers[0].last_error = "AUTHENTICATION".into();
        facts.providers[0].last_error_at = Some(time_to_proto(NOW));
        let checks = examine(&facts, "1.1.0", NOW, "callboard");
        assert!(checks.iter().all(|c| c.level == Level::Warn && c.advice.is_some()), "{checks:?}");
        insta::assert_snapshot!(render(&checks, Palette::plain()));
    }

    #[test]
    fn without_a_provider_it_says_where_answers_come_from() {
        let facts = Facts { providers: Vec::new(), ..healthy() };
        let last = examine(&facts, "1.0.0", NOW, "callboard").pop().unwrap();
        assert_eq!((last.name, last.level), ("provider", Level::Warn));
    }

    #[test]
    fn a_wrong_key_is_sought_where_that_provider_has_it() {
        let said = |adapter: &str| {
            let mut facts = healthy();
            facts.providers[0].adapter = adapter.into();
            facts.providers[0].last_error = ErrorKind::Authentication.reason().into();
            facts.providers[0].last_error_at = Some(time_to_proto(NOW));
            providers(&facts, NOW).pop().unwrap().advice.unwrap()
        };
        assert!(said("openai").contains("OPENAI_API_KEY"));
        assert!(!said("anthropic").contains("OPENAI_API_KEY"));
    }

    #[test]
    fn a_wait_with_free_slots_points_at_the_kinds() {
        let mut facts = healthy();
        facts.cluster.queues.push(v1::QueueStatus {
            queue: "llm".into(),
            oldest_wait: Some(span_to_proto(Duration::from_secs(61))),
            oldest_task_id: "0c07398f".into(),
            ..Default::default()
        });
        assert!(waiting(&facts, "cb").advice.unwrap().contains("`cb get 0c07398f`"));
    }
}
