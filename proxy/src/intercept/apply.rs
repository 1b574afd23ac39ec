//! Putting the rules into the kernel, by `nft` and `ip`, and taking them out.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use super::rules::REMOVE;
use super::{BadSettings, Ruleset};

/// Source address of the proxy's connections to its service over IPv6, as 127.0.0.6 is over IPv4 (where all
/// of 127.0.0.0/8 is local to begin with).
const INBOUND_SOURCE_V6: &str = "::6/128";
/// The same as it stands in /proc/net/if_inet6.
const INBOUND_SOURCE_V6_DIGITS: &str = "00000000000000000000000000000006";

/// Why rules could not be set or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterceptError {
    /// Settings that make no ruleset.
    #[error(transparent)]
    Settings(#[from] BadSettings),
    /// No such program.
    #[error(
        "{program} is not installed: install the package {package} (Debian, Ubuntu, Alpine and Fedora name it so)"
    )]
    Missing {
        /// `nft` or `ip`.
        program: &'static str,
        /// Where it comes from.
        package: &'static str,
    },
    /// The user may not change the rules of this network namespace.
    #[error("no permission to change network rules: run as root or with the capability CAP_NET_ADMIN")]
    NoPermission,
    /// The program refused.
    #[error("{program} failed: {message}")]
    Refused {
        /// `nft` or `ip`.
        program: &'static str,
        /// What it printed.
        message: String,
    },
    /// The program could not be run or talked to.
    #[error("cannot run {program}: {source}")]
    Run {
        /// `nft` or `ip`.
        program: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The text could not be printed.
    #[error("cannot print the rules: {0}")]
    Print(#[source] io::Error),
}

/// Sets the rules in this network namespace, in place of those set before, in one transaction. They stay until
/// [`remove`], whatever becomes of the proxy.
///
/// # Errors
/// [`InterceptError`]; the rules are then as they were, or all set and only the IPv6 address missing.
pub fn apply(rules: &Ruleset) -> Result<(), InterceptError> {
    nft(&rules.to_string())?;
    if !lo_takes_ipv6() {
        return Ok(());
    }
    // Deprecated from the start (preferred_lft 0): used by whoever binds it, never chosen for anyone.
    let lifetimes = ["valid_lft", "forever", "preferred_lft", "0"];
    ip(&[&["-6", "address", "replace", INBOUND_SOURCE_V6, "dev", "lo", "nodad"][..], &lifetimes].concat())
}

/// Removes what [`apply`] has set; no error when there is nothing.
///
/// # Errors
/// [`InterceptError`]
pub fn remove() -> Result<(), InterceptError> {
    nft(REMOVE)?;
    if !has_inbound_source_v6() {
        return Ok(());
    }
    ip(&["-6", "address", "delete", INBOUND_SOURCE_V6, "dev", "lo"])
}

/// A kernel without IPv6 has no such file.
fn lo_takes_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|disabled| disabled.trim() == "0")
}

fn has_inbound_source_v6() -> bool {
    fs::read_to_string("/proc/thread-self/net/if_inet6")
        .is_ok_and(|addresses| addresses.contains(INBOUND_SOURCE_V6_DIGITS))
}

fn nft(input: &str) -> Result<(), InterceptError> {
    let failed = |source| start_error("nft", "nftables", source);
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // nft reads all of it before it prints anything. One that dies before is told of by its exit status.
    let written = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = nft.wait_with_output().map_err(failed)?;
    check("nft", &output)?;
    written.map_err(failed)
}

fn ip(arguments: &[&str]) -> Result<(), InterceptError> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    check("ip", &output.map_err(|source| start_error("ip", "iproute2", source))?)
}

fn start_error(program: &'static str, package: &'static str, source: io::Error) -> InterceptError {
    if source.kind() == io::ErrorKind::NotFound {
        InterceptError::Missing { program, package }
    } else {
        InterceptError::Run { program, source }
    }
}

fn check(program: &'static str, output: &Output) -> Result<(), InterceptError> {
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.contains("Operation not permitted") {
        return Err(InterceptError::NoPermission);
    }
    Err(InterceptError::Refused { program, message })
}
