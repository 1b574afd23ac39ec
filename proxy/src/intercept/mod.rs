//! Interception: the kernel rules that turn a service's traffic over to the proxy, and the question where an
//! intercepted connection was going.
//!
//! It knows addresses, ports and users, and nothing of identities, policies or what the connections carry.

mod apply;
mod original;
mod rules;

pub use apply::{InterceptError, apply, remove};
pub use original::{NoOriginalDst, original_dst};
pub use rules::{BadSettings, PROXY_PORTS, Ruleset, Settings};
