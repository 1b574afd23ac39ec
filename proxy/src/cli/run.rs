//! `portcullis run`: from files to a running sidecar.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use portcullis_identity::Clock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::Failure;
use crate::app;
use crate::config::{self, PolicySource};
use crate::drain::Drained;
use crate::svid::TokenSource;

/// Arguments of `portcullis run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The bootstrap file (YAML): who this workload is, where the CA is, which ports to use
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A policy file or directory, beside those that the bootstrap file names; may be repeated
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
    /// Close planned exceptions this long before their day, such as 30d, to see that nothing needs them any more
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration, default_value = "0s")]
    exceptions_ahead: Duration,
}

/// Loads, checks, and runs until SIGTERM or SIGINT; SIGHUP has the policy read again.
///
/// # Errors
/// [`Failure::Unusable`] with every fault of config and policy, [`Failure::Failed`] when a port cannot be had.
pub fn run(args: RunArgs) -> Result<(), Failure> {
    let unusable = |report: config::Report| Failure::Unusable(report.to_string());
    let bootstrap = config::load_bootstrap(&args.config).map_err(unusable)?;
    let join_token = bootstrap.ca.join_token.as_ref().map(token_source).transpose()?;
    let policy_clock = Clock::system_ahead_by(args.exceptions_ahead);
    let sources: Vec<PathBuf> = bootstrap.policy.iter().chain(&args.policy).cloned().collect();
    let scope = bootstrap.policy_scope();
    let policy = PolicySource { paths: sources, scope, clock: policy_clock }.load().map_err(unusable)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        let unhandled = |error| Failure::Failed(format!("cannot handle signals: {error}"));
        let stop = stop_signal().map_err(unhandled)?;
        reload_on_hangup(policy.asked()).map_err(unhandled)?;
        match app::run(bootstrap, join_token, policy, stop).await {
            Ok(Drained::Clean) => tracing::info!("stopped"),
            Ok(Drained::Forced(cut)) => {
                tracing::warn!(cut, "stopped; connections were cut at the drain deadline")
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    })
}

#[allow(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
fn token_source(token: &config::JoinToken) -> Result<TokenSource, Failure> {
    match token {
        config::JoinToken::File(path) => Ok(TokenSource::File(path.clone())),
        config::JoinToken::Env(name) => match std::env::var(name) {
            Ok(text) => Ok(TokenSource::Text(text.into())),
            Err(error) => {
                Err(Failure::Unusable(format!("ca.joinToken: the environment variable {name}: {error}")))
            }
        },
    }
}

impl From<app::AppError> for Failure {
    fn from(error: app::AppError) -> Self {
        match error {
            app::AppError::Bind { .. } => Self::Failed(error.to_string()),
            app::AppError::Agent(_) | app::AppError::Listener { .. } => Self::Unusable(error.to_string()),
        }
    }
}

/// Each connection takes two descriptors; many systems start programs with room for 1,024 and allow far more.
pub(super) fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}

/// Has the policy read again at each SIGHUP, whether its files have changed or not: they may name others.
fn reload_on_hangup(asked: Arc<Notify>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            asked.notify_one();
        }
    });
    Ok(())
}

/// Resolves at the first SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
