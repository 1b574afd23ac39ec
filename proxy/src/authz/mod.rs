//! Who may reach the app: pure functions from a port's mode and a caller to a [`Permit`] or a [`Denial`].
//!
//! Must not know how policies are written, or what a socket is.

mod exception;
mod inbound;
mod permit;
mod rule;
#[cfg(test)]
mod tests;

pub use exception::{Exception, Plan};
pub use inbound::{InboundPolicy, PortMode, PortRule};
pub use permit::{Caller, Denial, Permit, authorize};
pub use rule::RuleRef;
