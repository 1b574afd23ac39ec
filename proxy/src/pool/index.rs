//! Which pool is whose.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;

use super::state::Pool;
use crate::route::{Destination, Resolution};
use crate::upstream::Target;

/// The pools of one sidecar.
#[derive(Default)]
pub(super) struct Index {
    pools: RwLock<Pools>,
}

#[derive(Default)]
struct Pools {
    by_name: HashMap<Arc<str>, Arc<Pool>>,
    /// What most requests find, without making a name to look up.
    by_edition: HashMap<Key, Known, foldhash::fast::RandomState>,
}

/// One edition of a destination, by its place in memory; each address of its own where the app chooses it.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    destination: usize,
    original: Option<SocketAddr>,
}

struct Known {
    /// While it is held, no other destination can have its place in memory.
    edition: Weak<Destination>,
    pool: Arc<Pool>,
}

impl Key {
    fn of(target: &Target) -> Self {
        let by_app = target.destination.resolution == Resolution::Original;
        let destination = Arc::as_ptr(&target.destination).addr();
        Self { destination, original: target.original.filter(|_| by_app) }
    }
}

impl Index {
    /// The one pool of the target's name, which has seen this edition of its destination.
    pub(super) fn pool(&self, target: &Target) -> Arc<Pool> {
        let key = Key::of(target);
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pools.by_edition.get(&key) {
            return Arc::clone(&known.pool);
        }
        drop(pools);
        let name: Arc<str> = target.to_string().into();
        let mut pools = self.write();
        let new = || Arc::new(Pool::new(Arc::clone(&name), &target.destination));
        let pool = Arc::clone(pools.by_name.entry(Arc::clone(&name)).or_insert_with(new));
        pool.adopt(&target.destination);
        let edition = Arc::downgrade(&target.destination);
        pools.by_edition.insert(key, Known { edition, pool: Arc::clone(&pool) });
        pool
    }

    pub(super) fn all(&self) -> Vec<Arc<Pool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.by_name.values().cloned().collect()
    }

    /// Lets go of pools without connections that nobody has used for `after`, and of editions that are gone.
    pub(super) fn forget(&self, after: Duration) {
        let mut pools = self.write();
        let Pools { by_name, by_edition } = &mut *pools;
        by_edition.retain(|_, known| known.edition.strong_count() > 0 && !known.pool.is_forgotten(after));
        // With the lock held nobody can take one of them into use.
        by_name.retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_forgotten(after));
    }

    #[cfg(test)]
    pub(super) fn editions(&self) -> usize {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).by_edition.len()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Pools> {
        // Nothing panics while holding it, and a pool is put in as a whole.
        self.pools.write().unwrap_or_else(PoisonError::into_inner)
    }
}
