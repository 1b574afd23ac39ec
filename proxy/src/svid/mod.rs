//! The own identity: how it is got, renewed, kept across restarts, and handed to everyone who needs it.
//!
//! [`start`] gives an [`IdentityWatch`] at once and an agent to run beside the rest. The agent talks to the
//! authority ([`ca_client`]), puts what it gets to the rules ([`holder`]), writes it down ([`state`]) and
//! swaps it in ([`watch`]). Whatever is refused on the way leaves the last good identity in place. Nothing
//! here knows listeners or policies.

mod agent;
mod ca_client;
mod first_contact;
mod holder;
mod schedule;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod watch;

pub use agent::{AgentConfig, AgentError, start};
pub use state::StateError;
pub use token::{TokenError, TokenSource};
pub(crate) use watch::Moment;
pub use watch::{Counts, IdentityStatus, IdentityWatch};

pub use crate::tls::{Identity, IdentityError};
