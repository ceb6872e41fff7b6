//! Servers in the containers of an engine that is played by a shell script.

use super::*;
use crate::programs::{POSTGRES, RABBITMQ, REDIS, Search, Source, Way};
use crate::{Postgres, Programs, RabbitMq, Redis};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Plays an engine. A container is a process in a session of its own, so it outlives the client that runs it, and
/// is known by the file with its process id. Each call is a line of the file `calls`.
const ENGINE: &str = r#"#!/bin/sh
state=$(dirname "$0")/state
mkdir -p "$state"
echo "$*" >>"$state/calls"
attach() {
    setsid sleep 600 >/dev/null 2>&1 </dev/null &
    echo $! >"$state/$1.pid"
    # The client of an engine ends with its container.
    while kill -0 "$(cat "$state/$1.pid")" 2>/dev/null; do sleep 0.02; done
}
stop() {
    [ -f "$state/$1.pid" ] && kill -9 "$(cat "$state/$1.pid")" 2>/dev/null
}
case $1 in
    info) [ ! -f "$state/down" ] || { echo "cannot connect to the daemon" >&2; exit 1; } ;;
    image) [ -f "$state/image" ] ;;
    pull) touch "$state/image" ;;
    run)
        [ "$2" = --name ] || exit 0
        attach "$3" ;;
    start) attach "$3" ;;
    exec) kill -0 "$(cat "$state/$2.pid")" ;;
    kill) stop "$2" ;;
    rm)
        stop "$4"
        rm "$state/$4.pid" ;;
esac
"#;

/// An engine on a PATH of its own, before what the script needs.
struct Engine(tempfile::TempDir);

impl Engine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (script, program) = (folder.path().join("script"), folder.path().join("docker"));
        fs::write(&script, ENGINE).unwrap();
        // Written by another process: one that is forked here meanwhile would hold it open for writing, and it could
        // not be run until that has ended ("Text file busy").
        let installed = Command::new("install").args([&script, &program]).status().unwrap();
        assert!(installed.success());
        fs::create_dir(folder.path().join("state")).unwrap();
        Self(folder)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.0.path().join("state").join(name)
    }

    fn programs(&self) -> Programs {
        let (path, target) = (self.0.path().as_os_str(), self.0.path());
        let search = Search { target, path, ways: &[Way::Container] };
        Programs {
            postgres: search.find(&POSTGRES).unwrap(),
            rabbitmq: search.find(&RABBITMQ).unwrap(),
            redis: search.find(&REDIS).unwrap(),
        }
    }

    /// The calls so far that begin with a word. The asking whether it is ready is left out.
    fn calls(&self, word: &str) -> Vec<String> {
        let calls = fs::read_to_string(self.state("calls")).unwrap();
        let calls = calls.lines().filter(|call| call.starts_with(&format!("{word} ")));
        calls.map(str::to_owned).collect()
    }

    fn is_running(&self, container: &str) -> bool {
        let pid = fs::read_to_string(self.state(&format!("{container}.pid"))).unwrap_or_default();
        pid.trim().parse().is_ok_and(crate::guard::runs)
    }
}

fn name(kind: &str, port: u16) -> String {
    format!("callboard-{kind}-{}-{port}", std::process::id())
}

#[test]
fn an_image_is_pulled_once() {
    let engine = Engine::new();
    let programs = engine.programs();
    assert_eq!(engine.calls("pull"), [format!("pull {}", POSTGRES.image)]);
    assert_eq!(programs.in_containers(), ["PostgreSQL", "RabbitMQ", "Redis"]);
    assert!(programs.places()[2].1.starts_with("docker.io/library/redis:8 in "));
}

#[test]
fn an_engine_without_its_daemon_is_none() {
    let engine = Engine::new();
    fs::write(engine.state("down"), "").unwrap();
    let error = image(engine.0.path().as_os_str(), REDIS.image).unwrap_err();
    assert_eq!(error, "`docker info` fails (cannot connect to the daemon), there is no podman");
}

