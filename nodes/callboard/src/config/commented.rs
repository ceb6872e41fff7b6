//! What the default file says in comments.

use super::{DEFAULT, Overrides, broker, load};

/// How many keys something has that are set.
fn keys(section: impl serde::Serialize) -> usize {
    figment::value::Value::serialize(section).unwrap().into_dict().unwrap().len()
}

/// What stands in the file as a comment is right, too, and nothing that exists is missing there.
#[test]
fn what_the_default_file_says_of_prices_quotas_and_budgets_holds() {
    let begins = DEFAULT.find("# [[broker.limits]]").unwrap();
    let lines = DEFAULT[begins..].lines().filter_map(|line| line.strip_prefix("# "));
    let text: String = lines
        .filter(|line| line.starts_with("[[") || line.contains(" = "))
        .map(|line| format!("{line}\n"))
        .collect();
    let providers = "[[broker.providers]]\nname = \"openai\"\nadapter = \"openai\"\n\
                     [[broker.providers.keys]]\nid = \"team-a\"\nenv = \"KEY\"\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, format!("{providers}{text}")).unwrap();
    let config = load(Some(&path), &|_| None, &Overrides::default()).unwrap();
    let broker::Config { limits, quotas, prices, budgets, .. } = &config.broker;
    assert_eq!((keys(&limits[0]), keys(&quotas[0]), keys(&budgets[0])), (7, 5, 2));
    assert_eq!((keys(&prices[0]), keys(&prices[1])), (6, 2));
}
