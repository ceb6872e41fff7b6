//! What calls cost, and how quotas and budgets stand.

use super::style::clean;
use super::time::{point, relative};
use callboard_client::v1;
use callboard_domain::{Money, Timestamp};

/// An amount of picodollars: `$0.000135`.
pub(super) fn dollars(amount: i64) -> String {
    let text = Money::from_picodollars(amount).to_string();
    match text.strip_prefix('-') {
        Some(text) => format!("-${text}"),
        None => format!("${text}"),
    }
}

/// The same, to the cent, for what is no single call; where that would show little or nothing, to a millionth of a dollar.
fn cents(amount: i64) -> String {
    const CENT: i64 = 10_000_000_000;
    const MICRO: i64 = 1_000_000;
    let unit = if amount.saturating_abs() < 10 * CENT { MICRO } else { CENT };
    dollars(amount.saturating_add(unit / 2).div_euclid(unit).saturating_mul(unit))
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// When what is used begins anew, and whether it is spent before.
fn ahead(
    spent: bool,
    spent_at: Option<&prost_types::Timestamp>,
    resets_at: Option<&prost_types::Timestamp>,
    now: Timestamp,
) -> String {
    let anew = point(resets_at).map_or_else(String::new, |at| format!("; begins anew {}", relative(at, now)));
    match point(spent_at) {
        _ if spent => format!(": all of it{anew}"),
        Some(at) => format!("; at this rate all {}{anew}", relative(at, now)),
        None => anew,
    }
}

/// A line for each provider that was paid, each quota and each budget.
#[must_use]
pub fn used(providers: &[v1::Provider], budgets: &[v1::Budget], now: Timestamp) -> String {
    let mut out = String::new();
    for provider in providers {
        let name = clean(&provider.name);
        if let Some(spent) = provider.spent_today_picodollars.filter(|spent| *spent != 0) {
            out.push_str(&format!("{name}: {} today\n", cents(spent)));
        }
        for quota in &provider.quotas {
            let ahead =
                ahead(quota.used >= quota.limit, quota.spent_at.as_ref(), quota.resets_at.as_ref(), now);
            let (used, limit) = (grouped(quota.used), grouped(quota.limit));
            out.push_str(&format!("{name}, {}: {used} of {limit} used{ahead}\n", clean(&quota.name)));
        }
    }
    for budget in budgets {
        let (spent, limit) = (budget.spent_picodollars, budget.limit_picodollars);
        let ahead = ahead(spent >= limit, budget.spent_at.as_ref(), budget.resets_at.as_ref(), now);
        let namespace = clean(&budget.namespace);
        out.push_str(&format!(
            "budget of {namespace}: {} of {} spent today{ahead}\n",
            cents(spent),
            cents(limit)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, seconds};
    use super::*;
    use callboard_domain::convert::time_to_proto;

    #[test]
    fn quotas_and_budgets_say_how_much_is_used_and_for_how_long_the_rest_will_do() {
        let at = |span| Some(time_to_proto(NOW.after(seconds(span))));
        let quota = |name: &str, used, limit, spent_at| v1::ProviderQuota {
            name: name.into(),
            used,
            limit,
            resets_at: at(7_200),
            spent_at,
        };
        let provider = v1::Provider {
            name: "openai".into(),
            spent_today_picodollars: Some(1_234_567_890_123),
            quotas: vec![
                quota("requests_per_day", 12, 1_000, None),
                quota("tokens_per_day", 760_000, 1_000_000, at(3_600)),
                quota("tokens_per_hour", 90_000, 90_000, at(0)),
            ],
            ..Default::default()
        };
        let budget = v1::Budget {
            namespace: "lab".into(),
            spent_picodollars: 2_500_000_000_000,
            limit_picodollars: 10_000_000_000_000,
            resets_at: at(7_200),
            spent_at: None,
        };
        let free = v1::Provider { spent_today_picodollars: Some(0), ..Default::default() };
        assert_eq!(
            used(&[provider, free], &[budget], NOW),
            "openai: $1.23 today\n\
             openai, requests_per_day: 12 of 1,000 used; begins anew in 2 h\n\
             openai, tokens_per_day: 760,000 of 1,000,000 used; at this rate all in 1 h; begins anew in 2 h\n\
             openai, tokens_per_hour: 90,000 of 90,000 used: all of it; begins anew in 2 h\n\
             budget of lab: $2.50 of $10.00 spent today; begins anew in 2 h\n"
        );
    }

    #[test]
    fn amounts_are_exact_for_a_call_and_to_the_cent_for_a_day_unless_they_are_small() {
        assert_eq!((dollars(135_000_000), dollars(-1)), ("$0.000135".into(), "-$0.000000000001".into()));
        assert_eq!([104_999_999_999, 105_000_000_000].map(cents), ["$0.10", "$0.11"]);
        assert_eq!([540_000_000, 4_999_999_999, 499_999].map(cents), ["$0.00054", "$0.005", "$0.00"]);
    }
}
