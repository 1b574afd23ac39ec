//! Dialling: the own app in plaintext inside its own host, another service over TLS; and which of a service's
//! servers is dialled.

mod app;
mod balance;
mod dial;
mod outlier;
mod resolve;

pub use app::{AppAddr, connect_app};
pub use balance::{Candidate, Endpoints, Picked, Wanted};
pub use dial::{Dialler, LONGEST_HANDSHAKE, Target, Upstream};
pub use outlier::Outcome;
#[cfg(test)]
pub(crate) use resolve::tests as resolving;
pub use resolve::{NameStatus, Names};
