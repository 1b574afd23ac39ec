//! Weights hold over many requests.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::route::testing::chi_square;

const PICKS: u32 = 100_000;
/// Of the chi-square distribution with three degrees of freedom: a fair picker is above it once in a thousand
/// seeds, and the seed is fixed.
const CRITICAL: f64 = 16.27;
const WEIGHTS: [u32; 5] = [1, 0, 2, 7, 90];

/// The chi-square statistic of `PICKS` picks by `roll`, against the weights.
fn statistic(mut roll: impl FnMut(u64) -> u64) -> f64 {
    let targets = Targets::new(WEIGHTS.into_iter().enumerate().collect()).unwrap();
    let mut counts = [0; WEIGHTS.len()];
    for _ in 0..PICKS {
        counts[*targets.pick(roll(targets.total())).unwrap()] += 1;
    }
    chi_square(&counts, &WEIGHTS)
}

#[test]
fn picks_follow_the_weights() {
    for seed in [1, 2, 3] {
        let mut rng = StdRng::seed_from_u64(seed);
        let found = statistic(|total| rng.random_range(0..total));
        assert!(found < CRITICAL, "seed {seed}: {found}");
    }
}

/// One roll in two hundred is always the first target's: the test would see it.
#[test]
fn a_skewed_picker_is_found_out() {
    let mut rng = StdRng::seed_from_u64(1);
    let found = statistic(|total| if rng.random_ratio(1, 200) { 0 } else { rng.random_range(0..total) });
    assert!(found > 2.0 * CRITICAL, "{found}");
}

#[test]
fn a_share_is_that_part_of_all_rolls() {
    for (percent, hits) in [(0.0, 0), (0.0001, 1), (0.5, 5_000), (12.5, 125_000), (100.0, 1_000_000)] {
        let share = Share::percent(percent).unwrap();
        assert_eq!((0..1_000_000).filter(|roll| share.has(*roll)).count(), hits, "{percent}");
    }
    for percent in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Share::percent(percent), None, "{percent}");
    }
    assert_eq!(Share::percent(100.0), Some(Share::ALL));
}

#[test]
fn targets_without_weight_are_none() {
    assert!(Targets::<()>::new(Vec::new()).is_none() && Targets::new(vec![((), 0)]).is_none());
    let targets = Targets::new(vec![('a', u32::MAX), ('b', u32::MAX)]).unwrap();
    assert_eq!(targets.total(), 2 * u64::from(u32::MAX));
    assert_eq!((targets.pick(0), targets.pick(targets.total() - 1)), (Some(&'a'), Some(&'b')));
    assert_eq!(targets.pick(u64::MAX), Some(&'b'), "a roll that is too large is the last one's");
}
