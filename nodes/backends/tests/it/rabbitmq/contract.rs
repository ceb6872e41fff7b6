use super::support;
use async_trait::async_trait;
use callboard_backends::handoff::rabbitmq::{Handoff, Options};
use callboard_domain::Band;
use callboard_ports::contract::handoff::Fixture;
use callboard_ports::{self, Handoff as _};
use std::sync::Arc;

const BOUND: u32 = 2_000;

struct Fresh {
    handoff: Arc<Handoff>,
    options: Options,
}

#[async_trait]
impl Fixture for Fresh {
    fn handoff(&self) -> Arc<dyn callboard_ports::Handoff> {
        self.handoff.clone()
    }

    fn bound(&self) -> usize {
        BOUND as usize
    }

    async fn lose(&self, queue: &str, band: Band) {
        let Options { url, prefix, .. } = &self.options;
        let band = format!("{band:?}").to_lowercase();
        support::Operator::new(url).await.delete(&format!("{prefix}.{queue}.{band}")).await;
    }
}

callboard_ports::handoff_contract!(|| async {
    let options = Options { max_length: BOUND, ..support::options().await };
    Fresh { handoff: Handoff::new(options.clone()).unwrap(), options }
});

#[tokio::test]
async fn it_can_be_reached() {
    assert_eq!(support::handoff().await.check().await, Ok(()));
}
