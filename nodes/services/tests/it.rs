//! Each server really starts, dies and comes back.

use callboard_services::{Postgres, Programs, RabbitMq, Redis, shared, target_folder};

#[test]
fn postgres_keeps_its_data_over_a_kill() {
    let mut postgres = Postgres::start(shared::programs().unwrap()).unwrap();
    postgres.create_database("a").unwrap();
    postgres.sql("a", "CREATE TABLE t (n int); INSERT INTO t VALUES (42)").unwrap();
    assert_eq!(postgres.sql("a", "SHOW fsync").unwrap().trim(), "on");
    postgres.kill().unwrap();
    assert!(postgres.sql("a", "SELECT 1").is_err());
    postgres.restart().unwrap();
    assert_eq!(postgres.sql("a", "SELECT n FROM t").unwrap().trim(), "42");
}

#[test]
fn two_rabbitmqs_live_beside_each_other_and_one_comes_back() {
    let programs = shared::programs().unwrap();
    let (mut one, two) = (RabbitMq::start(programs).unwrap(), RabbitMq::start(programs).unwrap());
    one.kill().unwrap();
    assert!(two.ctl(&["list_queues"]).is_ok());
    one.restart().unwrap();
    assert!(one.ctl(&["list_vhosts"]).unwrap().contains('/'));
}

#[test]
fn redis_forgets_when_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(shared::programs().unwrap(), dir.path()).unwrap();
    redis.command(&["set", "a", "1"]).unwrap();
    redis.kill().unwrap();
    redis.restart().unwrap();
    assert_eq!(redis.command(&["get", "a"]).unwrap().trim(), "");
}

#[test]
fn everybody_gets_a_database_of_their_own() {
    let (a, b) = (shared::database().unwrap(), shared::database().unwrap());
    assert_ne!(a, b);
    assert_eq!(Programs::find(&target_folder()).unwrap().places()[0].0, "PostgreSQL");
}
