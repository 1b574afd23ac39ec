//! All interleavings of the permits of connection pools, checked by [loom](https://docs.rs/loom).
//!
//! The code under test is `proxy/src/pool/limit.rs` itself, with loom's primitives in the place of the standard library's:
//! loom runs each test once for every order in which its threads can meet. The control is a limit that looks before it
//! takes, which loom must catch.

#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "the file is part of another crate, which uses all of it")]
#[path = "../../../proxy/src/pool/limit.rs"]
mod limit;
#[cfg(test)]
mod sync;
#[cfg(test)]
mod tests;
