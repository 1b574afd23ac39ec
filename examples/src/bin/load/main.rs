//! Open-loop load on `hello-service`: requests leave at a fixed rate whatever the answers take, and a latency counts from
//! the moment its request was due, so a stall of the server is seen by every request that it held up.

mod client;
mod report;
mod schedule;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hyper::Uri;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use client::{Client, Failure, Target};
use report::Report;
use schedule::Schedule;

/// A request without an answer for this long has failed; and how long the last ones have after the end.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(about = "Open-loop HTTP/1.1 load with keep-alive; exits 0 only if no request failed")]
struct Args {
    /// http://HOST:PORT/PATH, served by hello-service
    #[arg(long)]
    url: Uri,
    /// Requests per second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    duration: u32,
    /// Connections, which is also the most requests under way at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let target = match Target::new(&args.url) {
        Ok(target) => Arc::new(target),
        Err(error) => {
            eprintln!("load: {}: {error}", args.url);
            return ExitCode::from(2);
        }
    };
    let schedule =
        Arc::new(Schedule::new(Instant::now(), args.rate, Duration::from_secs(args.duration.into())));
    let mut report = run(&target, &schedule, args.connections).await;
    report.unsent(schedule.untaken());
    println!("{}", report.finish());
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the schedule to its end, or to the hard stop one [`PATIENCE`] after it.
async fn run(target: &Arc<Target>, schedule: &Arc<Schedule>, connections: u16) -> Report {
    let stop = schedule.end() + PATIENCE;
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn(work(target.clone(), schedule.clone(), stop));
    }
    let mut report = Report::default();
    while let Some(worker) = workers.join_next().await {
        // A worker neither panics nor is aborted.
        if let Ok(part) = worker {
            report.merge(part);
        }
    }
    report
}

/// One connection: takes the next due request, waits for its moment, sends it.
async fn work(target: Arc<Target>, schedule: Arc<Schedule>, stop: Instant) -> Report {
    let mut report = Report::default();
    let mut client = Client::new(&target);
    while Instant::now() < stop
        && let Some((number, due)) = schedule.take()
    {
        tokio::time::sleep_until(due).await;
        report.sent(due.elapsed());
        let limit = stop.min(Instant::now() + PATIENCE);
        match timeout_at(limit, client.get(number)).await {
            Ok(Ok(peer)) => report.ok(due.elapsed(), peer),
            Ok(Err(failure)) => report.failed(&failure),
            Err(_) => {
                client.disconnect();
                report.failed(&Failure::Timeout);
            }
        }
    }
    report
}
