//! `portcullis verify policy`: what a policy means for each port, without a running sidecar.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use portcullis_identity::{Clock, TrustDomain};

use super::super::Failure;
use super::super::admin::Output;
use super::print;
use crate::config::{self, ExceptionPlans};
use crate::verify::policy::{self, Assumptions, Subject};

pub(super) const HELP: &str = "\
Exit code: 0 nothing to change, 1 a fault or warning was found, 2 the policy does not load.
JSON: {failures, rows: [{workload, direction, host, port (null: every other), mode, rule, exception: null or
{reason, owner, expires, days_left}}], findings: [{severity, check, rule, file, line, path, what, todo}]}";

/// Arguments of `portcullis verify policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Policy files and directories
    #[arg(value_name = "PATH", required = true)]
    sources: Vec<PathBuf>,
    /// Show this workload (a bootstrap file), not those that the policy names; may be repeated
    #[arg(long, value_name = "FILE")]
    workload: Vec<PathBuf>,
    /// The namespace of mesh-wide policies, where no bootstrap file says it
    #[arg(long, value_name = "NS", default_value = "istio-system")]
    root_namespace: String,
    /// The own trust domain, where no bootstrap file says it
    #[arg(long, value_name = "NAME", value_parser = TrustDomain::parse, default_value = "cluster.local")]
    trust_domain: TrustDomain,
    /// What a plaintext exception needs, where no bootstrap file says it
    #[arg(long, value_enum, default_value_t = Plans::Warn)]
    exception_plans: Plans,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Plans {
    Warn,
    Require,
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Found`] after a fault or warning, [`Failure::Unusable`] when the policy does not load.
pub fn run(args: &PolicyArgs) -> Result<(), Failure> {
    let unusable = |report: config::Report| Failure::Unusable(report.to_string());
    let mut assumptions = Assumptions {
        trust_domain: args.trust_domain.clone(),
        root_namespace: args.root_namespace.clone(),
        exception_plans: match args.exception_plans {
            Plans::Warn => ExceptionPlans::Warn,
            Plans::Require => ExceptionPlans::Require,
        },
    };
    let mut given = Vec::new();
    for file in &args.workload {
        given.push(Subject::given(&config::load_bootstrap(file).map_err(unusable)?, file));
    }
    if let Some(Subject { scope, .. }) = given.first() {
        assumptions = Assumptions {
            trust_domain: scope.workload.id().trust_domain().clone(),
            root_namespace: scope.root_namespace.clone(),
            exception_plans: scope.exception_plans,
        };
    }
    let report =
        policy::examine(&args.sources, &given, &assumptions, Clock::system().now()).map_err(unusable)?;
    print(args.output, report.failures(), || policy::table(&report), || policy::json(&report))
}
