use callboard_backends::token_buckets::embedded;
use callboard_ports::TokenBuckets;
use callboard_ports::contract::token_buckets::Fixture;
use std::sync::Arc;

struct Embedded(Arc<embedded::TokenBuckets>);

impl Fixture for Embedded {
    fn buckets(&self) -> Arc<dyn TokenBuckets> {
        self.0.clone()
    }
}

callboard_ports::token_buckets_contract!(|| async { Embedded(Arc::default()) });