#[test]
fn a_redis_is_killed_comes_back_is_paused_and_is_removed() {
    let engine = Engine::new();
    let mut redis = Redis::start(&engine.programs(), engine.0.path()).unwrap();
    let (port, name) = (redis.port(), name("redis", redis.port()));
    assert_eq!(
        engine.calls("run"),
        [format!(
            "run --name {name} --label {LABEL} --publish 127.0.0.1:{port}:{port} {} \
             redis-server --protected-mode no --port {port} --save  --appendonly no",
            REDIS.image
        )]
    );
    assert!(redis.command(&["ping"]).is_ok());
    assert!(engine.calls("exec").contains(&format!("exec {name} redis-cli -e -p {port} ping")));
    redis.kill().unwrap();
    assert!(!engine.is_running(&name));
    assert!(redis.command(&["ping"]).is_err());
    redis.restart().unwrap();
    assert_eq!(engine.calls("start"), [format!("start --attach {name}")]);
    assert!(engine.is_running(&name));
    redis.pause();
    redis.resume();
    assert_eq!(engine.calls("pause"), [format!("pause {name}")]);
    assert_eq!(engine.calls("unpause"), [format!("unpause {name}")]);
    assert_eq!(engine.calls("rm"), [""; 0], "its data is kept over a kill");
    drop(redis);
    assert!(!engine.is_running(&name));
    assert_eq!(engine.calls("rm"), [format!("rm --force --volumes {name}")]);
}

#[test]
fn a_postgres_has_the_same_address_inside_and_outside() {
    let engine = Engine::new();
    let programs = engine.programs();
    let postgres = Postgres::start(&programs).unwrap();
    let (port, name) = (postgres.port(), name("postgres", postgres.port()));
    let run = engine.calls("run").remove(0);
    assert!(run.contains(&format!("--publish 127.0.0.1:{port}:{port} ")), "{run}");
    assert!(run.contains(&format!("{} postgres -p {port} -c listen_addresses=*", POSTGRES.image)), "{run}");
    postgres.create_database("a").unwrap();
    let url = format!("postgres://callboard@127.0.0.1:{port}/postgres");
    let created =
        format!("exec {name} psql -X -q -A -t -v ON_ERROR_STOP=1 -d {url} -c CREATE DATABASE \"a\"");
    assert!(engine.calls("exec").contains(&created));
    assert_eq!(postgres.pid(), None);
    // As a test does that was only told the address.
    let Source::Image(image) = &programs.postgres else { panic!("it is no image") };
    crate::postgres::psql(&image.client("psql"), &url, "SELECT 1").unwrap();
    let run = engine.calls("run").remove(1);
    assert!(
        run.starts_with(&format!("run --rm --label {LABEL} --network host {} psql ", POSTGRES.image)),
        "{run}"
    );
}

#[test]
fn a_rabbitmq_is_up_once_it_greets() {
    let engine = Engine::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (name, pid) = (name("rabbitmq", port), engine.state(&format!("{}.pid", name("rabbitmq", port))));
    // Plays the broker on the port that the engine would have published.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut header) = (stream.unwrap(), [0; 8]);
            // Who connects too early, or has gone again, is not greeted.
            if pid.exists() && stream.read_exact(&mut header).is_ok() {
                let _ = stream.write_all(&[1]);
            }
        }
    });
    let folder = engine.0.path().join("rabbitmq");
    let rabbitmq = RabbitMq::start_on(&engine.programs(), &folder, port).unwrap();
    let run = engine.calls("run").remove(0);
    assert!(run.contains(&format!("--publish 127.0.0.1:{port}:5672 --hostname callboard")), "{run}");
    rabbitmq.ctl(&["list_vhosts"]).unwrap();
    assert_eq!(engine.calls("exec"), [format!("exec {name} rabbitmqctl -q list_vhosts")]);
    drop(rabbitmq);
    assert!(!engine.is_running(&name));
}

/// Where the process that is killed finds its engine.
const HELD: &str = "CALLBOARD_TEST_HELD_ENGINE";

/// Does nothing by itself: the next test runs it in a process of its own, and kills that.
#[test]
fn holds_a_server_until_it_is_killed() {
    let Some(folder) = std::env::var_os(HELD).map(PathBuf::from) else { return };
    let search = Search { target: &folder, path: folder.as_os_str(), ways: &[Way::Container] };
    let [postgres, rabbitmq, redis] = [&POSTGRES, &RABBITMQ, &REDIS].map(|one| search.find(one).unwrap());
    let redis = Redis::start_on(&Programs { postgres, rabbitmq, redis }, &folder, 1).unwrap();
    fs::write(folder.join("held"), name("redis", redis.port())).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_container_does_not_outlive_a_process_that_is_killed() {
    let engine = Engine::new();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "container::tests::holds_a_server_until_it_is_killed"])
        .env(HELD, engine.0.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let held = engine.0.path().join("held");
    until("it starts no server", || held.exists() && !fs::read_to_string(&held).unwrap().is_empty());
    let name = fs::read_to_string(&held).unwrap();
    assert!(engine.is_running(&name));
    process.kill().unwrap();
    process.wait().unwrap();
    until("its container is left", || engine.calls("rm") == [format!("rm --force --volumes {name}")]);
    until("its container runs on", || !engine.is_running(&name));
}

fn until(otherwise: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{otherwise}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
