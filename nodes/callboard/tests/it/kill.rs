//! A real node process, killed with SIGKILL again and again under load.
//!
//! Every task that was acknowledged must succeed, with the default limit of lost attempts; no result is
//! recorded twice; every log is a legal sequence of events that replays to the stored task.

use callboard_client::{Client, Options, is_terminal, v1};
use callboard_domain::convert::{state_from_proto, time_from_proto};
use callboard_domain::{Happening, Lifecycle, Progress, SessionId, State, TaskError, Timestamp};
use callboard_testkit::process::{Process, Spec};
use futures::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

const TASKS: usize = 2_000;
const SUBMITTERS: usize = 8;
const KILLS: usize = 5;
const START_WITHIN: Duration = Duration::from_secs(30);
const DONE_WITHIN: Duration = Duration::from_secs(180);

/// What a kill caught, as the logs tell.
#[derive(Default, Debug)]
struct Caught {
    waiting: usize,
    claimed: usize,
    running: usize,
}

async fn start(data: &Path, address: Option<&str>) -> (Process, String) {
    let spec = Spec::new(env!("CARGO_BIN_EXE_callboard"))
        .args(["up", "--output", "json", "--slots", "16", "--admin-listen", "127.0.0.1:0"])
        .args(["--listen", address.unwrap_or("127.0.0.1:0")])
        .args(["--data-dir".as_ref(), data.as_os_str()])
        .env("CALLBOARD_LOG__FILTER", "warn");
    let ready = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["api"].as_str()?.to_owned())
    };
    Process::spawn(&spec, ready, START_WITHIN).await.unwrap()
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Written past the test harness, which would keep it to itself.
fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{text}").unwrap();
}

fn seed() -> u64 {
    match std::env::var("CALLBOARD_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random(),
    }
}

/// Acknowledged tasks: their ids, and what each was given.
type Acknowledged = Arc<Mutex<HashMap<String, usize>>>;

