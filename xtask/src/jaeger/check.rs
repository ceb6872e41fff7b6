//! What must hold of the traces of campaigns.
//!
//! Each check is a function of what Jaeger answered: it says what is missing, and nothing if it holds.

use super::trace::{Span, Trace};

/// How the trace of a task begins that is submitted by a call of its own.
const CALL: &str = "SERVER callboard.v1.TaskService/SubmitTask";
/// What serves a call of the broker on another replica.
const BROKER: &str = "SERVER callboard.mesh.v1.ProviderBrokerService/";

/// A campaign from its task on. A line that ends in `*` is there only if the broker is on another replica.
const CAMPAIGN: &str = "
PRODUCER create default
  CONSUMER process default
    CLIENT callboard.mesh.v1.ProviderBrokerService/Generate
      SERVER callboard.mesh.v1.ProviderBrokerService/Generate *
        INTERNAL broker chat
          CLIENT chat offline-template-1
    CLIENT callboard.mesh.v1.ProviderBrokerService/GenerateImage
      SERVER callboard.mesh.v1.ProviderBrokerService/GenerateImage *
        INTERNAL broker generate_image
          CLIENT generate_image offline-placeholder-1
    INTERNAL record
";

/// What each span says of itself, by the beginning of its label.
const ATTRIBUTES: [(&str, &[&str]); 6] = [
    ("SERVER callboard.", &["rpc.system", "rpc.service", "rpc.method"]),
    ("CLIENT callboard.", &["rpc.system", "rpc.service", "rpc.method"]),
    (
        "PRODUCER create ",
        &[
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.message.id",
            "callboard.task.kind",
        ],
    ),
    (
        "CONSUMER process ",
        &[
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.message.id",
            "callboard.task.kind",
            "callboard.attempt",
            "callboard.outcome",
        ],
    ),
    ("CLIENT chat ", MODEL),
    ("CLIENT generate_image ", MODEL),
];

/// What a call of a model says of itself.
const MODEL: &[&str] = &[
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
];

/// What each process says of itself.
const PROCESS: [&str; 3] = ["service.name", "service.instance.id", "service.version"];

/// How a task was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    /// By a call of its own: the call is the first span.
    Alone,
    /// With others: the first span is the task's own, and it is linked to the call.
    InBatch,
}

/// The first span of a task's trace, and no other is without a cause.
pub(super) fn root(trace: &Trace, submitted: Submitted) -> Vec<String> {
    let expected = match submitted {
        Submitted::Alone => CALL,
        Submitted::InBatch => "PRODUCER create default",
    };
    let roots: Vec<String> = trace.roots().map(Span::label).collect();
    if roots == [expected] { Vec::new() } else { vec![format!("the roots are {roots:?}, not {expected}")] }
}

/// Every span's cause is there.
pub(super) fn causes(trace: &Trace) -> Vec<String> {
    let lost = |span: &Span| format!("the cause of {} on {}", span.label(), span.replica());
    trace.orphans().map(lost).collect()
}

/// The spans of a campaign, each below what caused it, and no other.
pub(super) fn shape(trace: &Trace, submitted: Submitted) -> Vec<String> {
    let crosses = crossing(trace).is_some();
    let mut expected = campaign(submitted, crosses);
    let mut wrong = Vec::new();
    for span in &trace.spans {
        let way = trace.way(span);
        match expected.iter().position(|one| *one == way) {
            Some(index) => drop(expected.swap_remove(index)),
            None => wrong.push(format!("{} is not expected", shown(&way))),
        }
    }
    let missing = expected.iter().map(|way| format!("{} is missing", shown(way)));
    missing.chain(wrong.iter().cloned()).collect()
}

fn shown(way: &[String]) -> String {
    way.iter().take(2).cloned().collect::<Vec<_>>().join(", below ")
}

/// The ways to all spans of a campaign.
fn campaign(submitted: Submitted, crosses: bool) -> Vec<Vec<String>> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut ways = Vec::new();
    let mut add = |depth: usize, label: &str| {
        open.retain(|(above, _)| *above < depth);
        open.push((depth, label.to_owned()));
        ways.push(open.iter().rev().map(|(_, label)| label.clone()).collect());
    };
    if submitted == Submitted::Alone {
        add(0, CALL);
    }
    for line in CAMPAIGN.lines().filter(|line| !line.is_empty()) {
        let label = line.trim_start();
        let depth = 1 + line.len() - label.len();
        match label.strip_suffix(" *") {
            Some(label) if crosses => add(depth, label),
            Some(_) => {}
            None => add(depth, label),
        }
    }
    ways
}

