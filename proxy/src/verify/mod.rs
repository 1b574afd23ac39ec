//! Looking at a mesh from outside: what a policy means and where it deceives, and what a running port lets in.
//!
//! Nothing here asks a running sidecar what it believes of itself.

pub mod policy;
pub mod probe;
