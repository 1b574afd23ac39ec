//! The authority as its clients and operators meet it: over real TLS and gRPC, and as a process that gets killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows these in tests, but not in the helpers beside them"
)]

mod crash;
mod files;
mod fixture;
mod issuing;
mod program;
mod trust;
