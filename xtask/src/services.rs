//! `cargo xtask services`: PostgreSQL, RabbitMQ and Redis for a developer, private to this checkout.

use crate::shell;
use anyhow::{Context as _, Result, bail};
use callboard_services::{Postgres, Programs, RabbitMq, Redis, free_port, shared, target_folder};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The process that holds the servers; internal.
const HOLD: &str = "hold";

/// Runs `up`, `down` or `status`.
///
/// # Errors
/// A server cannot be had, or the command is none.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("up") => up(),
        Some("down") => down(),
        Some("status") => status(),
        Some(HOLD) => hold(),
        _ => bail!("usage: cargo xtask services up|down|status"),
    }
}

/// Where the running set says what it is. There once it is ready, gone when it ends.
fn state() -> PathBuf {
    target_folder().join("up")
}

/// The ports are kept from one `up` to the next, so that configuration files stay right.
fn ports() -> Result<[u16; 3]> {
    let path = target_folder().join("ports");
    if let Ok(text) = std::fs::read_to_string(&path) {
        let ports: Vec<u16> = text.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        if let Ok(ports) = ports.try_into() {
            return Ok(ports);
        }
    }
    let ports = [free_port()?, free_port()?, free_port()?];
    std::fs::create_dir_all(target_folder())?;
    std::fs::write(&path, ports.map(|port| port.to_string()).join(" "))?;
    Ok(ports)
}

/// The process that holds the running set, and what it says.
fn running() -> Option<(u32, String)> {
    let text = std::fs::read_to_string(state()).ok()?;
    let (pid, said) = text.split_once('\n')?;
    let pid = pid.parse().ok()?;
    let alive = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(HOLD));
    alive.then(|| (pid, said.to_owned()))
}

fn up() -> Result<()> {
    if running().is_none() {
        // Found or unpacked here, so that a person sees what goes on.
        shell::complain(
            "looking for PostgreSQL, RabbitMQ and Redis (the first time, packages are unpacked under target/services)",
        );
        let programs = Programs::find(&target_folder())?;
        for (name, place) in programs.places() {
            shell::complain(&format!("  {name:<11} {place}"));
        }
        shell::complain("starting them");
        let log = std::fs::File::create(target_folder().join("hold.log"))?;
        // A session of its own: it stays when this terminal goes.
        let mut holder = Command::new("setsid")
            .arg(std::env::current_exe()?)
            .args(["services", HOLD])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the process that holds the servers")?;
        let until = Instant::now() + Duration::from_secs(120);
        while running().is_none() {
            let ended = holder.try_wait()?.is_some_and(|status| !status.success());
            if ended || Instant::now() > until {
                let said = std::fs::read_to_string(target_folder().join("hold.log"))?;
                let what = if ended { "cannot be started" } else { "are not up after two minutes" };
                bail!("the servers {what}:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let (_, said) = running().context("the servers have just ended")?;
    shell::say(said.trim_end());
    shell::complain(
        "# eval \"$(cargo xtask services up)\" sets them; `cargo xtask services down` stops the servers and removes their data",
    );
    Ok(())
}

fn down() -> Result<()> {
    let Some((pid, _)) = running() else {
        shell::say("nothing is up");
        return Ok(());
    };
    shell::run({
        let mut kill = Command::new("kill");
        kill.arg(pid.to_string());
        kill
    })?;
    let until = Instant::now() + Duration::from_secs(30);
    while running().is_some() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = std::fs::remove_file(state());
    shell::say("down");
    Ok(())
}

fn status() -> Result<()> {
    match running() {
        Some((pid, said)) => shell::say(&format!("up, held by process {pid}\n{}", said.trim_end())),
        None => bail!("nothing is up; `cargo xtask services up` starts them"),
    }
    Ok(())
}

/// A folder for the data of a server. What an earlier set left there goes: its guardians cannot remove it where the
/// machine went down.
fn empty(server: &str, port: u16) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("callboard-up-{server}-{port}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove what an earlier run left in {}", folder.display()))?;
    }
    Ok(folder)
}

/// Holds the servers until it is killed: their guardians end them then, and remove their data.
fn hold() -> Result<()> {
    let [postgres, rabbitmq, redis] = ports()?;
    let programs = Programs::find(&target_folder())?;
    let temp = std::env::temp_dir();
    let postgres = Postgres::start_on(&programs, &empty("postgres", postgres)?, postgres)?;
    let rabbitmq = RabbitMq::start_on(&programs, &empty("rabbitmq", rabbitmq)?, rabbitmq)?;
    let redis = Redis::start_on(&programs, &temp, redis)?;
    postgres.create_database("callboard")?;
    let mut said = format!("{}\n", std::process::id());
    for (name, url) in [
        ("CALLBOARD_STORE__URL", postgres.url("callboard")),
        ("CALLBOARD_RABBITMQ__URL", rabbitmq.url()),
        ("CALLBOARD_REDIS__URL", redis.url(0)),
        // For `cargo test`: it starts none of its own then.
        (shared::POSTGRES_URL, postgres.url("postgres")),
        (shared::RABBITMQ_URL, rabbitmq.url()),
        (shared::REDIS_URL, redis.url(0)),
    ] {
        writeln!(said, "export {name}={url}")?;
    }
    std::fs::write(state(), said)?;
    loop {
        std::thread::park();
    }
}
