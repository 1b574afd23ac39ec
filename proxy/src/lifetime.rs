//! How long a connection may live: no longer than the proof behind it, and less when a new policy ends it.

use std::time::Duration;

use portcullis_identity::Clock;
use tokio_util::sync::CancellationToken;

/// Longest time between the request to finish and the cut.
const LONGEST_MARGIN: Duration = Duration::from_secs(5);
/// The wall clock is looked at this often, because a timer sleeps through a suspended machine.
const LOOK: Duration = Duration::from_secs(10);

/// The span of one connection. It drains a little before the proof ends, and is cut when it ends.
#[derive(Clone, Debug)]
pub struct Lifetime {
    clock: Clock,
    drain_at: Duration,
    cut_at: Duration,
    drained: CancellationToken,
    cut: CancellationToken,
}

impl Lifetime {
    /// A connection that rests on proofs ending at `ends` (since the epoch); the earliest counts.
    /// With no proof that ends it is unbounded.
    #[must_use]
    pub fn until(clock: &Clock, ends: impl IntoIterator<Item = Duration>) -> Self {
        let cut_at = ends.into_iter().min().unwrap_or(Duration::MAX);
        let margin = (cut_at.saturating_sub(clock.now()) / 10).min(LONGEST_MARGIN);
        Self {
            clock: clock.clone(),
            drain_at: cut_at.saturating_sub(margin),
            cut_at,
            drained: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// The span of something that lives on the connection, ends with it at the latest, and may be cut by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { drained: self.drained.child_token(), cut: self.cut.child_token(), ..self.clone() }
    }

    /// Begins the drain now, whatever the proof says; for every clone.
    pub fn drain(&self) {
        self.drained.cancel();
    }

    /// Ends it now, whatever the proof says; for every clone.
    pub fn cut(&self) {
        self.drained.cancel();
        self.cut.cancel();
    }

    /// Whether it would go on after `end` (since the epoch).
    #[must_use]
    pub fn outlives(&self, end: Duration) -> bool {
        self.cut_at > end
    }

    /// Whether nothing new should be begun on the connection.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drained.is_cancelled() || self.clock.now() >= self.drain_at
    }

    /// Whether the proof has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cut.is_cancelled() || self.clock.now() >= self.cut_at
    }

    /// Resolves when nothing new should be begun.
    pub async fn draining(&self) {
        tokio::select! {
            () = self.drained.cancelled() => {}
            () = self.reached(self.drain_at) => {}
        }
    }

    /// Resolves when the proof has ended.
    pub async fn over(&self) {
        tokio::select! {
            () = self.cut.cancelled() => {}
            () = self.reached(self.cut_at) => {}
        }
    }

    async fn reached(&self, at: Duration) {
        loop {
            let left = at.saturating_sub(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_identity::ManualClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_the_wall_clock_ends_a_connection_that_the_timer_would_keep() {
        let hand = ManualClock::at(Duration::from_secs(1_000));
        let life = Lifetime::until(&hand.clock(), [Duration::from_secs(90_000), Duration::from_secs(50_000)]);
        assert!(!life.is_draining());
        let over = tokio::spawn({
            let life = life.clone();
            async move { life.over().await }
        });
        tokio::time::advance(LOOK).await;
        assert!(!over.is_finished());
        hand.set(Duration::from_secs(50_000));
        over.await.unwrap();
        assert!(life.is_draining());
    }

    #[test]
    fn draining_starts_a_tenth_of_the_life_before_the_end() {
        let hand = ManualClock::at(Duration::from_secs(100));
        let life = Lifetime::until(&hand.clock(), [Duration::from_secs(104)]);
        hand.set(Duration::from_millis(103_500));
        assert!(!life.is_draining());
        hand.set(Duration::from_millis(103_600));
        assert!(life.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_cut_early_is_over_for_every_clone() {
        let hand = ManualClock::at(Duration::from_secs(100));
        let life = Lifetime::until(&hand.clock(), []);
        let clone = life.clone();
        life.drain();
        clone.draining().await;
        assert!(clone.is_draining() && !clone.is_over());
        life.cut();
        clone.over().await;
        assert!(clone.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_ends_with_its_connection_and_not_the_other_way_round() {
        let hand = ManualClock::at(Duration::from_secs(100));
        let life = Lifetime::until(&hand.clock(), []);
        let (one, other) = (life.child(), life.child());
        one.cut();
        assert!(one.is_over() && !other.is_over() && !life.is_over());
        life.cut();
        other.over().await;
    }
}
