//! `portcullis verify`: what would, could or did go wrong. Exit code 1 says that something was found.

use std::io::Write;

use clap::Subcommand;
use serde_json::Value;

use super::Failure;
use super::admin::Output;

pub mod failures;
pub mod policy;
pub mod probe;

/// Arguments of `portcullis verify`.
#[derive(Debug, Subcommand)]
pub enum VerifyCommand {
    /// Show what a policy means for each port, and where it is open, dead or about to end
    #[command(after_help = policy::HELP)]
    Policy(policy::PolicyArgs),
    /// Attack a running port with plaintext, old TLS and bad certificates, and show what got in
    #[command(after_help = probe::HELP)]
    Probe(probe::ProbeArgs),
    /// Show whom a running sidecar has refused, why, and what to do; exit code 1 if anybody
    Failures(failures::FailuresArgs),
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Found`] when there is something to look into, [`Failure::Unusable`] when nothing can be said.
pub fn run(command: VerifyCommand) -> Result<(), Failure> {
    match command {
        VerifyCommand::Policy(args) => policy::run(&args),
        VerifyCommand::Probe(args) => probe::run(args),
        VerifyCommand::Failures(args) => failures::run(&args),
    }
}

/// Prints a report; findings are the exit code. A reader that has gone away (`| head`) is no reason to fail: the
/// exit code still tells.
fn print(
    output: Output,
    failures: usize,
    table: impl FnOnce() -> String,
    json: impl FnOnce() -> Value,
) -> Result<(), Failure> {
    let text = match output {
        Output::Table => table(),
        Output::Json => format!("{:#}\n", json()),
    };
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if failures == 0 { Ok(()) } else { Err(Failure::Found) }
}
