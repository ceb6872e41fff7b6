//! Experiments, for a person.

use super::money::dollars;
use super::style::{Paint, Palette, clean};
use super::table::{Cell, Table};
use super::time::{point, relative};
use callboard_client::v1;
use callboard_domain::Timestamp;

/// Experiments as a table of their arms, who has set their shares, and what can be said of each arm beside the first.
#[must_use]
pub fn experiments(
    list: &[v1::Experiment],
    now: Timestamp,
    palette: Palette,
    width: Option<usize>,
) -> String {
    if list.is_empty() {
        return "no experiments\n".to_owned();
    }
    let mut table = Table::new(&[
        "EXPERIMENT",
        "ARM",
        ">SHARE",
        ">ANSWERED",
        ">FAILED",
        ">SUCCESS",
        ">TIME",
        ">TOKENS",
        ">COST",
        ">SCORE",
    ]);
    for experiment in list {
        for arm in &experiment.arms {
            let calls = arm.successes + arm.failures;
            let known = |count: u64, text: String| if count > 0 { text } else { "-".to_owned() };
            table.row(vec![
                Cell::new(&experiment.name, Paint::Strong),
                Cell::from(&arm.name),
                format!("{:.1} %", 100.0 * arm.fraction).into(),
                arm.successes.to_string().into(),
                arm.failures.to_string().into(),
                known(calls, format!("{:.1} %", 100.0 * arm.successes as f64 / calls.max(1) as f64)).into(),
                known(arm.successes, format!("{:.3} s", arm.mean_seconds)).into(),
                arm.tokens.to_string().into(),
                known(arm.cost_picodollars.unsigned_abs(), dollars(arm.cost_picodollars)).into(),
                known(arm.scores, format!("{:.3} ({})", arm.mean_score, arm.scores)).into(),
            ]);
        }
    }
    let mut out = table.render(palette, width);
    out.push('\n');
    for experiment in list {
        if let Some(set) = &experiment.shares {
            out.push_str(&format!("{}: {}\n", clean(&experiment.name), by(set, now)));
        }
        for arm in experiment.arms.iter().filter(|arm| !arm.verdict.is_empty()) {
            let chances = chances(arm).map(|chances| format!(" ({chances})")).unwrap_or_default();
            out.push_str(&format!("{}: {}{chances}\n", clean(&experiment.name), clean(&arm.verdict)));
        }
    }
    out
}

/// Who has set shares, when and why.
fn by(set: &v1::ExperimentShares, now: Timestamp) -> String {
    let at = point(set.at.as_ref()).map_or_else(String::new, |at| format!(" {}", relative(at, now)));
    let who = if set.author.is_empty() { String::new() } else { format!(" ({})", clean(&set.author)) };
    let why = if set.reason.is_empty() { String::new() } else { format!(": {}", clean(&set.reason)) };
    let what = match set.outdated {
        true => "shares that were set are not in force, as it has other arms by now;",
        false => "the shares are not those of the configuration, they were set",
    };
    format!("{what}{at}{who}{why}")
}

/// How likely the differences are by chance; nothing if that is not known of any.
fn chances(arm: &v1::ExperimentArm) -> Option<String> {
    let all = [
        ("success", arm.success_chance),
        ("time", arm.seconds_chance),
        ("cost", arm.cost_chance),
        ("score", arm.score_chance),
    ];
    let shown = all.into_iter().filter_map(|(what, chance)| {
        let chance = chance?;
        Some(if chance < 0.000_1 { format!("{what} p < 0.0001") } else { format!("{what} p = {chance:.4}") })
    });
    let shown: Vec<_> = shown.collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_shown_beside_the_first() {
        let control = v1::ExperimentArm {
            name: "control".into(),
            share: 90,
            fraction: 0.75,
            successes: 900,
            failures: 9,
            mean_seconds: 1.25,
            tokens: 123_456,
            cost_picodollars: 1_250_000_000_000,
            scores: 20,
            mean_score: 0.8,
            ..Default::default()
        };
        let cheap = v1::ExperimentArm {
            name: "cheap".into(),
            share: 10,
            fraction: 0.25,
            successes: 90,
            failures: 10,
            mean_seconds: 0.75,
            tokens: 12_000,
            success_chance: Some(0.000_01),
            seconds_chance: Some(0.3),
            verdict: "`cheap` is worse than `control`: fewer succeed (90.0 % against 99.0 %, p < 0.0001)"
                .into(),
            ..Default::default()
        };
        let idle = v1::ExperimentArm {
            name: "idle".into(),
            verdict: "too early to say: `idle` has 0 calls, at least 30 are needed".into(),
            ..Default::default()
        };
        let at = Some(prost_types::Timestamp::default());
        let (reason, author) = ("no complaints".into(), "ops".into());
        let shares = Some(v1::ExperimentShares { reason, author, at, outdated: false });
        let list = [v1::Experiment { name: "prices".into(), arms: vec![control, cheap, idle], shares }];
        let now = Timestamp::from_micros(60_000_000);
        insta::assert_snapshot!(experiments(&list, now, Palette::plain(), None));
        assert_eq!(experiments(&[], now, Palette::plain(), None), "no experiments\n");
    }
}
