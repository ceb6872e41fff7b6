//! Routes to providers, for a person.

use super::style::{Paint, Palette};
use super::table::{Cell, Table};
use callboard_client::v1;

/// The routes as a table, if there are any, and the policy of calls that name none, unless it is the usual one.
#[must_use]
pub fn routes(known: &v1::ListProvidersResponse, palette: Palette, width: Option<usize>) -> String {
    let mut out = match known.policy.as_str() {
        // A broker of a version before knows no other.
        "" | "priority" => String::new(),
        policy => format!("\ncalls that name no route: {policy}\n"),
    };
    if !known.routes.is_empty() {
        let mut table = Table::new(&["ROUTE", "POLICY", "LEADS TO"]);
        for route in &known.routes {
            let targets: Vec<_> = route.targets.iter().map(|to| target(&route.policy, to)).collect();
            let policy = Cell::from(&route.policy);
            table.row(vec![Cell::new(&route.name, Paint::Strong), policy, targets.join(", ").into()]);
        }
        out.push('\n');
        out.push_str(&table.render(palette, width));
    }
    out
}

fn target(policy: &str, to: &v1::ProviderRouteTarget) -> String {
    let weighted = matches!(policy, "weighted" | "sticky");
    let weight = if weighted { format!(" x{}", to.weight) } else { String::new() };
    match to.model.as_str() {
        "" => format!("{}{weight}", to.provider),
        model => format!("{}/{model}{weight}", to.provider),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_say_where_they_lead_and_how() {
        let to = |provider: &str, model: &str, weight| v1::ProviderRouteTarget {
            provider: provider.into(),
            model: model.into(),
            weight,
        };
        let route = |name: &str, policy: &str, targets| v1::ProviderRoute {
            name: name.into(),
            policy: policy.into(),
            targets,
        };
        let routes_of = |policy: &str, list| {
            let known =
                v1::ListProvidersResponse { policy: policy.into(), routes: list, ..Default::default() };
            routes(&known, Palette::plain(), None)
        };
        assert_eq!(routes_of("priority", Vec::new()), "");
        assert_eq!(routes_of("weighted", Vec::new()), "\ncalls that name no route: weighted\n");
        let list = vec![
            route("fast", "weighted", vec![to("openai", "gpt-4o-mini", 3), to("local", "", 1)]),
            route("smart", "least_latency", vec![to("openai", "gpt-4o", 1)]),
        ];
        insta::assert_snapshot!(routes_of("priority", list));
    }
}
