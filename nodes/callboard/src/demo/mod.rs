//! `callboard demo`: the main job from end to end, on a node of its own.
//!
//! It starts a real node process in a temporary folder, submits the examples, shows them run, kills the
//! process with SIGKILL in the middle, starts it again, and shows what became of the work. What it prints is
//! what the node answered.

mod child;
mod jobs;
mod screen;
mod story;

use crate::cli::args::DemoArgs;
use anyhow::Context as _;
use callboard_client::{Client, Options};
use child::Child;
use jobs::Jobs;
use screen::Screen;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The share of the batch that is done when the large tasks are submitted.
const LARGE_AT: f64 = 0.2;
/// How far the campaign is when the node is killed: its text is there, its image is being made.
const KILL_AT: u64 = 50;
/// The longest the whole may take with templates; real providers take what they take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Where images are kept, in the current folder.
const KEPT: &str = "callboard-demo";

/// Runs the demo.
///
/// # Errors
/// Something did not work as it should: then what is said is what was seen.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder =
        tempfile::Builder::new().prefix("callboard-demo-").tempdir().context("cannot make a folder")?;
    let data = folder.path().to_owned();
    let screen = Screen::new(args.plain);
    let done = runtime.block_on(async {
        tokio::select! {
            done = tokio::time::timeout(PATIENCE, tell(args, &data, &screen)) => {
                done.context("the demo takes too long")?.map(|()| ExitCode::SUCCESS)
            }
            _ = tokio::signal::ctrl_c() => {
                screen.line("interrupted: the node and its data are gone");
                Ok(ExitCode::from(130))
            }
        }
    });
    // The child died with the future that held it; its folder goes now.
    if args.keep_data {
        screen.line(&format!("The node's data is kept in {}", folder.keep().display()));
    }
    done
}

async fn tell(args: &DemoArgs, data: &Path, screen: &Screen) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut node = Child::start(args, data, None).await?;
    screen.title("Callboard demo");
    screen.line(&format!(
        "A node runs as process {} on {}, with its data in {}.",
        node.pid(),
        node.address,
        data.display()
    ));
    screen.line(&node.providers_line());

    let client = Client::connect(Options { addresses: vec![node.address.clone()], ..Options::default() })?;
    let batch = jobs::submit_batch(&client, args.batch_size).await?;
    screen.line(&format!("Submitted a batch of {batch} small texts."));
    screen.start_bars(batch);
    jobs::count(&client, screen, batch, LARGE_AT).await?;
    let jobs = Jobs::submit(&client, batch).await?;
    screen.line("Submitted a marketing campaign and a policy to analyse, with a higher priority.");

    let script = async {
        jobs.campaign_reaches(KILL_AT).await;
        let pid = node.pid();
        node.kill9().await?;
        let killed = Instant::now();
        screen.note(&format!("killed process {pid} with SIGKILL, in the middle of its work"));
        let again = Child::start(args, data, Some(&node.address)).await?;
        let back = killed.elapsed().as_millis();
        screen.note(&format!("started again as process {}, {back} ms after the kill", again.pid()));
        jobs.count_all(&client, screen).await?;
        Ok(again)
    };
    // The watches survive the kill by themselves.
    let (mut node, ()) = futures::try_join!(script, jobs.follow(&client, screen))?;
    screen.finish_bars();

    let outcome = jobs.outcome(&client).await?;
    let kept = keep_folder()?;
    story::results(&client, &outcome, &kept, screen).await?;
    story::durability(&client, &outcome, screen).await?;
    node.stop().await?;
    screen.line(&format!(
        "\nDone in {:.1} s. Everything that was acknowledged before the kill has succeeded, each result once.",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A folder for the images: in the current one if it can be written.
fn keep_folder() -> anyhow::Result<PathBuf> {
    for folder in [std::env::current_dir().unwrap_or_default().join(KEPT), std::env::temp_dir().join(KEPT)] {
        if std::fs::create_dir_all(&folder).is_ok() {
            return Ok(folder);
        }
    }
    anyhow::bail!("neither the current nor the temporary folder can be written: there is no place for images")
}
