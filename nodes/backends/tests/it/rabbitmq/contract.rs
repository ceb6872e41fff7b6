use super::support;
use callboard_backends::handoff::rabbitmq::{Handoff, Options};
use callboard_ports::contract::handoff::Fixture;
use callboard_ports::{self, Handoff as _};
use std::sync::Arc;

const BOUND: u32 = 2_000;

struct Fresh(Arc<Handoff>);

impl Fixture for Fresh {
    fn handoff(&self) -> Arc<dyn callboard_ports::Handoff> {
        self.0.clone()
    }

    fn bound(&self) -> usize {
        BOUND as usize
    }
}

callboard_ports::handoff_contract!(|| async {
    let options = Options { max_length: BOUND, ..support::options().await };
    Fresh(Handoff::new(options).unwrap())
});

#[tokio::test]
async fn it_can_be_reached() {
    assert_eq!(support::handoff().await.check().await, Ok(()));
}
