use callboard_backends::locks::embedded;
use callboard_ports::Locks;
use callboard_ports::contract::locks::Fixture;
use std::sync::Arc;

struct Embedded(Arc<embedded::Locks>);

impl Fixture for Embedded {
    fn locks(&self) -> Arc<dyn Locks> {
        self.0.clone()
    }
}

callboard_ports::locks_contract!(|| async { Embedded(Arc::default()) });
