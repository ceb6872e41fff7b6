//! Experiments, for a person.

use super::money::dollars;
use super::style::{Paint, Palette, clean};
use super::table::{Cell, Table};
use callboard_client::v1;

/// What is less likely by chance is taken for a difference.
const CHANCE: f64 = 0.05;

/// Experiments as a table of their arms, and what can be said of each beside the first.
#[must_use]
pub fn experiments(list: &[v1::Experiment], palette: Palette, width: Option<usize>) -> String {
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
        let all: u32 = experiment.arms.iter().map(|arm| arm.share).fold(0, u32::saturating_add);
        for arm in &experiment.arms {
            let calls = arm.successes + arm.failures;
            let known = |count: u64, text: String| if count > 0 { text } else { "-".to_owned() };
            table.row(vec![
                Cell::new(&experiment.name, Paint::Strong),
                Cell::from(&arm.name),
                format!("{:.1} %", 100.0 * f64::from(arm.share) / f64::from(all.max(1))).into(),
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
        let Some((first, others)) = experiment.arms.split_first() else { continue };
        for arm in others {
            out.push_str(&format!(
                "{}, {} beside {}: {}\n",
                clean(&experiment.name),
                clean(&arm.name),
                clean(&first.name),
                compared(arm)
            ));
        }
    }
    out
}

/// What can be said of an arm beside the first.
fn compared(arm: &v1::ExperimentArm) -> String {
    let said = [("success", arm.success_chance), ("time", arm.seconds_chance), ("score", arm.score_chance)]
        .into_iter()
        .filter_map(|(what, chance)| {
            let chance = chance?;
            Some(match chance < CHANCE {
                true if chance < 0.000_1 => format!("{what} differs (p < 0.0001)"),
                true => format!("{what} differs (p = {chance:.4})"),
                false => format!("{what} may be the same (p = {chance:.2})"),
            })
        });
    let said: Vec<_> = said.collect();
    if said.is_empty() { "too few calls to say anything".into() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_shown_beside_the_first() {
        let control = v1::ExperimentArm {
            name: "control".into(),
            share: 90,
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
            successes: 90,
            failures: 10,
            mean_seconds: 0.75,
            tokens: 12_000,
            success_chance: Some(0.000_01),
            seconds_chance: Some(0.3),
            ..Default::default()
        };
        let idle = v1::ExperimentArm { name: "idle".into(), ..Default::default() };
        let list = [v1::Experiment { name: "prices".into(), arms: vec![control, cheap, idle] }];
        insta::assert_snapshot!(experiments(&list, Palette::plain(), None));
        assert_eq!(experiments(&[], Palette::plain(), None), "no experiments\n");
    }
}