/// Submits its share, at random paces, through every restart.
async fn submit(client: Client, seed: u64, share: std::ops::Range<usize>, acknowledged: Acknowledged) {
    let mut random = StdRng::seed_from_u64(seed);
    for n in share {
        let sleep_ms = random.random_range(0..60);
        let request = v1::SubmitTaskRequest {
            kind: "echo".into(),
            input: format!(r#"{{"n":{n},"sleep_ms":{sleep_ms}}}"#).into(),
            priority: Some(random.random_range(0..10)),
            ..Default::default()
        };
        let submitted = client.submit(request).await.unwrap();
        acknowledged.lock().unwrap().insert(submitted.task.id, n);
        // The load's pace: in sum somewhat faster than the node works, so that tasks wait.
        tokio::time::sleep(Duration::from_micros(random.random_range(0..10_000))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_kills_under_load_lose_nothing() {
    let seed = seed();
    say(&format!("kill test: seed {seed}; CALLBOARD_TEST_SEED={seed} repeats its choices"));
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (process, address) = start(&data, None).await;
    let options = Options {
        addresses: vec![address.clone()],
        patience: START_WITHIN,
        timeout: 2 * START_WITHIN,
        ..Options::default()
    };

    let acknowledged = Acknowledged::default();
    let mut submitters = JoinSet::new();
    for i in 0..SUBMITTERS {
        let client = Client::connect(options.clone()).unwrap();
        let share = TASKS * i / SUBMITTERS..TASKS * (i + 1) / SUBMITTERS;
        submitters.spawn(submit(client, random.random(), share, Arc::clone(&acknowledged)));
    }
    let mut process = process;
    let mut kills = Vec::new();
    for kill in 0..KILLS {
        // A random moment of each fifth of the load.
        let at = TASKS * kill / KILLS + random.random_range(50..TASKS / KILLS - 50);
        while acknowledged.lock().unwrap().len() < at {
            tokio::time::sleep(Duration::from_micros(random.random_range(200..3_000))).await;
        }
        kills.push(now());
        process.kill9().await.unwrap();
        process = start(&data, Some(&address)).await.0;
    }
    while let Some(done) = submitters.join_next().await {
        done.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert_eq!(acknowledged.len(), TASKS, "every submission was acknowledged with a task of its own");

    let client = Client::connect(options).unwrap();
    let tasks = all_done(&client).await;
    assert_eq!(tasks.len(), TASKS, "a submission that was repeated made no second task");
    let mut caught: Vec<_> = kills.iter().map(|_| Caught::default()).collect();
    let checks = tasks.iter().map(|task| check(&client, &task.id, acknowledged[&task.id]));
    let logs: Vec<_> = futures::stream::iter(checks).buffer_unordered(16).collect().await;
    for events in logs {
        count(&events, &kills, &mut caught);
    }
    for (i, caught) in caught.iter().enumerate() {
        let Caught { waiting, claimed, running } = caught;
        say(&format!(
            "kill test: kill {} caught {waiting} waiting, {claimed} claimed, {running} running",
            i + 1
        ));
    }
    let sum = |of: fn(&Caught) -> usize| caught.iter().map(of).sum::<usize>();
    assert!(sum(|c| c.waiting) > 0, "no kill caught a waiting task: {caught:?}");
    assert!(sum(|c| c.claimed) > 0, "no kill caught a claimed task: {caught:?}");
    assert!(sum(|c| c.running) > 0, "no kill caught a running task: {caught:?}");
    drop(process);
}

async fn all_done(client: &Client) -> Vec<v1::Task> {
    let done = async {
        loop {
            let counts = client.cluster().await.unwrap().tasks.unwrap();
            if counts.scheduled + counts.queued + counts.running == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(DONE_WITHIN, done).await.is_err() {
        panic!("tasks are stranded: {:?}", client.cluster().await.unwrap());
    }
    client.list_all(v1::TaskFilter::default()).boxed().try_collect().await.unwrap()
}

/// Checks one task against its log, and returns the log.
async fn check(client: &Client, id: &str, n: usize) -> Vec<v1::TaskEvent> {
    let task = client.get(id, true).await.unwrap();
    assert_eq!(task.state(), v1::TaskState::Succeeded, "{task:?}");
    assert!(is_terminal(task.state()));
    let result: serde_json::Value = serde_json::from_slice(&task.result).unwrap();
    assert_eq!(result["n"], n, "the result is that of the task");
    let events: Vec<v1::TaskEvent> = client.events_all(id).boxed().try_collect().await.unwrap();
    let results = events.iter().filter(|e| e.r#type() == v1::TaskEventType::Succeeded).count();
    assert_eq!(results, 1, "{events:?}");
    let attempts: HashSet<_> =
        events.iter().filter(|e| e.r#type() == v1::TaskEventType::Claimed).map(|e| e.attempt).collect();
    assert_eq!(attempts.len(), task.attempt as usize, "each attempt was claimed once: {events:?}");
    let life = replay(&events);
    assert_eq!(
        (life.state, life.attempt, life.failures, life.lost, life.seq),
        (State::Succeeded, task.attempt, task.failures, task.lost, task.last_seq),
        "the log replays to the task: {events:?}"
    );
    events
}

/// Counts where each kill found a task.
fn count(events: &[v1::TaskEvent], kills: &[Timestamp], caught: &mut [Caught]) {
    for (killed, caught) in kills.iter().zip(caught) {
        let before = events.iter().take_while(|e| time_from_proto(&e.at.unwrap()) <= *killed);
        match before.last().map(|e| (e.state(), e.r#type())) {
            Some((v1::TaskState::Queued | v1::TaskState::Scheduled, _)) => caught.waiting += 1,
            Some((v1::TaskState::Running, v1::TaskEventType::Claimed)) => caught.claimed += 1,
            Some((v1::TaskState::Running, _)) => caught.running += 1,
            _ => {}
        }
    }
}

/// Applies a log to the state machine: every step must be legal, dense, and end in the state it says.
fn replay(events: &[v1::TaskEvent]) -> Lifecycle {
    let session = SessionId::from_bytes([1; 16]);
    let first = &events[0];
    assert_eq!(first.r#type(), v1::TaskEventType::Submitted);
    let at = time_from_proto(&first.at.unwrap());
    let (mut life, _) = Lifecycle::submit(first.run_at.as_ref().map(time_from_proto), at);
    for (i, event) in events.iter().enumerate().skip(1) {
        assert_eq!(event.seq, i as u64 + 1, "{events:?}");
        let run_at = event.run_at.as_ref().map(time_from_proto);
        let error = || {
            let error = event.error.clone().unwrap_or_default();
            TaskError::new(error.reason, error.message, error.retryable)
        };
        let what = match event.r#type() {
            v1::TaskEventType::Due => Happening::Due,
            v1::TaskEventType::Claimed => Happening::Claimed { session },
            v1::TaskEventType::Started => Happening::Started { at },
            v1::TaskEventType::Progressed => {
                Happening::Progressed(Progress { percent: 0, message: String::new() })
            }
            v1::TaskEventType::AttemptFailed => {
                Happening::AttemptFailed { error: error(), run_at: run_at.unwrap() }
            }
            v1::TaskEventType::Lost => Happening::Lost { started: life.started, run_at },
            v1::TaskEventType::Returned => Happening::Returned,
            v1::TaskEventType::CancelRequested => Happening::CancelRequested,
            v1::TaskEventType::Succeeded => Happening::Succeeded,
            v1::TaskEventType::Failed => Happening::Failed { error: error(), lost: false },
            v1::TaskEventType::Cancelled => Happening::Cancelled,
            other => panic!("no event: {other:?}"),
        };
        life = life.apply(&what).unwrap_or_else(|e| panic!("{e}: {events:?}"));
        assert_eq!(Some(life.state), state_from_proto(event.state), "{events:?}");
    }
    life
}