/// The replicas that submitted, ran and asked the model, if the model was asked on another than it ran on.
pub(super) fn crossing(trace: &Trace) -> Option<[&str; 3]> {
    let of = |label: &str| trace.spans.iter().find(|span| span.label().starts_with(label)).map(Span::replica);
    let ran = of("CONSUMER process ")?;
    let asked = of("INTERNAL broker ")?;
    (ran != asked).then_some([of("PRODUCER create ")?, ran, asked])
}

/// What the spans and their processes say of themselves, by the conventions of OpenTelemetry.
pub(super) fn attributes(trace: &Trace, task: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for span in &trace.spans {
        let label = span.label();
        let wanted = ATTRIBUTES.iter().filter(|(begins, _)| label.starts_with(begins));
        for attribute in wanted.flat_map(|(_, attributes)| *attributes) {
            if span.get(attribute).is_empty() {
                missing.push(format!("{attribute} of {label}"));
            }
        }
        for attribute in PROCESS {
            if span.process.get(attribute).is_none_or(String::is_empty) {
                missing.push(format!("{attribute} of the process of {label}"));
            }
        }
        if let Some(id) = span.attributes.get("messaging.message.id")
            && id != task
        {
            missing.push(format!("messaging.message.id of {label} is {id}, not {task}"));
        }
        if let Some(node) = span.attributes.get("callboard.node")
            && node != span.replica()
        {
            missing.push(format!("{label} is of node {node}, and was sent by {}", span.replica()));
        }
    }
    missing
}

/// Every attempt is linked to the message that brought it: the traces of these messages, or what is missing.
pub(super) fn messages(trace: &Trace) -> Result<Vec<&str>, String> {
    let attempts: Vec<&Span> = trace.of("CONSUMER").collect();
    if attempts.is_empty() {
        return Err("there is no attempt".into());
    }
    attempts
        .iter()
        .map(|attempt| {
            let link = attempt.links.first().map(String::as_str);
            link.ok_or_else(|| format!("attempt {} has no link", attempt.get("callboard.attempt")))
        })
        .collect()
}

/// The trace of a message that brought tasks: its sending.
pub(super) fn sent(trace: &Trace) -> Vec<String> {
    let Some(span) = trace.of("PRODUCER").find(|span| span.name.starts_with("send ")) else {
        return vec![format!("the sending of a message, in trace {}", trace.id)];
    };
    let mut missing = Vec::new();
    if span.get("messaging.system") != "rabbitmq" {
        missing.push(format!("messaging.system of {} is `{}`", span.label(), span.get("messaging.system")));
    }
    for attribute in
        ["messaging.operation.type", "messaging.destination.name", "messaging.batch.message_count"]
    {
        if span.get(attribute).is_empty() {
            missing.push(format!("{attribute} of {}", span.label()));
        }
    }
    missing
}

/// A task that was run again because its replica was killed: one root, the later attempt in the same trace on
/// another replica, its end recorded. What had not left the killed replica is lost, so that what the broker did for it
/// may be without its cause; nothing else may be.
pub(super) fn run_again(trace: &Trace, killed: &str) -> Vec<String> {
    let mut missing = root(trace, Submitted::Alone);
    let unexplained = trace.orphans().filter(|span| !span.label().starts_with(BROKER));
    missing.extend(unexplained.map(|span| format!("the cause of {}", span.label())));
    let again = trace.of("CONSUMER").find(|span| span.get("callboard.attempt") != "1");
    match again {
        None => missing.push("the later attempt".into()),
        Some(span) if span.replica() == killed => missing.push(format!("the later attempt is on {killed}")),
        Some(span) => {
            if trace.parent(span).is_none_or(|parent| !parent.label().starts_with("PRODUCER create ")) {
                missing.push("the later attempt is not below its task".into());
            }
            let below = |label: &str| {
                trace.spans.iter().any(|one| {
                    one.label() == label && trace.parent(one).is_some_and(|parent| parent.id == span.id)
                })
            };
            if !below("INTERNAL record") {
                missing.push("the record of the later attempt".into());
            }
            if span.get("callboard.outcome") != "succeeded" {
                missing.push(format!("the later attempt ended as `{}`", span.get("callboard.outcome")));
            }
        }
    }
    missing
}
