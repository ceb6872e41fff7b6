//! What can be configured, and what is said of what cannot.

use crate::support::deps;
use callboard_provider_broker::config::{Adapter, Breaker, OPENAI_BASE_URL, ProviderConfig, Retry};
use callboard_provider_broker::{Broker, Config};
use std::time::Duration;

fn names(config: &Config) -> Vec<&str> {
    config.providers.iter().map(|p| p.name.as_str()).collect()
}

#[test]
fn the_environment_alone_is_enough() {
    let none = Config::from_env_defaults(&|_| None);
    assert_eq!(none, Config::default());
    assert_eq!(names(&none), ["offline"]);
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-1".to_owned());
    let config = Config::from_env_defaults(&env);
    assert_eq!(names(&config), ["openai", "offline"]);
    let openai = &config.providers[0];
    assert_eq!(
        (openai.base_url.as_deref(), openai.api_key_env.as_deref()),
        (Some(OPENAI_BASE_URL), Some("OPENAI_API_KEY"))
    );
    assert_eq!(
        (openai.text_model.as_deref(), openai.image_model.as_deref()),
        (Some("gpt-4o-mini"), Some("gpt-image-1"))
    );
    assert_eq!(names(&Config::from_env_defaults(&|_| Some(" ".into()))), ["offline"]);
}

#[test]
fn a_base_url_takes_the_first_place_and_keeps_the_key() {
    let url = "http://localhost:11434/v1";
    let local = Config::from_env_defaults(&|_| None).with_openai_base_url(url, Some("llama3.2".into()));
    assert_eq!(names(&local), ["openai", "offline"]);
    assert_eq!((&local.providers[0].api_key_env, local.providers[0].base_url.as_deref()), (&None, Some(url)));
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-1".to_owned());
    let keyed = Config::from_env_defaults(&env).with_openai_base_url(url, None);
    assert_eq!(names(&keyed), ["openai", "offline"]);
    let openai = &keyed.providers[0];
    assert_eq!(
        (openai.api_key_env.as_deref(), &openai.text_model, &openai.image_model),
        (Some("OPENAI_API_KEY"), &None, &None)
    );
}

