//! The primitives that [`limit`](super::limit) is made of, named in one place so that a model checker can take theirs.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
