//! How many refusals are written down: a flood of them must neither fill the log nor keep others from the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Refusals per second that are logged and audited.
const PER_SECOND: u64 = 50;

/// Counts refusals within the current second.
#[derive(Default)]
pub(crate) struct RefusalBudget(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    second: u64,
    seen: u64,
}

impl RefusalBudget {
    /// Whether this refusal is written down.
    pub(crate) fn take(&self, now: Duration) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.second != now.as_secs() {
            let unwritten = counted.seen.saturating_sub(PER_SECOND);
            if unwritten > 0 {
                tracing::warn!(unwritten, "more were refused than were written down");
            }
            *counted = Counted { second: now.as_secs(), seen: 0 };
        }
        counted.seen += 1;
        counted.seen <= PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_budget() {
        let budget = RefusalBudget::default();
        for second in 1..4 {
            let now = Duration::from_secs(second);
            let taken = (0..1000).filter(|_| budget.take(now)).count();
            assert_eq!(taken as u64, PER_SECOND);
        }
    }
}
