//! Where alerts are kept.

use crate::store::Error;
use async_trait::async_trait;
use callboard_domain::alert::Alert;

/// Keeps alerts.
#[async_trait]
pub trait AlertStore: Send + Sync + 'static {
    /// Writes alerts down; those with a known id are replaced.
    async fn save_alerts(&self, alerts: Vec<Alert>) -> Result<(), Error>;

    /// Every alert that is not resolved.
    async fn open_alerts(&self) -> Result<Vec<Alert>, Error>;

    /// Alerts by id, newest first, older than `before` if given.
    async fn list_alerts(
        &self,
        open_only: bool,
        before: Option<String>,
        limit: usize,
    ) -> Result<Vec<Alert>, Error>;
}
