//! A bound on how often something is said: what is counted anyway need not be logged a million times.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// At most so many times in each second.
#[derive(Debug)]
pub struct Throttle {
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    passed: u32,
    held_back: u64,
}

impl Throttle {
    /// `per_second` of 0 lets nothing through.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        Self { per_second, state: Mutex::new(State { since: None, passed: 0, held_back: 0 }) }
    }

    /// Whether it may be said now; with it, how often it was not said since the last time.
    pub fn pass(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            state.since = Some(now);
            state.passed = 0;
        }
        if state.passed < self.per_second {
            state.passed += 1;
            return Some(std::mem::take(&mut state.held_back));
        }
        state.held_back += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_counted() {
        let throttle = Throttle::new(2);
        assert_eq!(
            [throttle.pass(), throttle.pass(), throttle.pass(), throttle.pass()],
            [Some(0), Some(0), None, None]
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([throttle.pass(), throttle.pass()], [Some(2), Some(0)]);
    }
}
