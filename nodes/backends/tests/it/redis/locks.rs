use super::support::{link, shared};
use callboard_backends::locks::redis;
use callboard_ports::Locks;
use callboard_ports::contract::locks::Fixture;
use std::sync::Arc;

/// Two nodes, each with a connection of its own.
struct Redis([Arc<redis::Locks>; 2]);

impl Fixture for Redis {
    fn locks(&self) -> Arc<dyn Locks> {
        self.0[0].clone()
    }

    fn other(&self) -> Arc<dyn Locks> {
        self.0[1].clone()
    }
}

async fn make() -> Redis {
    let options = shared().await;
    Redis([(); 2].map(|()| Arc::new(redis::Locks::new(link(&options)))))
}

callboard_ports::locks_contract!(make);
