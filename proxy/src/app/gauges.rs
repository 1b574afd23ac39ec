//! Gauges that follow the state of the sidecar, brought up to date before a scrape.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use portcullis_identity::Clock;

use super::policy::PolicyInForce;
use crate::metrics::{Direction, ExceptionLabels, Metrics};
use crate::svid::IdentityWatch;

type Exceptions = BTreeMap<(Direction, u16, bool), i64>;

/// Remembers what it has set.
pub(super) struct Gauges {
    pub(super) identity: IdentityWatch,
    pub(super) policy: PolicyInForce,
    /// The time that exceptions expire by.
    pub(super) policy_clock: Clock,
    pub(super) exceptions: Mutex<Exceptions>,
}

impl Gauges {
    /// Sets all of them.
    pub(super) fn refresh(&self, metrics: &Metrics) {
        let counts = self.identity.counts();
        metrics.certificates_issued.set(i64::try_from(counts.issued).unwrap_or(i64::MAX));
        metrics.certificates_failed.set(i64::try_from(counts.failed).unwrap_or(i64::MAX));
        metrics.ready.set(i64::from(self.identity.status().is_ready()));
        if let Some(current) = self.identity.current() {
            metrics.identity_generation.set(i64::try_from(current.generation()).unwrap_or(i64::MAX));
            let not_after = u32::try_from(current.svid().facts().not_after).unwrap_or(u32::MAX);
            metrics.certificate_expiry.set(f64::from(not_after));
        }
        let open = self.open_exceptions();
        let mut known = self.exceptions.lock().unwrap_or_else(PoisonError::into_inner);
        // One that a reload took out of the policy is not open any more, and not even there.
        for key in known.keys().filter(|key| !open.contains_key(key)) {
            metrics.exceptions.remove(&labels(*key));
        }
        for (key, count) in &open {
            metrics.exceptions.get_or_create(&labels(*key)).set(*count);
        }
        *known = open;
    }

    fn open_exceptions(&self) -> Exceptions {
        let now = self.policy_clock.now();
        let (inbound, outbound) = (self.policy.inbound.load(), self.policy.outbound.load());
        let mut open = Exceptions::new();
        for exception in inbound.exceptions() {
            let key = (Direction::inbound, exception.port, exception.is_justified());
            *open.entry(key).or_default() += i64::from(inbound.mode(exception.port, now).is_plaintext());
        }
        for exception in outbound.destinations().filter_map(|destination| destination.exception()) {
            let key = (Direction::outbound, exception.port, exception.is_justified());
            *open.entry(key).or_default() += i64::from(exception.is_open(now));
        }
        open
    }
}

fn labels((direction, port, justified): (Direction, u16, bool)) -> ExceptionLabels {
    ExceptionLabels { direction, port, justified: if justified { "true" } else { "false" } }
}
