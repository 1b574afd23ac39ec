//! The parts of a sidecar, made from its configuration: the way in, the way out, and what it tells of itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Sidecar;
use super::gauges::Gauges;
use super::report::Reporter;
use crate::admin::Admin;
use crate::inbound::Inbound;
use crate::outbound::{self, Outbound};
use crate::pool::Pools;
use crate::upstream::{Dialler, Names};

/// How often pools are looked through for connections that should go.
const SWEEP: Duration = Duration::from_secs(1);

impl Sidecar {
    pub(super) fn inbound(&self) -> Arc<Inbound> {
        Arc::new(Inbound {
            identity: self.identity.clone(),
            policy: self.policy.inbound.clone(),
            own: self.bootstrap.workload.id().clone(),
            clock: self.clock.clone(),
            policy_clock: self.policy_clock.clone(),
            metrics: Arc::clone(&self.metrics),
            drain: self.inbound_drain.clone(),
            handshake: self.bootstrap.limits.handshake_timeout,
        })
    }

    pub(super) fn outbound(&self) -> Arc<Outbound> {
        let dialler = Dialler { policy_clock: self.policy_clock.clone() };
        let names = Names::system();
        self.drain.spawn({
            let (names, policy, drain) = (names.clone(), self.policy.outbound.clone(), self.drain.clone());
            async move {
                tokio::select! {
                    () = names.follow(policy) => {}
                    () = drain.begun() => {}
                }
            }
        });
        let pools = Pools::new(dialler, names.clone(), Arc::clone(&self.metrics), self.drain.clone());
        self.every(SWEEP, {
            let (pools, identity) = (pools.clone(), self.identity.clone());
            move || pools.sweep(identity.current().map_or(0, |identity| identity.generation()))
        });
        Arc::new(Outbound {
            identity: self.identity.clone(),
            policy: self.policy.outbound.clone(),
            pools,
            names,
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            drain: self.drain.clone(),
            detection: self.bootstrap.limits.detection_timeout,
            bounds: outbound::Bounds::default(),
        })
    }

    pub(super) fn admin(&self, outbound: &Outbound) -> Arc<Admin> {
        let metrics = Arc::clone(&self.metrics);
        let gauges = Gauges {
            identity: self.identity.clone(),
            policy: self.policy.clone(),
            policy_clock: self.policy_clock.clone(),
            exceptions: Mutex::default(),
        };
        let reporter = Arc::new(Reporter {
            id: self.bootstrap.workload.id().to_string(),
            identity: self.identity.clone(),
            policy: self.policy.clone(),
            pools: outbound.pools.clone(),
            names: outbound.names.clone(),
            metrics: Arc::clone(&self.metrics),
            listeners: Arc::clone(&self.listeners),
            clock: self.clock.clone(),
            policy_clock: self.policy_clock.clone(),
            leaving: self.inbound_drain.clone(),
        });
        let refusals = Arc::clone(&reporter);
        Arc::new(Admin {
            identity: self.identity.clone(),
            metrics: Arc::clone(&self.metrics),
            trust_domain: self.bootstrap.workload.id().trust_domain().clone(),
            clock: self.clock.clone(),
            drain: self.drain.clone(),
            leaving: self.inbound_drain.clone(),
            handshake: self.bootstrap.limits.handshake_timeout,
            port: self.bootstrap.metrics.port(),
            refresh: Box::new(move || gauges.refresh(&metrics)),
            status: Box::new(move || reporter.status()),
            refusals: Box::new(move || refusals.refusals()),
        })
    }
}
