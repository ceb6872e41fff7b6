//! The commands that run on this machine without asking a node.

use super::args::{ConfigArgs, ConfigCommand, DoctorArgs, Global, UpArgs};
use super::failure::Failure;
use super::output::Out;
use super::output::doctor::Check;
use crate::config::{self, Config, Overrides};
use crate::node::DataDir;
use crate::up;
use callboard_provider_broker::{Broker, Deps, ReadConfig};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What `up --output json` says once the node serves.
#[derive(Serialize)]
struct Ready<'a> {
    node: &'a str,
    api: String,
    admin: Option<String>,
    data_dir: &'a Path,
    providers: Vec<&'a str>,
}

/// Runs a node until it is told to stop.
pub(super) fn up(args: &UpArgs, global: &Global, program: &str) -> Result<ExitCode, Failure> {
    let overrides = Overrides {
        name: args.name.clone(),
        data_dir: args.data_dir.clone(),
        public: args.listen.map(|a| a.to_string()),
        admin: args.admin_listen.map(|a| a.to_string()),
        mesh: args.mesh_listen.map(|a| a.to_string()),
        port_offset: args.port_offset,
        roles: args.roles.clone(),
        insecure: args.insecure,
        slots: args.slots.and_then(|n| usize::try_from(n).ok()),
        openai_base_url: args.openai_base_url.clone(),
        openai_model: args.openai_model.clone(),
    };
    let config = config::load(args.config.as_deref(), &env, &overrides)
        .map_err(|e| Failure::Usage(format!("{:#}", anyhow::Error::from(e))))?;
    let mut out = Out::new(global)?;
    let here = std::env::current_dir().unwrap_or_default();
    let registry = callboard_kinds::all().map_err(|e| Failure::Local(anyhow::Error::new(e)))?;
    let file = args.config.clone();
    let read: ReadConfig = Arc::new(move || {
        let config = config::load(file.as_deref(), &env, &overrides);
        config.map(|config| config.broker).map_err(|e| format!("{:#}", anyhow::Error::from(e)))
    });
    let code = up::run_reloading(config, Some(read), registry, |ready| {
        let said = if out.is_json() {
            let node = ready.node;
            let ready = Ready {
                node: &node.name,
                api: node.public.to_string(),
                admin: node.admin.map(|a| a.to_string()),
                data_dir: &node.data_dir,
                providers: ready.config.broker.providers.iter().map(|p| p.name.as_str()).collect(),
            };
            // One line: whoever started the node waits for it.
            out.line(&serde_json::to_string(&ready)?)
        } else {
            out.text(&up::banner(&ready, program, &here))
        };
        // Nobody reads the banner: the node runs all the same.
        let _ = said;
        Ok(())
    })?;
    Ok(code)
}

/// Prints the default configuration.
pub(super) fn config(args: ConfigArgs, global: &Global) -> Result<ExitCode, Failure> {
    let ConfigCommand::Default = args.command;
    Out::new(global)?.text(config::DEFAULT)?;
    Ok(ExitCode::SUCCESS)
}

/// Checks a configuration file and a data folder without a node.
pub(super) fn doctor(args: &DoctorArgs) -> anyhow::Result<Vec<Check>> {
    let overrides = Overrides { data_dir: args.data_dir.clone(), ..Overrides::default() };
    let config = match config::load(args.config.as_deref(), &env, &overrides) {
        Ok(config) => config,
        Err(error) => {
            let message = format!("{:#}", anyhow::Error::from(error));
            return Ok(vec![Check::fail(
                "configuration",
                message,
                "correct it; `callboard config default` prints every key",
            )]);
        }
    };
    let source =
        args.config.as_ref().map_or("the defaults and the environment".into(), |p| p.display().to_string());
    Ok(vec![
        Check::ok("configuration", format!("{source}: every key exists and every value is right")),
        providers(&config),
        data_dir(&config),
        port("API port", config.listen.public),
    ])
}

fn providers(config: &Config) -> Check {
    let deps = Deps {
        clock: Arc::new(callboard_ports::SystemClock),
        observe: Arc::new(|_| ()),
        env: Arc::new(env),
        tracer: callboard_ports::Tracer::default(),
        jitter: Arc::new(|| 0.0),
        buckets: Arc::new(callboard_backends::token_buckets::embedded::TokenBuckets::default()),
        answers: None,
        locks: None,
        sharing: None,
        read_config: None,
        ledger: Arc::new(callboard_ports::ledger::Absent),
    };
    match Broker::new(&config.broker, &deps) {
        Ok(_) => {
            let names: Vec<_> = config.broker.providers.iter().map(|p| p.name.as_str()).collect();
            Check::ok("providers", format!("{}: keys can be read", names.join(", then ")))
        }
        Err(error) => {
            Check::fail("providers", error.to_string(), "set the variable or the file that is named")
        }
    }
}

fn data_dir(config: &Config) -> Check {
    let path = &config.node.data_dir;
    if !path.exists() {
        return Check::ok(
            "data folder",
            format!("{} does not exist yet; `callboard up` makes it", path.display()),
        );
    }
    match DataDir::open(path, "callboard doctor") {
        Ok(_) => Check::ok("data folder", format!("{} can be written and is not in use", path.display())),
        Err(error @ crate::node::DataDirError::InUse { .. }) => {
            Check::warn("data folder", error.to_string(), "nothing, if that node is meant to run")
        }
        Err(error) => {
            Check::fail("data folder", error.to_string(), "correct its owner or mode, or give another")
        }
    }
}

fn port(name: &'static str, address: std::net::SocketAddr) -> Check {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) => {
            Check::warn(name, format!("{address}: {error}"), "nothing, if a node is meant to run there")
        }
    }
}
