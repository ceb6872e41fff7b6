//! A store that is anything but empty: partitions of ninety days, and tasks without end in a queue that nobody takes
//! from. How fast are the others, and how fast does all of it drain?

use crate::load::{self, BATCH, Way};
use crate::node::{Node, Servers, succeeded};
use crate::{COUNTS_MADE, Rate, Result, rate, say};
use sqlx::Connection as _;
use std::time::{Duration, Instant};

/// The queue that nobody takes from at first.
const ASIDE: &str = "aside";
/// How many days have partitions.
const DAYS: i64 = 90;
/// Asks only where it counts: with so many that wait, a count takes a while.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Measures it with so many waiting tasks, and one by one with `tasks`.
pub(crate) async fn run(servers: &mut Servers, waiting: usize, tasks: usize, runs: usize) -> Result<()> {
    let mut empty = Vec::new();
    for _ in 0..runs {
        let nodes = [Node::replica(&servers.place()?, "n0", None, None).await?];
        let rate = rate(&nodes, Way::OneByOne, tasks, COUNTS_MADE).await?;
        say(&rate.show("empty store, one call a task"))?;
        empty.push(rate.a_second());
    }

    let place = servers.place()?;
    // The first node makes the tables.
    drop(Node::replica(&place, "n0", None, None).await?);
    let mut sql = sqlx::PgConnection::connect(&place.postgres).await?;
    let today: i64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::bigint / 86400")
        .fetch_one(&mut sql)
        .await?;
    // Ahead, for what is before the first day has a partition in common. To a statement it is the same.
    for day in today..today + DAYS {
        sqlx::query("SELECT callboard_make_day($1)").bind(day).execute(&mut sql).await?;
    }
    sql.close().await?;

    let node = Node::replica_of(&place, "n1", &["default"]).await?;
    let channels = load::connect(&[node.endpoint()?]).await?;
    let began = Instant::now();
    load::submit_to(ASIDE, &channels, Way::Batched, waiting).await?;
    let took = began.elapsed();
    let filled = Rate { tasks: waiting, took, cpu: Duration::ZERO, memory_mb: 0.0 };
    say(&filled.show(&format!("admitting {waiting} in batches of {BATCH}")))?;

    let nodes = [node];
    let (mut deep, mut done) = (Vec::new(), 0);
    for _ in 0..runs {
        let rate = beside(&nodes, &channels, tasks, done).await?;
        done += tasks;
        say(&rate.show(&format!("beside {waiting} waiting, {DAYS} days")))?;
        deep.push(rate.a_second());
    }
    let share = crate::median(deep) / crate::median(empty);
    say(&format!("  of an empty store (median): {:.0} %", share * 100.0))?;

    let drains = Node::replica_of(&place, "n2", &[ASIDE]).await?;
    let (began, cpu) = (Instant::now(), drains.cpu());
    let channel = drains.endpoint()?.connect().await?;
    succeeded(channel.clone(), done + waiting / 2, LOOK_EVERY).await?;
    let half = drains.memory_mb();
    succeeded(channel, done + waiting, LOOK_EVERY).await?;
    let drained = Rate {
        tasks: waiting,
        took: began.elapsed(),
        cpu: drains.cpu() - cpu,
        memory_mb: drains.memory_mb(),
    };
    say(&format!("{}, {half:.0} MB half-way", drained.show("draining them")))
}

/// One by one through a node that has done some already.
async fn beside(
    nodes: &[Node],
    channels: &[tonic::transport::Channel],
    tasks: usize,
    done: usize,
) -> Result<Rate> {
    let used = || nodes.iter().map(Node::cpu).sum::<Duration>();
    let (began, cpu) = (Instant::now(), used());
    load::submit(channels, Way::OneByOne, tasks).await?;
    succeeded(channels[0].clone(), done + tasks, COUNTS_MADE).await?;
    let memory_mb = nodes.iter().map(Node::memory_mb).fold(0.0, f64::max);
    Ok(Rate { tasks, took: began.elapsed(), cpu: used() - cpu, memory_mb })
}
