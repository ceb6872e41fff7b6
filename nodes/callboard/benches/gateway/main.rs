//! How fast the endpoint that speaks OpenAI's API is between a client and a provider: a real `up` process on one core; the
//! load, the fake provider and the collector of its spans on another.
//!
//! `cargo xtask bench --gateway [--runs N] [--calls N] [--streams N]`
//!
//! Beside it, in the same run: the provider called directly, which is what the load costs by itself, and the floor, a bare
//! pass-through. All that is said of the gateway is said beside these: machines differ more than what is measured.
//!
//! It knows nothing of how the gateway works: what is compared is what a client sees, and what the system counts.

mod floor;
mod http;
mod load;
mod node;
mod provider;
mod shown;
mod sink;

use load::{Plan, Prompts, Took};
use node::{Cores, Node};
use provider::Provider;
use shown::Table;
use sink::Sink;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The argument of the process that is the floor.
const FLOOR: &str = "--floor-for";
/// Callers at once where it is not one.
const CALLERS: usize = 32;
/// How often each of them calls, where they are paced: 1,600 requests/s together.
const EVERY: Duration = Duration::from_millis(20);
/// Callers at once where all that can be done is done.
const SATURATING: usize = 64;
/// Tokens of the streams that come one after the other.
const TOKENS: u32 = 3;
/// Tokens of the streams that come at once: they go on for two seconds.
const MANY_TOKENS: u32 = 200;

struct Args {
    runs: usize,
    /// Of saturation. Where latency is measured there are fewer.
    calls: usize,
    /// At once.
    streams: usize,
}

fn args(mut given: impl Iterator<Item = String>) -> Result<Args> {
    let mut args = Args { runs: 3, calls: 200_000, streams: 500 };
    while let Some(arg) = given.next() {
        let mut number = || -> Result<usize> { Ok(given.next().ok_or("a number is missing")?.parse()?) };
        match arg.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--runs" => args.runs = number()?.max(1),
            "--calls" => args.calls = number()?.max(1_000),
            "--streams" => args.streams = number()?.max(1),
            other => return Err(format!("`{other}` is no option: --runs N, --calls N, --streams N").into()),
        }
    }
    Ok(args)
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// What one of the three did in one run.
struct Measured {
    one: Took,
    many: Took,
    /// Requests a second, all that can be done.
    rate: f64,
    /// While that was done.
    saturated: Took,
    /// Of the process, a request.
    cpu: Duration,
    /// Of the process, before, half-way and after.
    memory_mb: [f64; 3],
    /// To the first token, one stream after the other.
    stream: Took,
    /// To the first token, all at once.
    streams: Took,
}

async fn measure(
    target: &load::Target,
    prompts: &Prompts,
    args: &Args,
    used: impl Fn() -> (f64, Duration),
) -> Result<Measured> {
    let calls = args.calls;
    let of = |callers, calls| Plan { callers, calls, every: None, tokens: None };
    let run = |plan| load::run(target, prompts, plan);
    run(of(SATURATING, (calls / 20).max(1_000))).await?;
    let one = run(of(1, (calls / 20).max(500))).await?.took;
    let paced = Plan { every: Some(EVERY), ..of(CALLERS, (calls / 20).max(1_000)) };
    let many = run(paced).await?.took;
    let (before, cpu) = used();
    let first = run(of(SATURATING, calls / 2)).await?;
    let (half_way, _) = used();
    let second = run(of(SATURATING, calls / 2)).await?;
    let (after, cpu_after) = used();
    let span = first.span + second.span;
    let mut saturated = first.took;
    saturated.add(second.took)?;
    let done = saturated.len() as f64;
    let stream = run(Plan { tokens: Some(TOKENS), ..of(1, (calls / 1_000).clamp(20, 200)) }).await?.took;
    let at_once = Plan { tokens: Some(MANY_TOKENS), ..of(args.streams, args.streams) };
    let streams = run(at_once).await?.took;
    Ok(Measured {
        one,
        many,
        rate: done / span.as_secs_f64(),
        saturated,
        cpu: (cpu_after - cpu).div_f64(done),
        memory_mb: [before, half_way, after],
        stream,
        streams,
    })
}

async fn runs(cores: Cores, args: &Args) -> Result<()> {
    let provider = Provider::start().await?;
    let sink = Sink::start().await?;
    let prompts = Prompts::default();
    let mut table = Table::default();
    for run in 1..=args.runs {
        let direct = load::Target { address: provider.address, key: "sk-bench".into() };
        let direct = measure(&direct, &prompts, args, Default::default).await?;
        let node = Node::floor(cores, provider.address).await?;
        let floor = measure(&node.target, &prompts, args, || node.used()).await?;
        drop(node);
        let node = Node::gateway(cores, provider.address, &sink).await?;
        let gateway = measure(&node.target, &prompts, args, || node.used()).await?;
        drop(node);
        say(&format!("\nrun {run} of {}", args.runs))?;
        let mut once = Table::default();
        once.add(&direct, &floor, &gateway);
        say(&once.show())?;
        table.add(&direct, &floor, &gateway);
    }
    if args.runs > 1 {
        say(&format!("\nmedian of {} runs, each difference within its run", args.runs))?;
        say(&table.show())?;
    }
    say(&format!("\n{} spans came", sink.spans()))
}

fn main() -> Result<()> {
    let mut given = std::env::args().skip(1).peekable();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if given.next_if(|arg| arg == FLOOR).is_some() {
        let provider: SocketAddr = given.next().ok_or("the provider's address is missing")?.parse()?;
        return runtime.block_on(floor::serve(provider));
    }
    let args = args(given)?;
    say(&format!(
        "one core: what is measured; another: load, provider, collector. {} calls of {} callers, {} streams at once",
        args.calls, SATURATING, args.streams
    ))?;
    runtime.block_on(runs(Cores::take()?, &args))
}
