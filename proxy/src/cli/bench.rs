//! `portcullis bench`: what limits do to a service under load.

mod output;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use http::Uri;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Failure;
use super::run::raise_file_limit;
use crate::bench::envoy::Program;
use crate::bench::error::BenchError;
use crate::bench::grid::Grid;
use crate::bench::journal::JournalError;
use crate::bench::progress::span;
use crate::bench::recommend::{EXAMPLE_HOST, Goal};
use crate::bench::result::Conditions;
use crate::bench::sweep::{Plan, SweepError};
use crate::bench::upstream::{LatencyModel, Service};
use output::Wanted;
use values::{limits, rates};

/// Settings of the limits in one sweep, each with a listener of its own.
const MAX_SETTINGS: usize = 64;
/// Points in one sweep.
const MAX_POINTS: usize = 512;

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Sweep the limits of a connection pool against offered load, and recommend a setting
    Pool(Box<PoolArgs>),
}

/// Arguments of `portcullis bench pool`.
#[derive(Debug, Args)]
#[command(after_help = "\
A list is numbers or `none`, separated by commas; 1..64*2 stands for 1,2,4,..,64 and 10..50+10 for 10,20,..,50.

Written to the directory as soon as it is measured: journal.jsonl; at the end and when interrupted: report.html (opens
without a network), results.csv, results.json. The same command goes on where the last one stopped; one with other
conditions in the same directory is refused, with what differs.

Exit code: 0 done; 1 it failed while measuring, or no setting holds the goal of --goal; 2 a command line that cannot be
used; 130 interrupted (Ctrl-C or SIGTERM): what was measured is kept, and reported.")]
pub struct PoolArgs {
    /// Values of tcp.maxConnections [default: 4,8,16,32,64]
    #[arg(long, value_name = "LIST", value_parser = limits)]
    max_connections: Option<values::Limits>,
    /// Values of http.http1MaxPendingRequests [default: 8,64]
    #[arg(long, value_name = "LIST", value_parser = limits)]
    max_pending: Option<values::Limits>,
    /// Values of http.http2MaxRequests: requests under way, over HTTP/1.1 too [default: none]
    #[arg(long, value_name = "LIST", value_parser = limits)]
    max_requests: Option<values::Limits>,
    /// Offered loads, in requests per second
    #[arg(long, value_name = "LIST", value_parser = rates, default_value = "250,500,1000,2000")]
    rates: values::Rates,
    /// Time that the upstream takes: 10ms, uniform:5ms,15ms, exponential:10ms, lognormal:10ms,0.5 (median, sigma)
    #[arg(long, value_name = "MODEL", default_value = "lognormal:10ms,0.5")]
    latency: LatencyModel,
    /// Requests that the upstream works on at a time; the others wait in it [default: no bound]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: Option<u32>,
    /// Bytes of each answer's body
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(..=16_777_216))]
    body: u32,
    /// Seconds for which each point is measured, after a warm-up
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = values::seconds)]
    seconds: f64,
    /// What a setting is to achieve [default: p99 < 50 ms at the highest rate, refused < 0.1 %]
    #[arg(long, value_name = "GOAL")]
    goal: Option<Goal>,
    /// Where everything is written [default: portcullis-bench/pool-HASH, a directory for each set of conditions]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure anew what the directory already holds
    #[arg(long)]
    fresh: bool,
    /// Print the DestinationRule of the recommended setting, and nothing else, on standard output
    #[arg(long, conflicts_with = "target")]
    yaml: bool,
    /// The host that the DestinationRule is for
    #[arg(long, value_name = "HOST", default_value = EXAMPLE_HOST, requires = "yaml")]
    yaml_host: String,
    /// Measure what runs at this URL, with the limits that are in force there: only the rates are swept
    #[arg(long, value_name = "URL", value_parser = values::target,
          conflicts_with_all = ["max_connections", "max_pending", "max_requests", "compare", "latency", "concurrency", "body"])]
    target: Option<Uri>,
    /// The Host header for --target, if it is other than the URL's
    #[arg(long, value_name = "HOST", requires = "target", value_parser = values::host)]
    host: Option<String>,
    /// Measure the same through another proxy as well
    #[arg(long, value_enum)]
    compare: Option<Compare>,
    /// The Envoy to compare with [default: the one in PATH]
    #[arg(long, value_name = "FILE", requires = "compare")]
    envoy: Option<PathBuf>,
}

/// What can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compare {
    /// A pair of Envoys
    Envoy,
}

/// Runs a bench.
///
/// # Errors
/// [`Failure`], with what to do.
pub fn run(command: BenchCommand) -> Result<(), Failure> {
    let BenchCommand::Pool(args) = command;
    let wanted = Wanted { goal: args.goal.is_some(), yaml: args.yaml, host: args.yaml_host.clone() };
    let plan = plan(*args)?;
    raise_file_limit();
    let stop = stop_signal().map_err(|error| Failure::Failed(format!("cannot handle signals: {error}")))?;
    let outcome = plan.run(stop, |known, missing| announce(&plan, known, missing))?;
    output::show(&plan, &outcome, &wanted)
}

