//! The checks, on answers of a real Jaeger, and on what a fault would make of them.

use super::check::{self, Submitted};
use super::trace::{self, Span, Trace};
use super::{Asked, run};

/// The task of [`campaign`].
const TASK: &str = "01a22a17-441a-7132-ae51-50b79fcf163a";

/// A campaign that ran on `b` and asked the model on `c`.
fn campaign() -> Trace {
    trace::read(include_str!("answers/campaign.json")).unwrap().remove(0)
}

/// A campaign whose replica `b` was killed.
fn killed() -> Trace {
    trace::read(include_str!("answers/killed.json")).unwrap().remove(0)
}

/// Everything that must hold of a campaign.
fn missing(trace: &Trace) -> Vec<String> {
    let mut missing = check::root(trace, Submitted::Alone);
    missing.extend(check::causes(trace));
    missing.extend(check::shape(trace, Submitted::Alone));
    missing.extend(check::attributes(trace, TASK));
    missing.extend(check::messages(trace).err());
    missing
}

fn span<'a>(trace: &'a mut Trace, label: &str) -> &'a mut Span {
    trace.spans.iter_mut().find(|span| span.label() == label).unwrap()
}

fn without(mut trace: Trace, label: &str) -> Trace {
    trace.spans.retain(|span| span.label() != label);
    trace
}

#[test]
fn a_real_answer_holds() {
    let trace = campaign();
    assert_eq!(missing(&trace), [""; 0]);
    assert_eq!(check::crossing(&trace), Some(["a", "b", "c"]));
    assert_eq!(check::messages(&trace).unwrap().len(), 1);
}

#[test]
fn a_span_that_is_lost_is_missed_and_so_is_the_cause_of_what_it_caused() {
    let lost = missing(&without(campaign(), "INTERNAL record"));
    assert_eq!(lost, ["INTERNAL record, below CONSUMER process default is missing"]);
    let lost = missing(&without(campaign(), "CONSUMER process default"));
    assert!(lost.contains(&"the cause of INTERNAL record on b".to_owned()), "{lost:?}");
    assert!(lost.contains(&"there is no attempt".to_owned()), "{lost:?}");
    let lost = missing(&without(campaign(), "SERVER callboard.v1.TaskService/SubmitTask"));
    assert_eq!(lost[0], "the roots are [], not SERVER callboard.v1.TaskService/SubmitTask");
}

#[test]
fn a_span_of_another_kind_or_below_another_cause_does_not_hold() {
    let mut trace = campaign();
    span(&mut trace, "CONSUMER process default").kind = "INTERNAL".into();
    assert!(!check::shape(&trace, Submitted::Alone).is_empty());
    let mut trace = campaign();
    let root = trace.roots().next().unwrap().id.clone();
    span(&mut trace, "INTERNAL record").parent = Some(root);
    assert_eq!(
        check::shape(&trace, Submitted::Alone),
        [
            "INTERNAL record, below CONSUMER process default is missing",
            "INTERNAL record, below SERVER callboard.v1.TaskService/SubmitTask is not expected"
        ]
    );
}

#[test]
fn an_attempt_that_is_there_twice_does_not_hold() {
    let mut trace = campaign();
    let mut again = span(&mut trace, "CONSUMER process default").clone();
    again.id = "another".into();
    trace.spans.push(again);
    let wrong = check::shape(&trace, Submitted::Alone);
    assert_eq!(wrong, ["CONSUMER process default, below PRODUCER create default is not expected"]);
}

#[test]
fn a_campaign_of_a_batch_begins_with_its_task() {
    let mut trace = without(campaign(), "SERVER callboard.v1.TaskService/SubmitTask");
    span(&mut trace, "PRODUCER create default").parent = None;
    assert_eq!(check::root(&trace, Submitted::InBatch), [""; 0]);
    assert_eq!(check::shape(&trace, Submitted::InBatch), [""; 0]);
    assert!(!check::root(&trace, Submitted::Alone).is_empty());
}

#[test]
fn where_the_broker_is_at_hand_nothing_is_served_over_the_mesh() {
    let mut trace = campaign();
    for method in ["Generate", "GenerateImage"] {
        let mesh = format!("callboard.mesh.v1.ProviderBrokerService/{method}");
        let served = span(&mut trace, &format!("SERVER {mesh}")).clone();
        let below = trace.spans.iter_mut().find(|span| span.parent.as_ref() == Some(&served.id)).unwrap();
        below.parent = served.parent.clone();
        trace = without(trace, &served.label());
    }
    // Crossing, its absence is a fault.
    assert_eq!(check::shape(&trace, Submitted::Alone).len(), 10);
    for span in &mut trace.spans {
        span.process.insert("service.instance.id".into(), "c".into());
    }
    assert_eq!(check::crossing(&trace), None);
    assert_eq!(check::shape(&trace, Submitted::Alone), [""; 0]);
}

