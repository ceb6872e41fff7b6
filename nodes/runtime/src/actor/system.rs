use actix::{Arbiter, ArbiterHandle};
use std::sync::mpsc;
use std::thread;

/// The threads that actors live on: one for actix's system, and one for each actor, so that no actor
/// stalls another.
pub struct System {
    system: actix::System,
    thread: Option<thread::JoinHandle<()>>,
}

/// Why the actors' threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The operating system gave no thread.
    #[error("cannot start a thread for actors")]
    Thread(#[source] std::io::Error),
    /// The thread ended at once.
    #[error("the actors' system did not start")]
    Stopped,
}

impl System {
    /// Starts the system's thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start() -> Result<Self, SystemError> {
        let (started, ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("actors".into())
            .spawn(move || {
                let runner = actix::System::new();
                if started.send(actix::System::current()).is_ok()
                    && let Err(error) = runner.run()
                {
                    tracing::error!(%error, "the actors' system failed");
                }
            })
            .map_err(SystemError::Thread)?;
        let system = ready.recv().map_err(|_| SystemError::Stopped)?;
        Ok(Self { system, thread: Some(thread) })
    }

    /// A thread for one actor.
    ///
    /// # Errors
    /// The system has stopped.
    pub fn arbiter(&self) -> Result<ArbiterHandle, SystemError> {
        let (made, ready) = mpsc::channel();
        // An arbiter is made on a thread of its system.
        self.system.arbiter().spawn_fn(move || {
            // The receiver waits below; if it is gone, so is the need.
            let _ = made.send(Arbiter::new().handle());
        });
        ready.recv().map_err(|_| SystemError::Stopped)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.system.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there was logged there.
            let _ = thread.join();
        }
    }
}
