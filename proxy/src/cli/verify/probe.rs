//! `portcullis verify probe`: attacks one running port from outside.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use portcullis_identity::Clock;
use rustls_pki_types::ServerName;

use super::super::Failure;
use super::super::admin::Output;
use super::print;
use crate::config;
use crate::verify::probe::{self, Roots, Target};

pub(super) const HELP: &str = "\
Exit code: 0 nothing got in, 1 something got in or was not refused in time, 2 the port cannot be reached.
JSON: {target, address, server: {id, trusted, tls13, tls12: {spoken, asks_for_certificate}}, failures,
attempts: [{name, what, verdict: refused|got_in|unclear|information, how, ms}]}";
/// Longest `--deadline`.
const MAX_DEADLINE: Duration = Duration::from_secs(300);

/// Arguments of `portcullis verify probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The port to attack, such as api.example:8443, 10.0.0.7:8443 or `[::1]:8443`
    #[arg(value_name = "HOST:PORT", value_parser = host_and_port)]
    target: (String, u16),
    /// The mesh's roots (PEM or a SPIFFE bundle): hold the server's own certificate against them
    #[arg(long, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// The name to ask for in TLS, where it is not the host
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    sni: Option<ServerName<'static>>,
    /// Longest time of one attempt
    #[arg(long, value_name = "DURATION", value_parser = deadline, default_value = "5s")]
    deadline: Duration,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Found`] when something got in, [`Failure::Unusable`] when the port cannot be reached.
pub fn run(args: ProbeArgs) -> Result<(), Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure::Unusable(error.to_string());
    let ProbeArgs { target: (host, port), ca_bundle, sni, deadline, output } = args;
    let roots = ca_bundle.map(|file| Roots::read(&file)).transpose().map_err(|error| unusable(&error))?;
    let target = Target { host, port, sni, roots, deadline };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let report =
        runtime.block_on(probe::probe(&target, &Clock::system())).map_err(|error| unusable(&error))?;
    print(output, report.failures(), || probe::table(&report), || probe::json(&report))
}

fn host_and_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("write HOST:PORT")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port.parse() {
        Ok(port @ 1..) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err("write HOST:PORT, with a port from 1 to 65535"),
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, &'static str> {
    ServerName::try_from(text.to_owned()).map_err(|_| "neither a DNS name nor an address")
}

fn deadline(text: &str) -> Result<Duration, String> {
    match config::parse_duration(text)? {
        Duration::ZERO => Err("nothing can be tried in no time".to_owned()),
        deadline if deadline > MAX_DEADLINE => Err("longer than 5m".to_owned()),
        deadline => Ok(deadline),
    }
}
