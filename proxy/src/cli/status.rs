//! `portcullis status`: how a running sidecar stands.

use clap::Args;

use super::admin::{AdminArgs, Output};
use super::{Failure, print};
use crate::status::Status;

mod text;

/// Arguments of `portcullis status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Unusable`] when there is no sidecar to ask.
pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let status: Status = args.admin.ask("/status")?;
    print(&match args.admin.output {
        Output::Json => {
            serde_json::to_string_pretty(&status).map_err(|error| Failure::Failed(error.to_string()))?
        }
        Output::Table => text::page(&status),
    })
}
