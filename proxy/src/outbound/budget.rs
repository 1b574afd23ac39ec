//! How many retries may be under way to one destination, so that a server in trouble is not drowned by them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::route::Destination;

/// Where `maxRetries` is not set: one retry for so many requests under way, as Envoy's retry budget of 20 %.
const REQUESTS_PER_RETRY: u32 = 5;
/// And so many in any case.
const LEAST: u32 = 3;

/// What is under way, by destination.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<HashMap<String, Weak<Counts>>>);

#[derive(Debug, Default)]
struct Counts {
    active: AtomicU32,
    retrying: AtomicU32,
}

/// One request under way, until its answer has ended.
#[derive(Debug)]
pub(super) struct Active(Arc<Counts>);

/// One retry under way, until its answer begins.
#[derive(Debug)]
pub(super) struct Retrying(Arc<Counts>);

impl Budgets {
    /// Counts a request as under way.
    pub(super) fn enter(&self, destination: &Destination) -> Active {
        let name = destination.to_string();
        // Nothing panics while holding it.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            // Destinations that a reload took away go with their last request.
            all.retain(|_, counts| counts.strong_count() > 0);
            let counts = Arc::default();
            all.insert(name, Arc::downgrade(&counts));
            counts
        });
        counts.active.fetch_add(1, Ordering::Relaxed);
        Active(counts)
    }
}

impl Active {
    /// Counts a retry of it as under way, unless there are as many as there may be. `max` is `maxRetries`.
    pub(super) fn retry(&self, max: u32) -> Option<Retrying> {
        let share = || (self.0.active.load(Ordering::Relaxed) / REQUESTS_PER_RETRY).max(LEAST);
        let max = if max == u32::MAX { share() } else { max };
        let one_more = |retrying: u32| (retrying < max).then(|| retrying + 1);
        let counted = self.0.retrying.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.ok().map(|_| Retrying(Arc::clone(&self.0)))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::destination;
    use super::*;

    #[test]
    fn without_a_limit_a_fifth_of_the_requests_may_be_retries_and_three_in_any_case() {
        let (budgets, destination) = (Budgets::default(), destination("api", 80, &[]));
        for (active, retries) in [(1, 3), (15, 3), (20, 4), (100, 20)] {
            let active: Vec<_> = (0..active).map(|_| budgets.enter(&destination)).collect();
            let under_way: Vec<_> = std::iter::from_fn(|| active[0].retry(u32::MAX)).take(1000).collect();
            assert_eq!(under_way.len(), retries, "of {}", active.len());
            drop(under_way);
            assert!(active[0].retry(u32::MAX).is_some(), "a place is free again");
        }
    }

    #[test]
    fn a_limit_is_exact_and_each_destination_has_its_own() {
        let budgets = Budgets::default();
        let (one, other) = (destination("one", 80, &[]), destination("other", 80, &[]));
        let (first, second) = (budgets.enter(&one), budgets.enter(&one));
        let held = (first.retry(2), second.retry(2));
        assert!(held.0.is_some() && held.1.is_some() && first.retry(2).is_none());
        assert!(budgets.enter(&other).retry(2).is_some());
        assert!(first.retry(0).is_none());
        drop(held);
        drop((first, second));
        let _next = budgets.enter(&other);
        assert_eq!(budgets.0.lock().unwrap().len(), 1, "what nothing is sent to is forgotten");
    }
}
