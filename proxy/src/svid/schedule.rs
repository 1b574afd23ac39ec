//! When to renew, and how long to wait after a failure. Pure: time and randomness are passed in.

use std::time::Duration;

use rand::Rng;

/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Shortest first pause for certificates of ordinary life.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long one attempt may take at most, connecting and asking together.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(10);

/// The moment to renew a certificate received at `received`: a random 40-60 % of the way to `not_after`, so
/// that sidecars that started together do not come back together. NotBefore lies two minutes back and does
/// not count.
pub(super) fn renewal(received: Duration, not_after: Duration, rng: &mut impl Rng) -> Duration {
    received + not_after.saturating_sub(received).mul_f64(rng.random_range(0.4..=0.6))
}

/// The pause after `failures` failed attempts in a row. `life` and `left` are those of the certificate still
/// held, if any: a short life is retried sooner (even once it is over), and no pause takes more than a
/// quarter of what is left.
pub(super) fn pause(
    failures: u32,
    life: Option<Duration>,
    left: Option<Duration>,
    rng: &mut impl Rng,
) -> Duration {
    let first = life.map_or(FIRST_PAUSE, |life| (life / 50).clamp(Duration::from_millis(10), FIRST_PAUSE));
    let grown = first.saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX));
    let common = life.map_or(LONGEST_PAUSE, |life| (life / 4).clamp(Duration::from_secs(1), LONGEST_PAUSE));
    let cap = match left {
        Some(left) if !left.is_zero() => common.min((left / 4).max(first)),
        _ => common,
    };
    grown.min(cap).mul_f64(rng.random_range(0.5..=1.0))
}

/// How long one attempt may take: an authority that does not answer must not use up what is left.
pub(super) fn attempt(left: Option<Duration>) -> Duration {
    match left {
        Some(left) if !left.is_zero() => (left / 4).clamp(Duration::from_secs(1), LONGEST_ATTEMPT),
        _ => LONGEST_ATTEMPT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn renewal_is_spread_over_40_to_60_percent_of_the_life() {
        let mut rng = StdRng::seed_from_u64(1);
        let moments: Vec<_> = (0..1000).map(|_| renewal(s(1000), s(2000), &mut rng)).collect();
        assert!(moments.iter().all(|at| (s(1400)..=s(1600)).contains(at)));
        assert!(moments.iter().any(|at| *at < s(1420)) && moments.iter().any(|at| *at > s(1580)));
        assert_eq!(renewal(s(2000), s(1000), &mut rng), s(2000), "what has run out is due at once");
    }

    #[test]
    fn pauses_grow_to_their_cap_and_keep_their_jitter() {
        let mut rng = StdRng::seed_from_u64(2);
        for (failures, longest) in
            [(0, 100), (1, 200), (5, 3200), (9, 30_000), (40, 30_000), (u32::MAX, 30_000)]
        {
            let pauses: Vec<_> = (0..200).map(|_| pause(failures, None, None, &mut rng)).collect();
            let longest = Duration::from_millis(longest);
            assert!(pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{failures}");
            assert!(pauses.iter().min() != pauses.iter().max());
        }
    }

    #[test]
    fn a_short_life_is_retried_in_time() {
        let mut rng = StdRng::seed_from_u64(3);
        assert!(pause(0, Some(s(3)), Some(s(2)), &mut rng) <= Duration::from_millis(60));
        assert!(pause(20, Some(s(3)), Some(s(2)), &mut rng) <= Duration::from_millis(500));
        // At the very end the floor keeps retries from becoming a busy loop.
        assert!(pause(20, Some(s(3)), Some(Duration::from_nanos(1)), &mut rng) >= Duration::from_millis(30));
        // After expiry a short life still means short pauses, so that the outage ends soon after its cause.
        assert!(pause(20, Some(s(3)), None, &mut rng) <= s(1));
        assert!(pause(20, Some(s(86_400)), None, &mut rng) >= s(15));
        assert_eq!(attempt(Some(s(3))), s(1));
        assert_eq!(attempt(Some(s(20))), s(5));
        assert_eq!(attempt(Some(s(86_400))), LONGEST_ATTEMPT);
        assert_eq!(attempt(None), LONGEST_ATTEMPT);
    }
}
