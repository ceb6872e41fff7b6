//! Who answers at an address, asked on a connection of its own.

use crate::membership::Probe;
use crate::mesh::connect::{self, Error};
use crate::mesh::error;
use crate::mesh::tls::Identity;
use crate::mesh::{self, Link, LinkOptions, SupervisorClient, Timing, Unobserved};
use callboard_contracts::mesh::v1::GetStatusRequest;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Asks who is at an address, on a fresh connection. [`Probe::Refused`] is said only of `ECONNREFUSED`, from
/// every address the name has; a connection that breaks counts as [`Probe::Unreachable`].
pub async fn probe(
    address: &str,
    deadline: Duration,
    identity: Option<Arc<Identity>>,
    caller: &str,
) -> Probe {
    let until = Instant::now() + deadline;
    let left = || until.saturating_duration_since(Instant::now());
    let stream = match connect::tcp(address, deadline).await {
        Ok(stream) => stream,
        Err(error) => return failed(address, &error),
    };
    let timing = Timing { connect: left(), ..Timing::default() };
    // Its tasks end with the link, which lives no longer than this call.
    let tracker = TaskTracker::new();
    let connection = match connect::http2(stream, identity.as_deref(), timing, &tracker).await {
        Ok(connection) => connection,
        Err(error) => return failed(address, &error),
    };
    let options = LinkOptions {
        peer: address.to_owned(),
        address: address.to_owned(),
        identity,
        timing,
        observer: Arc::new(Unobserved),
        tracker,
    };
    let client = SupervisorClient::remote(Link::over(options, connection)).called_by(caller);
    match client.get_status(GetStatusRequest::default(), left()).await {
        Ok(status) => Probe::Answered {
            session: status.session_id.parse().ok(),
            incarnation: status.incarnation,
            node: status.node,
        },
        Err(mesh::Error::Answered(status)) => Probe::Foreign(status.message().to_owned()),
        Err(error) if error::is_foreign(error.status()) => {
            Probe::Foreign(error.status().message().to_owned())
        }
        Err(_) if left().is_zero() => Probe::TimedOut,
        Err(error) => unreachable(address, &error.to_string()),
    }
}

fn failed(address: &str, error: &Error) -> Probe {
    match error {
        Error::Refused => Probe::Refused,
        Error::TimedOut(_) => Probe::TimedOut,
        Error::Untrusted(_) | Error::Foreign(_) => Probe::Foreign(error.text()),
        Error::Resolve(_) | Error::Unreachable(_) | Error::Broken(_) => unreachable(address, &error.text()),
    }
}

fn unreachable(address: &str, why: &str) -> Probe {
    tracing::debug!(address, why, "a probe did not get through");
    Probe::Unreachable
}
