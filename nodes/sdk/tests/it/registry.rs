use bytes::Bytes;
use callboard_sdk::registry::Error;
use callboard_sdk::{Failure, Handler, KindSpec, Registry, SpecBuilder, TaskContext, limits};
use futures::future::BoxFuture;
use std::time::Duration;

struct Fixed(KindSpec);

impl Handler for Fixed {
    fn spec(&self) -> KindSpec {
        self.0.clone()
    }

    fn run<'a>(&'a self, _: &'a TaskContext, input: Bytes) -> BoxFuture<'a, Result<Bytes, Failure>> {
        Box::pin(async { Ok(input) })
    }
}

fn host(name: &str, change: impl FnOnce(SpecBuilder) -> SpecBuilder) -> Result<Registry, Error> {
    Registry::new().with_handler(Fixed(change(callboard_sdk::spec(name, "A test.")).build()))
}

fn problem(name: &str, change: impl FnOnce(SpecBuilder) -> SpecBuilder) -> String {
    match host(name, change) {
        Err(Error::Invalid { kind, problem }) if kind == name => problem,
        Err(error) => panic!("{name}: {error}"),
        Ok(_) => panic!("{name} was accepted"),
    }
}

#[test]
fn a_kind_is_found_by_its_name_with_the_defaults_of_a_new_one() {
    let registry = host("a.b-c_1", |s| s).unwrap();
    let spec = &registry.get("a.b-c_1").unwrap().spec;
    assert_eq!((spec.version, spec.queue.as_str(), spec.max_attempts), (1, "default", 5));
    assert_eq!(spec.timeout, Duration::from_secs(300));
    assert!(registry.get("a.b").is_none());
}

#[test]
fn kinds_are_listed_by_name_and_a_name_is_taken_once() {
    let registry = host("b", |s| s).unwrap();
    let registry = registry.with_handler(Fixed(callboard_sdk::spec("a", "A test.").build())).unwrap();
    let names: Vec<_> = registry.iter().map(|e| e.spec.name.clone()).collect();
    assert_eq!(names, ["a", "b"]);
    let again = registry.with_handler(Fixed(callboard_sdk::spec("a", "Another.").build()));
    assert_eq!(again.err(), Some(Error::Duplicate("a".into())));
}

#[test]
fn names_and_queues_are_bounded() {
    for name in ["", "Upper", "with space", "ü", &"x".repeat(limits::NAME_CHARS + 1)] {
        assert!(problem(name, |s| s).contains("names and queues"), "{name}");
        assert!(problem("good", |s| s.queue(name)).contains("names and queues"), "{name}");
    }
    assert!(host(&"x".repeat(limits::NAME_CHARS), |s| s).is_ok());
}

#[test]
fn defaults_are_bounded() {
    assert!(problem("t", |s| s.timeout(Duration::ZERO)).contains("timeout"));
    assert!(problem("t", |s| s.timeout(limits::TIMEOUT + Duration::from_nanos(1))).contains("timeout"));
    assert!(host("t", |s| s.timeout(limits::TIMEOUT)).is_ok());
    assert!(problem("m", |s| s.max_attempts(0)).contains("max_attempts"));
    assert!(problem("m", |s| s.max_attempts(limits::ATTEMPTS + 1)).contains("max_attempts"));
    assert!(host("m", |s| s.max_attempts(limits::ATTEMPTS)).is_ok());
}

#[test]
fn schemas_are_compiled_and_the_example_must_fit() {
    assert!(problem("s", |s| s.input("{")).contains("input schema"));
    assert!(problem("s", |s| s.input(r#"{"type": "thing"}"#)).contains("input schema"));
    assert!(problem("s", |s| s.result(r#"{"minimum": "1"}"#)).contains("result schema"));
    let named = r#"{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}"#;
    assert!(problem("s", |s| s.input(named)).contains("\"name\" is a required property"));
    assert!(problem("s", |s| s.input(named).example(r#"{"name": 1}"#)).contains("input.name"));
    assert!(host("s", |s| s.input(named).example(r#"{"name": "Ada"}"#)).is_ok());
}
