//! Choosing by weight.

/// Things to choose among by weight; at least one weighs more than 0.
#[derive(Debug, Clone)]
pub struct Targets<T> {
    targets: Vec<(T, u32)>,
    total: u64,
}

impl<T> Targets<T> {
    /// `None` if all weights are 0.
    #[must_use]
    pub fn new(targets: Vec<(T, u32)>) -> Option<Self> {
        let total = targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
        (total > 0).then_some(Self { targets, total })
    }

    /// Sum of the weights; never 0.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The target that owns the slice `roll` of `0..total`; the last one for a larger roll.
    #[must_use]
    pub fn pick(&self, roll: u64) -> Option<&T> {
        let mut end = 0;
        let weighted = self.targets.iter().filter(|(_, weight)| *weight > 0);
        let found = weighted.clone().find(|(_, weight)| {
            end += u64::from(*weight);
            roll < end
        });
        found.or_else(|| weighted.clone().next_back()).map(|(target, _)| target)
    }
}
