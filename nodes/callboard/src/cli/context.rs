//! What every command that talks to a node is given.

use super::args::{Global, Remote};
use super::failure::Failure;
use super::output::Out;
use callboard_client::{Client, Options};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a command looks for a node before it says that there is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a batch outlives its node: a restart should not end it half way.
const BATCH_PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Context {
    pub(super) client: Client,
    pub(super) out: Out,
    /// How to call this program, for hints.
    pub(super) program: String,
    note: Interruption,
}

/// What to say when the person interrupts the command.
#[derive(Clone, Default)]
pub(super) struct Interruption(Arc<Mutex<Option<String>>>);

impl Interruption {
    pub(super) fn set(&self, note: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }

    pub(super) fn clear(&self) {
        self.take();
    }

    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Context {
    pub(super) fn new(command: &Remote, global: &Global, program: &str) -> Result<Self, Failure> {
        let batch = matches!(command, Remote::Submit(args) if args.batch.is_some());
        let patience = if batch { BATCH_PATIENCE } else { PATIENCE };
        let defaults = Options::default();
        let options = Options {
            addresses: global.addr.clone(),
            patience,
            key: match command {
                Remote::Providers(args) => args.key.clone(),
                Remote::Cache(args) => args.key.clone(),
                Remote::Experiments(args) => args.key.clone(),
                _ => None,
            }
            .filter(|key| !key.is_empty()),
            timeout: defaults.timeout.max(patience + Duration::from_secs(30)),
            ..defaults
        };
        let out = if command.writes_files() { Out::to_file(global) } else { Out::new(global)? };
        Ok(Self {
            client: Client::connect(options)?,
            out,
            program: program.to_owned(),
            note: Interruption::default(),
        })
    }

    pub(super) fn interruption(&self) -> Interruption {
        self.note.clone()
    }
}
