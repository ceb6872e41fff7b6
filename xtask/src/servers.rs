//! The servers of one run of tests.

use callboard_services::{Error, Postgres, Programs, RabbitMq, Redis, shared, target_folder};
use std::process::Command;

/// PostgreSQL, RabbitMQ and Redis. They end when this is dropped.
pub(crate) struct Servers {
    pub(crate) programs: Programs,
    postgres: Postgres,
    rabbitmq: RabbitMq,
    redis: Redis,
}

impl Servers {
    /// Finds them on the machine, unpacks Debian's packages or takes containers, and starts them on free ports.
    ///
    /// # Errors
    /// One cannot be had.
    pub(crate) fn start() -> Result<Self, Error> {
        let programs = Programs::find(&target_folder())?;
        let postgres = Postgres::start(&programs)?;
        let rabbitmq = RabbitMq::start(&programs)?;
        let redis = Redis::start(&programs, &std::env::temp_dir())?;
        Ok(Self { programs, postgres, rabbitmq, redis })
    }

    /// Tells tests where they are.
    pub(crate) fn tell(&self, test: &mut Command) {
        test.env(shared::POSTGRES_URL, self.postgres.url("postgres"));
        test.env(shared::RABBITMQ_URL, self.rabbitmq.url());
        test.env(shared::REDIS_URL, self.redis.url(0));
    }
}
