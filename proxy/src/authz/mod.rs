//! Who may reach the app: pure functions from a port's mode, a caller and the AuthorizationPolicies to a [`Permit`]
//! or a [`Denial`].
//!
//! Must not know how policies are written, or what a socket is.

mod admission;
mod authorization;
mod exception;
mod inbound;
mod matching;
mod path;
mod permit;
mod policy;
mod rule;
#[cfg(test)]
mod tests;

pub use admission::{Admitted, ConnectionFacts, RequestFacts, Verdict, admit};
pub use authorization::Authorization;
pub use exception::{Exception, Plan};
pub use inbound::{InboundPolicy, PortMode, PortRule};
pub use matching::{
    BadPattern, HostMatch, Listed, PathMatch, PathTemplate, PrincipalMatch, ServiceAccount, StringMatch,
};
pub use path::{AmbiguousPath, NormalPath};
pub use permit::{Caller, Denial, Permit};
pub use policy::{Action, AuthorizationPolicy, AuthorizationRule, Condition, Operation, Source};
pub use rule::RuleRef;
