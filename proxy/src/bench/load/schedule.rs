//! When requests are due.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// How many are due within a time.
pub(super) fn requests(rate: u32, time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate) / NANOS).unwrap_or(u64::MAX)
}

/// How long after the start the request of this number is due.
pub(super) fn due(rate: u32, number: u64) -> Duration {
    let nanos = u128::from(number) * NANOS / u128::from(rate.max(1));
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_for_the_whole_time() {
        let due: Vec<_> = (0..requests(3, Duration::from_secs(2))).map(|n| due(3, n).as_millis()).collect();
        assert_eq!(due, [0, 333, 666, 1000, 1333, 1666]);
    }

    #[test]
    fn parts_of_seconds_and_odd_rates_add_up() {
        assert_eq!(requests(1000, Duration::from_millis(1500)), 1500);
        assert_eq!(requests(7, Duration::from_millis(100)), 0);
        assert_eq!(due(u32::MAX, u64::from(u32::MAX) * 86_400), Duration::from_secs(86_400));
        assert_eq!(due(0, 1), Duration::from_secs(1));
    }
}
