//! `portcullis intercept`: sets, removes or prints the interception rules of this network namespace.

use std::io::Write;
use std::net::IpAddr;

use clap::{Args, Subcommand};

use crate::intercept::{InterceptError, PROXY_PORTS, Ruleset, Settings, apply, remove};

/// Arguments of `portcullis intercept`.
#[derive(Debug, Args)]
pub struct InterceptArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Turn all traffic of this network namespace over to the proxy, or drop it
    Apply(RuleArgs),
    /// Remove the rules that `apply` has set; other rules are not touched
    Remove,
    /// Print what `apply` would hand to `nft -f -`
    Print(RuleArgs),
}

#[derive(Debug, Args)]
struct RuleArgs {
    /// Where the proxy takes connections to the service
    #[arg(long, value_name = "PORT", default_value_t = Settings::default().inbound_port)]
    inbound_port: u16,
    /// Where the proxy takes connections of the service
    #[arg(long, value_name = "PORT", default_value_t = Settings::default().outbound_port)]
    outbound_port: u16,
    /// The user as whom the proxy, and nothing else, runs
    #[arg(long, value_name = "UID", default_value_t = Settings::default().proxy_uid)]
    proxy_uid: u32,
    /// A resolver to which DNS in the clear is allowed; may be repeated
    #[arg(long = "resolver", value_name = "IP")]
    resolvers: Vec<IpAddr>,
    /// A port that is reached without the proxy, in plaintext; may be repeated (15021 and 15090 are the proxy's own)
    #[arg(long, value_name = "PORT")]
    exclude_inbound: Vec<u16>,
}

impl RuleArgs {
    /// What the rules let pass without the proxy, one line each: an exception is always reported.
    fn in_the_clear(&self) -> Vec<String> {
        let resolvers = self.resolvers.iter().map(|resolver| format!("DNS queries to {resolver}"));
        let ports = self.exclude_inbound.iter().filter(|port| !PROXY_PORTS.contains(port));
        resolvers.chain(ports.map(|port| format!("connections to port {port}"))).collect()
    }

    fn ruleset(self) -> Result<Ruleset, InterceptError> {
        let Self { inbound_port, outbound_port, proxy_uid, resolvers, mut exclude_inbound } = self;
        // Always reachable, so asking for it is no mistake.
        exclude_inbound.retain(|port| !PROXY_PORTS.contains(port));
        let settings = Settings { inbound_port, outbound_port, proxy_uid, resolvers, exclude_inbound };
        Ok(settings.try_into()?)
    }
}

/// Runs the command.
///
/// # Errors
/// [`InterceptError`]; `Settings` among them is a mistake on the command line.
pub fn run(args: InterceptArgs) -> Result<(), InterceptError> {
    match args.action {
        Action::Apply(rules) => {
            let in_the_clear = rules.in_the_clear();
            apply(&rules.ruleset()?)?;
            in_the_clear.iter().for_each(|exception| eprintln!("portcullis: in the clear: {exception}"));
            Ok(())
        }
        Action::Remove => remove(),
        Action::Print(rules) => {
            write!(std::io::stdout().lock(), "{}", rules.ruleset()?).map_err(InterceptError::Print)
        }
    }
}
