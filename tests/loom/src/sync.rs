//! loom's primitives, under the names by which `limit.rs` knows them.

pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
