//! The ledger of a cluster.

use super::{Place, open, options};
use callboard_ports::Ledger;
use callboard_ports::contract::ledger::Fixture;
use std::sync::Arc;

/// Three nodes on a database of their own.
struct Database {
    _place: Place,
    both: [Arc<dyn Ledger>; 2],
    third: Arc<dyn Ledger>,
}

#[async_trait::async_trait]
impl Fixture for Database {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.both[0].clone()
    }

    fn other(&self) -> Arc<dyn Ledger> {
        self.both[1].clone()
    }

    async fn reopened(&self) -> Arc<dyn Ledger> {
        self.third.clone()
    }
}

callboard_ports::ledger_contract!(|| async {
    let place = Place::new().await;
    let both: [Arc<dyn Ledger>; 2] = [Arc::new(place.store.ledger()), Arc::new(place.other.ledger())];
    let third = Arc::new(open(&options(&place.url)).await.ledger());
    Database { _place: place, both, third }
});
