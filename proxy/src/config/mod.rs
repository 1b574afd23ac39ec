//! YAML to validated types: the bootstrap file and the policy. Every fault of a load is reported at once, with
//! file, line, column and YAML path; nothing unknown is ignored.
//!
//! The only module that knows how policies are written. It imports authz and route, never the reverse.

mod bootstrap;
mod decode;
mod files;
mod policy;
mod report;
#[cfg(test)]
mod tests;
mod values;
mod watch;
mod yaml;

pub use bootstrap::{
    Admin, Bootstrap, Ca, Direction, Interception, JoinToken, Limits, Listener, load_bootstrap,
};
pub use policy::reference;
pub use policy::{
    ExceptionPlans, Opening, Outline, Outlined, Policy, PolicyScope, PolicySet, RuleHost, Selector,
    SourceRule, Spec, Warning, load_policy, service_namespace,
};
pub use report::{Fault, Place, Report};
pub use values::duration as parse_duration;
pub use watch::{Loaded, PolicySource, PolicyWatch};
