//! Ordered route rules with weighted targets, already narrowed down to what applies to this workload.

use crate::authz::RuleRef;

/// Index of a destination in its [`OutboundPolicy`](super::OutboundPolicy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId(pub usize);

/// The rules for one destination.
#[derive(Debug, Clone)]
pub enum RouteRules {
    /// No rule speaks of it: it serves itself.
    Direct,
    /// The first route serves. Without any, nothing does: there is no silent default.
    Ordered {
        /// The resource that the routes come from.
        rule: RuleRef,
        /// The routes whose conditions this workload meets, in order.
        routes: Vec<Route>,
    },
}

/// One route: its targets by weight.
#[derive(Debug, Clone)]
pub struct Route {
    rule: RuleRef,
    targets: Vec<(DestinationId, u32)>,
    total: u64,
}

impl Route {
    /// `None` if all weights are 0.
    #[must_use]
    pub fn new(rule: RuleRef, targets: Vec<(DestinationId, u32)>) -> Option<Self> {
        let total = targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
        (total > 0).then_some(Self { rule, targets, total })
    }

    /// The rule's name, with its position: `VirtualService production/api http[0]`.
    #[must_use]
    pub fn rule(&self) -> &RuleRef {
        &self.rule
    }

    /// Sum of the weights; never 0.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The target that owns the slice `roll` of `0..total`; the last one for a larger roll.
    #[must_use]
    pub fn target(&self, roll: u64) -> Option<DestinationId> {
        let mut end = 0;
        let weighted = self.targets.iter().filter(|(_, weight)| *weight > 0);
        let found = weighted.clone().find(|(_, weight)| {
            end += u64::from(*weight);
            roll < end
        });
        found.or_else(|| weighted.clone().next_back()).map(|(id, _)| *id)
    }
}

/// Why no route serves a request: HTTP status 404, or a closed connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no route to {to} is for this workload: its labels, namespace and the port meet no match of {rule}")]
pub struct NoRoute {
    /// The destination that was asked for.
    pub to: String,
    /// The resource whose every route was filtered out.
    pub rule: RuleRef,
}

impl NoRoute {
    /// The metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        "no_route"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_roll_belongs_to_the_target_of_its_slice() {
        let rule = RuleRef::built_in();
        let ids = [DestinationId(0), DestinationId(1), DestinationId(2)];
        let route = Route::new(rule.clone(), vec![(ids[0], 70), (ids[1], 0), (ids[2], 30)]).unwrap();
        assert_eq!(route.total(), 100);
        let mut counts = [0; 3];
        (0..100).for_each(|roll| counts[route.target(roll).unwrap().0] += 1);
        assert_eq!(counts, [70, 0, 30]);
        assert_eq!(route.target(u64::MAX), Some(ids[2]));
        assert!(Route::new(rule.clone(), vec![(ids[0], 0)]).is_none());
        assert!(Route::new(rule, vec![]).is_none());
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let heavy = |n| (DestinationId(n), u32::MAX);
        let route = Route::new(RuleRef::built_in(), (0..3).map(heavy).collect()).unwrap();
        assert_eq!(route.target(2 * u64::from(u32::MAX)), Some(DestinationId(2)));
    }
}