#[test]
fn a_file_is_read_and_written_with_units() {
    let config: Config = toml::from_str(
        "attempt_timeout = \"500ms\"\ntotal_timeout = \"2m\"\n[[providers]]\nname = \"local\"\nadapter = \"openai\"\n\
         base_url = \"http://localhost:8000/v1\"\n",
    )
    .unwrap();
    assert_eq!(
        (config.attempt_timeout, config.total_timeout),
        (Duration::from_millis(500), Duration::from_secs(120))
    );
    assert_eq!(config.stall_timeout, Config::default().stall_timeout);
    assert_eq!(config.providers[0].adapter, Adapter::OpenAi);
    assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
    for wrong in [
        "nonsense = 1",
        "attempt_timeout = 30",
        "[[providers]]\nname = \"a\"\nadapter = \"openai\"\napi_key = \"sk-1\"",
        "[[providers]]\nname = \"a\"\nadapter = \"telepathy\"",
    ] {
        assert!(toml::from_str::<Config>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_wrong_field_is_named() {
    let provider = |name: &str, url: &str| ProviderConfig::openai(name, url);
    let config = Config {
        providers: vec![
            provider("A B", "ftp://x"),
            ProviderConfig { text_model: Some("m".into()), ..ProviderConfig::offline() },
            ProviderConfig::offline(),
            ProviderConfig { api_key_env: Some("UNSET".into()), ..provider("c", "https://user:pw@host/v1") },
            ProviderConfig {
                api_key_file: Some("/nowhere/key".into()),
                ..provider("d", "https://host/v1?key=1")
            },
            ProviderConfig { text_model: Some(" ".into()), ..provider("e", "no url") },
        ],
        total_timeout: Duration::ZERO,
        breaker: Breaker {
            failures: 0,
            error_percent: 101,
            max_cool_down: Duration::from_secs(1),
            ..Breaker::default()
        },
        retry: Retry { max: 11, backoff: Duration::ZERO, ..Retry::default() },
        ..Config::default()
    };
    let error = Broker::new(&config, &deps().0).unwrap_err();
    let fields: Vec<_> = error.violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "providers[0].name",
            "providers[0].base_url",
            "providers[1].text_model",
            "providers[2].name",
            "providers[3].base_url",
            "providers[4].base_url",
            "providers[5].base_url",
            "providers[5].text_model",
            "total_timeout",
            "breaker.failures",
            "breaker.error_percent",
            "breaker.max_cool_down",
            "retry.max",
            "retry.backoff",
            "providers[3].api_key_env",
            "providers[4].api_key_file",
        ]
    );
    assert!(error.to_string().contains("names UNSET, which is not set"), "{error}");
    let empty = Broker::new(&Config { providers: vec![], ..Config::default() }, &deps().0).unwrap_err();
    assert_eq!(empty.violations[0].field, "providers");
}

#[test]
fn an_adapter_says_what_it_needs_and_what_it_cannot_do() {
    let named = ProviderConfig::named;
    let config = Config {
        providers: vec![
            named("a", Adapter::Anthropic),
            ProviderConfig {
                text_model: Some("m".into()),
                image_model: Some("m".into()),
                embedding_model: Some("m".into()),
                base_url: Some("https://host/v1/".into()),
                ..named("b", Adapter::Anthropic)
            },
            ProviderConfig { base_url: Some("https://host/v1beta".into()), ..named("c", Adapter::Gemini) },
            ProviderConfig { base_url: Some("http://host/api".into()), ..named("d", Adapter::Ollama) },
            named("e", Adapter::Ollama),
        ],
        ..Config::default()
    };
    let said: Vec<_> = config.violations().iter().map(|v| format!("{} {}", v.field, v.description)).collect();
    assert_eq!(
        said,
        [
            "providers[0].api_key_env must be set, or api_key_file, or keys: this provider answers nobody without a key",
            "providers[0].text_model must be set: this provider has no first model to take",
            "providers[1].base_url must end before the path of the API, such as /v1: the adapter adds it",
            "providers[1].embedding_model must not be set: this provider makes no embeddings",
            "providers[1].image_model must not be set: only `openai` and `gemini` make images",
            "providers[2].base_url must end before the path of the API, such as /v1: the adapter adds it",
            "providers[2].text_model must be set: this provider has no first model to take",
            "providers[3].base_url must end before the path of the API, such as /v1: the adapter adds it",
        ]
    );
    for (adapter, url) in [
        (Adapter::Anthropic, "https://api.anthropic.com"),
        (Adapter::Gemini, "https://generativelanguage.googleapis.com"),
        (Adapter::Ollama, "http://localhost:11434"),
    ] {
        let good = ProviderConfig {
            text_model: Some("m".into()),
            api_key_env: Some("KEY".into()),
            ..named("a", adapter)
        };
        let broker = Broker::new(&Config { providers: vec![good], ..Config::default() }, &deps().0).unwrap();
        assert_eq!(broker.providers()[0].description.base_url, url);
    }
}

#[test]
fn a_key_may_come_from_a_file() {
    let path = std::env::temp_dir().join(format!("callboard-key-{}", std::process::id()));
    std::fs::write(&path, "sk-from-file\n").unwrap();
    let with_file = |path: &std::path::Path| Config {
        providers: vec![ProviderConfig {
            api_key_file: Some(path.into()),
            ..ProviderConfig::openai("a", "https://127.0.0.1:1/v1")
        }],
        ..Config::default()
    };
    let broker = Broker::new(&with_file(&path), &deps().0).unwrap();
    assert!(broker.providers()[0].description.has_key);
    std::fs::write(&path, "two words").unwrap();
    let error = Broker::new(&with_file(&path), &deps().0).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(error.violations[0].field, "providers[0].api_key_file");
}