fn plan(args: PoolArgs) -> Result<Plan, Failure> {
    let unset = || values::Limits(vec![None]);
    let own = args.target.is_none();
    let default = |values: &[u32]| {
        if own { values::Limits(values.iter().copied().map(Some).collect()) } else { unset() }
    };
    let grid = Grid {
        max_connections: args.max_connections.unwrap_or_else(|| default(&[4, 8, 16, 32, 64])).0,
        max_pending: args.max_pending.unwrap_or_else(|| default(&[8, 64])).0,
        max_requests: args.max_requests.unwrap_or_else(unset).0,
        rates: args.rates.0,
    };
    let envoy = args.compare.map(|Compare::Envoy| Program::find(args.envoy.as_deref(), &search_path()));
    let envoy = envoy.transpose().map_err(|error| Failure::Unusable(error.to_string()))?;
    bounded(&grid, if envoy.is_some() { 2 } else { 1 })?;
    let goal = goal(args.goal, &grid)?;
    let service = Service { latency: args.latency, concurrency: args.concurrency, body: args.body };
    let conditions = Conditions {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        latency: service.latency.to_string(),
        concurrency: args.concurrency,
        body: args.body,
        seconds: args.seconds,
        grid,
        target: args.target.as_ref().map(|url| match &args.host {
            Some(host) => format!("{url} (host {host})"),
            None => url.to_string(),
        }),
        machine: machine(envoy.as_ref()),
    };
    let out = args.out.unwrap_or_else(|| PathBuf::from("portcullis-bench").join(values::name(&conditions)));
    let target = args.target.map(|url| (url, args.host));
    Ok(Plan { conditions, service, goal, out, fresh: args.fresh, target, envoy })
}

/// Every setting has a listener, and every point takes its seconds.
fn bounded(grid: &Grid, proxies: usize) -> Result<(), Failure> {
    let settings = [&grid.max_connections, &grid.max_pending, &grid.max_requests].map(Vec::len);
    let settings = settings.into_iter().fold(1, usize::saturating_mul);
    let points = settings.saturating_mul(grid.rates.len()).saturating_mul(proxies);
    if settings > MAX_SETTINGS {
        return Err(Failure::Unusable(format!(
            "--max-connections x --max-pending x --max-requests are {settings} settings, and {MAX_SETTINGS} at most are \
             measured in one sweep: leave some out"
        )));
    }
    if points > MAX_POINTS {
        return Err(Failure::Unusable(format!(
            "{settings} settings at {} rates, through {proxies}, are {points} points, and {MAX_POINTS} at most are \
             measured in one sweep: leave some out",
            grid.rates.len()
        )));
    }
    Ok(())
}

fn goal(asked: Option<Goal>, grid: &Grid) -> Result<Goal, Failure> {
    let highest = grid.rates.iter().max().copied().unwrap_or_default();
    match asked {
        Some(goal) if goal.rate > highest => Err(Failure::Unusable(format!(
            "--goal is for {}/s, and the highest of --rates is {highest}: add {} to --rates",
            goal.rate, goal.rate
        ))),
        Some(goal) => Ok(goal),
        None => format!("p99 < 50 ms at {highest}/s, refused < 0.1 %").parse().map_err(
            |error: crate::bench::recommend::GoalError| Failure::Failed(format!("the default goal: {error}")),
        ),
    }
}

fn announce(plan: &Plan, known: usize, missing: usize) {
    eprintln!("Everything is written to {}", plan.out.display());
    if known > 0 {
        eprintln!("{known} points were measured before and are kept; --fresh measures them again");
    }
    let (sweep, confirm) = plan.expected(missing);
    if missing == 0 {
        eprintln!("No point is missing");
    } else {
        eprintln!(
            "{missing} points of {} s, {} each: about {}",
            plan.conditions.seconds,
            span(plan.each()),
            span(sweep)
        );
    }
    if confirm > Duration::ZERO {
        eprintln!("The recommended setting is then measured again: at most {} more", span(confirm));
    }
}

fn machine(envoy: Option<&Program>) -> BTreeMap<String, String> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut machine = BTreeMap::from([("cpus".to_owned(), cpus.to_string())]);
    if let Ok(kernel) = std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        machine.insert("kernel".to_owned(), kernel.trim().to_owned());
    }
    machine.extend(envoy.map(|envoy| ("envoy".to_owned(), envoy.version.clone())));
    machine
}

#[allow(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Becomes true at the first SIGINT or SIGTERM.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let (stop, stopped) = watch::channel(false);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Nobody measures any more when the bench is at its end.
            let _ = stop.send(true);
            std::future::pending::<()>().await;
        });
    })?;
    Ok(stopped)
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Journal(JournalError::Io { .. } | JournalError::Taken(_)) => {
                Self::Failed(error.to_string())
            }
            SweepError::Journal(JournalError::Foreign { .. } | JournalError::Other { .. }) => {
                Self::Unusable(error.to_string())
            }
            SweepError::Bench(BenchError::Missing(_) | BenchError::NoEnvoy(_)) => {
                Self::Unusable(error.to_string())
            }
            SweepError::Bench(_) => Self::Failed(format!("{error}; what was measured until then is kept")),
        }
    }
}
