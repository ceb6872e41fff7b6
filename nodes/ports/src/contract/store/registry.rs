//! Kinds and alerts.

use super::Fixture;
use super::kit::Kit;
use callboard_domain::KindSpec;
use callboard_domain::alert::{Alert, Severity, Standing};
use std::time::Duration;

fn kind(name: &str, version: u32) -> KindSpec {
    KindSpec {
        name: name.into(),
        version,
        description: format!("version {version}"),
        input_schema: r#"{"type":"object"}"#.into(),
        result_schema: "true".into(),
        example_input: "{}".into(),
        queue: format!("queue-{version}"),
        timeout: Duration::from_millis(1_500 + u64::from(version)),
        max_attempts: 3 + version,
    }
}

/// Kinds are listed by name as they were registered; a newer version replaces an older one, and an older
/// one (a node that is not yet upgraded) changes nothing.
pub async fn keeps_the_newest_version_of_a_kind(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    assert_eq!(kit.store.kinds().await, Ok(vec![]));
    kit.store.register_kinds(vec![kind("b", 1), kind("a", 2)]).await.expect("kinds are registered");
    assert_eq!(kit.other.kinds().await, Ok(vec![kind("a", 2), kind("b", 1)]));
    kit.other
        .register_kinds(vec![kind("a", 1), kind("b", 3), kind("c", 1)])
        .await
        .expect("kinds are registered");
    let newest = vec![kind("a", 2), kind("b", 3), kind("c", 1)];
    assert_eq!(kit.store.kinds().await, Ok(newest.clone()));
    kit.store.register_kinds(newest.clone()).await.expect("what is registered may be registered again");
    assert_eq!(kit.store.kinds().await, Ok(newest));
}

/// Alerts are kept as they were saved; one with a known id is replaced.
pub async fn keeps_alerts(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let now = kit.fixture.now();
    let alert = |n: u32, standing: Standing| Alert {
        id: format!("01939e2c-7e10-7cc3-98c4-{n:012}"),
        rule: "task_failed".into(),
        subject: format!("kind-{n}"),
        severity: [Severity::Info, Severity::Warning, Severity::Critical][n as usize % 3],
        standing,
        message: "it's broken: 'ä'".into(),
        count: u64::from(n),
        first_at: now,
        last_at: now.after(Duration::from_secs(1)),
        resolved_at: (standing == Standing::Resolved).then(|| now.after(Duration::from_secs(2))),
    };
    let standings =
        [Standing::Pending, Standing::Firing, Standing::Acknowledged, Standing::Silenced, Standing::Resolved];
    let saved: Vec<_> = (1..).zip(standings).map(|(n, standing)| alert(n, standing)).collect();
    kit.store.save_alerts(saved.clone()).await.expect("alerts are saved");
    let open = |mut alerts: Vec<Alert>| {
        alerts.sort_by(|a, b| a.id.cmp(&b.id));
        alerts
    };
    assert_eq!(kit.other.open_alerts().await.map(open), Ok(saved[..4].to_vec()), "all that is not resolved");
    let newest_first: Vec<_> = saved.iter().rev().cloned().collect();
    assert_eq!(kit.store.list_alerts(false, None, 10).await, Ok(newest_first.clone()));
    assert_eq!(kit.store.list_alerts(true, None, 2).await, Ok(newest_first[1..3].to_vec()));
    let before = Some(saved[2].id.clone());
    assert_eq!(kit.store.list_alerts(false, before, 10).await, Ok(newest_first[3..].to_vec()));
    let resolved =
        Alert { standing: Standing::Resolved, resolved_at: Some(now), count: 9, ..saved[1].clone() };
    kit.store.save_alerts(vec![resolved.clone()]).await.expect("alerts are saved");
    let all = kit.store.list_alerts(false, None, 10).await.expect("alerts are read");
    assert_eq!((all.len(), &all[3]), (5, &resolved));
    assert_eq!(kit.store.open_alerts().await.expect("alerts are read").len(), 3);
}
