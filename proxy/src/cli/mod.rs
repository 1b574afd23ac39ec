//! The command line. The only place that reads arguments and environment.
//!
//! Exit codes: 0 done; 1 failed while running; 2 a command line, config or policy that cannot be used.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::demo;
use crate::intercept::InterceptError;

pub mod intercept;
pub mod run;

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
    /// Show a STRICT pair at work, attack it, and say what held
    Demo(demo::DemoArgs),
}

/// Why a command ended without having done its work.
pub enum Failure {
    /// While running: exit code 1.
    Failed(String),
    /// Input that cannot be used: exit code 2.
    Unusable(String),
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
