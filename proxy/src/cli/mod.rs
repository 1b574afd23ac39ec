//! The command line. The only place that reads arguments and environment.
//!
//! Exit codes: 0 done; 1 failed while running, or something was found; 2 a command line, config or policy that cannot
//! be used, or no sidecar to ask; 130 interrupted.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::demo;
use crate::intercept::InterceptError;

pub mod admin;
pub mod bench;
pub mod intercept;
pub mod run;
pub mod status;
mod table;
pub mod verify;

/// Mutual TLS beside one service: everything else is refused.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true)]
struct Arguments {
    /// What `run` logs (JSON lines on stderr): error, warn, info, debug, or a filter such as portcullis=debug.
    #[arg(long, global = true, env = "PORTCULLIS_LOG", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar until SIGTERM; a file that cannot be used ends it with exit code 2
    Run(run::RunArgs),
    /// Put the redirect of this network namespace in place, take it away, or show it
    Intercept(intercept::InterceptArgs),
    /// Show how a running sidecar stands: identity, policy, listeners, destinations, pools, refusals
    Status(status::StatusArgs),
    /// Look for what is wrong; exit code 1 when there is something
    #[command(subcommand)]
    Verify(verify::VerifyCommand),
    /// Measure what limits do to a service under load
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Show a STRICT pair at work, attack it, and say what held
    Demo(demo::DemoArgs),
}

/// Why a command ended without having done its work.
pub enum Failure {
    /// While running: exit code 1.
    Failed(String),
    /// Input that cannot be used: exit code 2.
    Unusable(String),
    /// By a signal, having kept what was done: exit code 130, as shells have it.
    Interrupted(String),
    /// It looked, and there is something; it has been printed: exit code 1.
    Found,
}

impl From<InterceptError> for Failure {
    fn from(error: InterceptError) -> Self {
        if matches!(error, InterceptError::Settings(_)) {
            Self::Unusable(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// Parses the command line and runs it.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Run(args) => log_json(&arguments.log).and_then(|()| run::run(args)),
        Command::Intercept(args) => intercept::run(args).map_err(Failure::from),
        Command::Status(args) => status::run(&args),
        Command::Verify(command) => verify::run(command),
        Command::Bench(command) => bench::run(command),
        Command::Demo(args) => return demo::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("portcullis: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Unusable(why)) => {
            eprintln!("portcullis: {why}");
            ExitCode::from(2)
        }
        Err(Failure::Interrupted(why)) => {
            eprintln!("portcullis: {why}");
            ExitCode::from(130)
        }
        Err(Failure::Found) => ExitCode::from(1),
    }
}

/// Prints a page. Whoever reads may have seen enough: a closed pipe is no failure.
fn print(page: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{page}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot print: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One JSON object per line on standard error.
fn log_json(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::Unusable(format!("--log {filter:?} is not a log filter: {error}")))?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
