use super::support::{link, shared};
use callboard_backends::answers::redis;
use callboard_ports::answers::{Answers, Error};
use callboard_ports::contract::answers::Fixture;
use std::sync::Arc;

/// Two nodes, each with a connection of its own.
struct Redis([Arc<redis::Answers>; 2]);

impl Fixture for Redis {
    fn answers(&self) -> Arc<dyn Answers> {
        self.0[0].clone()
    }

    fn other(&self) -> Arc<dyn Answers> {
        self.0[1].clone()
    }
}

async fn make() -> Redis {
    let options = shared().await;
    Redis([(); 2].map(|()| Arc::new(redis::Answers::new(link(&options)))))
}

callboard_ports::answers_contract!(make);

#[tokio::test]
async fn clusters_that_share_a_server_share_no_answers() {
    let (one, two) = (redis::Answers::new(link(&shared().await)), redis::Answers::new(link(&shared().await)));
    one.put("a", "one".into(), std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(two.get("a").await, Ok(None));
}

#[tokio::test]
async fn without_redis_that_is_said() {
    let nowhere = callboard_backends::redis_link::Options::new("redis://127.0.0.1:1", "x");
    let answers = redis::Answers::new(link(&nowhere));
    assert!(matches!(answers.get("a").await, Err(Error::Unavailable(_))));
}
