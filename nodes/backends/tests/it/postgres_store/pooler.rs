//! A PgBouncer between the store and its server, if there is one on this machine.

#![expect(clippy::print_stderr, reason = "says that it was not run")]

use super::{open, options, server, task};
use callboard_backends::store::postgres::{OpenError, Options, Store};
use callboard_ports::store::TaskStore as _;
use callboard_testkit::ports::free_port;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// The first that keeps account of prepared statements.
const FIT: (u32, u32) = (1, 21);

/// A PgBouncer in transaction mode, of the `PATH`.
struct Bouncer {
    process: Child,
    url: String,
    _folder: TempDir,
}

/// Its version, if there is one.
fn version() -> Option<(u32, u32)> {
    let said = Command::new("pgbouncer").arg("--version").output();
    if said.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        eprintln!("not run: there is no pgbouncer on the PATH");
        return None;
    }
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    let (_, version) = said.lines().next().unwrap().split_once(' ').unwrap();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    Some((numbers.next().unwrap(), numbers.next().unwrap()))
}

impl Bouncer {
    /// In front of the server of a database.
    async fn start(url: &str, settings: &str) -> Self {
        let (user, rest) = url.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
        let (address, name) = rest.split_once('/').unwrap();
        let (host, port) = address.split_once(':').unwrap();
        let folder = tempfile::tempdir().unwrap();
        let listens = free_port().unwrap();
        let mut ini = format!(
            "[databases]\n* = host={host} port={port} user={user}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listens}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\n{settings}\n"
        );
        // It does not run as root.
        if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            ini.push_str("user = nobody\n");
        }
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, ini).unwrap();
        for path in [folder.path(), &file] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let process = Command::new("pgbouncer").arg(&file).stderr(Stdio::null()).spawn().unwrap();
        let bouncer =
            Self { process, url: format!("postgres://{user}@127.0.0.1:{listens}/{name}"), _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(("127.0.0.1", listens)).await.is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bouncer
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const IGNORES: &str = "ignore_startup_parameters = options, extra_float_digits";

/// Sets what the store would have set, for one database instead of a role: the role is that of all tests.
async fn set_up(url: &str) {
    let (_, name) = url.rsplit_once('/').unwrap();
    let mut sql = PgConnection::connect(url).await.unwrap();
    for setting in ["plan_cache_mode = force_custom_plan", "idle_in_transaction_session_timeout = '2s'"] {
        sql.execute(AssertSqlSafe(format!("ALTER DATABASE \"{name}\" SET {setting}"))).await.unwrap();
    }
}

async fn through(bouncer: &Bouncer, direct_url: Option<&str>) -> Result<std::sync::Arc<Store>, OpenError> {
    let direct_url = direct_url.map(str::to_owned);
    Store::open(Options { direct_url, ..options(&bouncer.url) }).await
}

#[tokio::test]
async fn a_pooler_that_is_not_set_up_is_refused_with_what_it_lacks() {
    if version().is_none() {
        return;
    }
    let url = server::fresh_database().await;
    let bouncer = Bouncer::start(&url, "").await;
    let error = through(&bouncer, Some(&url)).await.unwrap_err();
    assert!(matches!(error, OpenError::Pooler { .. }), "{error}");
    assert!(error.to_string().contains("extra_float_digits"), "{error}");
}

#[tokio::test]
async fn a_pooler_that_forgets_prepared_statements_is_refused_and_another_is_worked_through() {
    let Some(version) = version() else { return };
    let url = server::fresh_database().await;
    let forgets =
        if version < FIT { IGNORES.to_owned() } else { format!("{IGNORES}\nmax_prepared_statements = 0") };
    let bouncer = Bouncer::start(&url, &forgets).await;
    for _ in 0..3 {
        let error = through(&bouncer, Some(&url)).await.unwrap_err();
        assert!(matches!(error, OpenError::OldPooler { .. }), "{error}");
        assert!(error.to_string().contains("1.21") && error.to_string().contains("direct_url"), "{error}");
    }
    // Not through it, and all is well.
    open(&options(&url)).await.close().await;
    if version < FIT {
        eprintln!("not run through: this pgbouncer is {version:?}, and too old");
        return;
    }
    let bouncer = Bouncer::start(&url, &format!("{IGNORES}\nmax_prepared_statements = 100")).await;
    let error = through(&bouncer, Some(&url)).await.unwrap_err();
    assert!(matches!(error, OpenError::PoolerSettings { .. }), "{error}");
    set_up(&url).await;
    let bouncer = Bouncer::start(&url, &format!("{IGNORES}\nmax_prepared_statements = 100")).await;
    let error = through(&bouncer, None).await.unwrap_err();
    assert!(matches!(error, OpenError::NoDirectUrl { .. }), "{error}");
    let store = through(&bouncer, Some(&url)).await.unwrap();
    for answer in store.admit((0..20).map(task).collect()).await {
        answer.unwrap();
    }
    store.close().await;
}