#[test]
fn attributes_that_are_not_said_or_wrong_are_missed() {
    for (label, attribute) in [
        ("SERVER callboard.v1.TaskService/SubmitTask", "rpc.method"),
        ("PRODUCER create default", "messaging.destination.name"),
        ("CONSUMER process default", "callboard.attempt"),
        ("CLIENT chat offline-template-1", "gen_ai.usage.output_tokens"),
    ] {
        let mut trace = campaign();
        span(&mut trace, label).attributes.remove(attribute).unwrap();
        assert_eq!(check::attributes(&trace, TASK), [format!("{attribute} of {label}")]);
    }
    let mut trace = campaign();
    trace.spans[0].process.remove("service.instance.id");
    assert_eq!(check::attributes(&trace, TASK).len(), 1);
    // The spans of two tasks in one trace.
    assert_eq!(check::attributes(&campaign(), "another").len(), 2);
}

#[test]
fn an_attempt_without_its_message_is_named() {
    let mut trace = campaign();
    span(&mut trace, "CONSUMER process default").links.clear();
    assert_eq!(check::messages(&trace).unwrap_err(), "attempt 1 has no link");
    // What it is linked to must be the sending of a message.
    assert!(check::sent(&trace)[0].starts_with("the sending of a message"));
}

#[test]
fn a_task_that_is_run_again_is_one_tree_but_for_what_died() {
    let trace = killed();
    assert_eq!(check::run_again(&trace, "b"), [""; 0]);
    assert!(trace.orphans().count() > 0, "the killed replica had asked another");
    assert!(!missing(&trace).is_empty(), "it is no campaign that nothing happened to");
    assert_eq!(check::run_again(&trace, "c"), ["the later attempt is on c"]);
    let lost = check::run_again(&without(trace.clone(), "CONSUMER process default"), "b");
    assert!(lost.contains(&"the later attempt".to_owned()), "{lost:?}");
    assert!(lost.contains(&"the cause of INTERNAL record".to_owned()), "{lost:?}");
    let lost = check::run_again(&without(trace, "INTERNAL record"), "b");
    assert_eq!(lost, ["the record of the later attempt"]);
}

#[test]
fn a_person_reads_a_tree() {
    let text = campaign().shown();
    let lines: Vec<&str> = text.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(lines[0], "SERVER");
    let third: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(third[..4], ["CONSUMER", "process", "default", "b"]);
    assert_eq!(third[5..], [third[5], "ms", "attempt", "1,", "succeeded"]);
    assert_eq!(text.lines().count(), campaign().spans.len());
    assert!(killed().shown().contains("\n?  (its cause was lost)\nSERVER      callboard.mesh"));
}

#[test]
fn an_answer_that_goes_round_is_shown_all_the_same() {
    let mut trace = campaign();
    let last = span(&mut trace, "INTERNAL record").id.clone();
    let root = trace.spans.iter().position(|span| span.parent.is_none()).unwrap();
    trace.spans[root].parent = Some(last);
    assert_eq!(trace.shown(), "");
    assert!(
        !check::root(&trace, Submitted::Alone).is_empty()
            && !check::shape(&trace, Submitted::Alone).is_empty()
    );
}

#[test]
fn what_is_no_answer_is_refused() {
    for wrong in ["", "{}", r#"{"data": null}"#, r#"{"data": [{"traceID": "1"}]}"#] {
        assert!(trace::read(wrong).is_err(), "{wrong}");
    }
    assert_eq!(trace::read(r#"{"data": []}"#).unwrap(), []);
}

#[test]
fn options_are_read_and_what_is_none_is_named() {
    let parse = |line: &str| Asked::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(parse("--keep --no-build").unwrap(), Some(Asked { keep: true, no_build: true }));
    assert_eq!(parse("").unwrap(), Some(Asked::default()));
    assert_eq!(parse("--keep --help").unwrap(), None);
    let error = run(&["--keeps".to_owned()]).unwrap_err().to_string();
    assert!(error.starts_with("there is no option `--keeps`\nusage: cargo xtask jaeger"), "{error}");
}
