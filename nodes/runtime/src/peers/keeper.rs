//! Keeps the connection to one peer open.

use super::standing::Standing;
use crate::mesh::{Link, SupervisorClient};
use callboard_contracts::mesh::v1::GetStatusRequest;
use std::sync::Arc;
use std::time::Duration;

/// How long the peer may take to say who it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The pause after a failure: it doubles with each that follows, from the first to the last.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Connects, asks who is there, waits for the connection's end, and begins again. What fails is told to the
/// peer's standing by the link; this adds only what a connection cannot know: that another node answers.
pub(super) async fn keep(link: Link, standing: Arc<Standing>, peer: String, own: String) {
    let client = SupervisorClient::remote(link.clone()).called_by(&own);
    let mut pause = PAUSE;
    loop {
        match client.get_status(GetStatusRequest::default(), ANSWER_WITHIN).await {
            Ok(status) if status.node == peer => {
                pause = PAUSE;
                link.ended().await;
            }
            Ok(status) => {
                standing.suspect(&format!("the node {} answers at its address", status.node));
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => {
                tracing::debug!(peer, %error, "a peer does not say how it is");
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        tokio::time::sleep(pause).await;
    }
}
