//! What the sidecar keeps and says of a refusal: a count, an entry among those of late, a line in the log.

use super::Refusal;
use crate::addr::ClientAddr;
use crate::metrics::{Direction, Metrics, RefusalKey, RefusalLabels};

impl Refusal {
    /// Counts it, remembers it, and says it with who, what and which rule. Under a flood not every one is said;
    /// `unsaid` tells how many were not.
    pub fn report(&self, metrics: &Metrics, direction: Direction, client: ClientAddr) {
        let labels = RefusalLabels { direction, reason: self.label() };
        metrics.refusals.get_or_create(&labels).inc();
        let overflow = self.overflow();
        if let Some(overflow) = overflow {
            metrics.overflow(overflow.limit, overflow.destination);
        }
        let facts = self.facts();
        let key = RefusalKey {
            direction,
            peer: client.get().ip(),
            identity: facts.peer.map(ToString::to_string),
            port: facts.port,
            reason: self.label(),
            rule: facts.rule.map(ToString::to_string),
        };
        metrics.recent.record(key, || self.to_string());
        let Some(unsaid) = metrics.refusal_log.pass() else { return };
        tracing::warn!(
            direction = direction.as_str(),
            %client,
            reason = self.label(),
            limit = overflow.map(|overflow| overflow.limit),
            value = overflow.map(|overflow| overflow.value).map(tracing::field::display),
            destination = overflow.map(|overflow| overflow.destination),
            unsaid,
            "refused: {} {client} {self}",
            match direction {
                Direction::inbound => "peer",
                Direction::outbound => "app",
            },
        );
    }
}
