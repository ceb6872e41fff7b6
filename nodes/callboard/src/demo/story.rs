//! What the demo tells once everything has run.

use super::jobs::Outcome;
use super::screen::Screen;
use crate::cli::output::{Palette, tasks};
use anyhow::Context as _;
use callboard_client::{Client, v1};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use std::path::Path;

/// How many interrupted tasks are named.
const NAMED: usize = 12;

fn result(task: &v1::Task) -> anyhow::Result<Value> {
    serde_json::from_slice(&task.result).with_context(|| format!("the result of task {} is no JSON", task.id))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The results of the two large tasks, and a few of the small ones.
pub(super) async fn results(
    client: &Client,
    outcome: &Outcome,
    kept: &Path,
    screen: &Screen,
) -> anyhow::Result<()> {
    let campaign = result(&outcome.campaign)?;
    screen.title("The campaign");
    screen.line(&label(&campaign));
    screen.line(&indent(text(&campaign, "headline")));
    screen.line(&indent(text(&campaign, "body")));
    screen.line(&indent(text(&campaign, "call_to_action")));
    if let Some(digest) = campaign["image"].as_str() {
        let path = kept.join("campaign.png");
        let mut file = tokio::fs::File::create(&path).await.context("cannot write the image")?;
        client.artifact(digest).await?.write_to(&mut file).await?;
        let placeholder = campaign["image_placeholder"].as_bool().unwrap_or_default();
        let kind = if placeholder { "no provider paints: a placeholder image" } else { "the image" };
        screen.line(&format!("  ({kind} is kept in {})", path.display()));
    }

    let policy = result(&outcome.policy)?;
    screen.title("The policy");
    screen.line(&label(&policy));
    screen.line(&format!("  score {} of 100", policy["score"]));
    for (name, key) in [("strength", "strengths"), ("risk", "risks"), ("missing", "missing_clauses")] {
        for item in policy[key].as_array().into_iter().flatten().take(2) {
            screen.line(&format!("  {name:9} {}", item.as_str().unwrap_or_default()));
        }
    }

    screen.title("The batch");
    let small = outcome.tasks.iter().filter(|t| t.kind == "text.generate");
    for task in small.clone().take(3) {
        let full = client.get(&task.id, true).await?;
        screen.line(&format!("  {}", first_line(text(&result(&full)?, "text"))));
    }
    screen.line(&format!("  ... {} texts in all", small.count()));
    Ok(())
}

/// Who made it.
fn label(result: &Value) -> String {
    let providers = match result["providers"].as_array() {
        Some(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        None => text(result, "provider").to_owned(),
    };
    let degraded = match result["degraded_reason"].as_str() {
        Some(reason) => format!("; degraded: {reason}"),
        None => String::new(),
    };
    console::style(format!("  made by: {providers}{degraded}")).dim().to_string()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn first_line(text: &str) -> String {
    let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
    console::truncate_str(line.trim(), 100, "…").into_owned()
}

/// What the kill interrupted, and that nothing was lost.
pub(super) async fn durability(client: &Client, outcome: &Outcome, screen: &Screen) -> anyhow::Result<()> {
    screen.title("The kill");
    let mut interrupted = Vec::new();
    // Attempts count every claim, also those given back; what the kill took has a loss in its log.
    for task in outcome.tasks.iter().filter(|t| t.attempt > 1) {
        let events: Vec<v1::TaskEvent> = client.events_all(&task.id).boxed().try_collect().await?;
        if events.iter().any(|e| e.r#type() == v1::TaskEventType::Lost) {
            let results = events.iter().filter(|e| e.r#type() == v1::TaskEventType::Succeeded).count();
            anyhow::ensure!(results == 1, "task {} has {results} results", task.id);
            interrupted.push((task, events));
        }
    }
    anyhow::ensure!(!interrupted.is_empty(), "the kill interrupted no task: there was nothing to prove");
    screen.line(&format!("  {} tasks ran when the process was killed:", interrupted.len()));
    for (task, _) in interrupted.iter().take(NAMED) {
        let short = &task.id[task.id.len().saturating_sub(8)..];
        screen.line(&format!("  {short}  {:18} succeeded on attempt {}", task.kind, task.attempt));
    }
    screen.line(&format!(
        "  Acknowledged: {}. Succeeded: {}. Lost: 0.",
        outcome.tasks.len(),
        outcome.tasks.iter().filter(|t| t.state() == v1::TaskState::Succeeded).count()
    ));
    // The most telling timeline: the one with the most lines.
    if let Some((task, events)) = interrupted.iter().max_by_key(|(_, events)| events.len()) {
        screen.title(&format!("The timeline of {} {}", task.kind, task.id));
        screen.line(tasks::timeline(events, Palette::new(console::colors_enabled()), None).trim_end());
    }
    Ok(())
}
