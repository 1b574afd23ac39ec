//! What a pool goes by until the next reload.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::refusal::Refusal;
use crate::route::{Destination, EndpointAddr, Resolution, Transport, TransportPlan};
use crate::upstream::{Candidate, Endpoints, Names, Picked, Target, Wanted};

/// An idle connection is closed after this long; shorter than the server side waits.
const IDLE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Settings {
    pub(super) destination: Arc<Destination>,
    pub(super) endpoints: Arc<Endpoints>,
    /// The servers to choose from, where nothing has to be looked up.
    fixed: Option<Arc<[Candidate]>>,
    /// Changes with what connections rest on.
    pub(super) epoch: u64,
}

/// What a connection rests on: a new request is sent only on one made by what is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Basis {
    /// Of the own identity.
    generation: u64,
    /// Of the transport's settings.
    epoch: u64,
}

impl Settings {
    pub(super) fn new(destination: &Arc<Destination>, now: Instant) -> Self {
        Self {
            endpoints: Arc::new(Endpoints::new(destination.balancer, destination.outliers.clone(), now)),
            fixed: fixed(destination),
            destination: Arc::clone(destination),
            epoch: 0,
        }
    }

    /// What follows it. What is known of the servers is kept if it is still about the same ones.
    pub(super) fn succeeded_by(&self, destination: &Arc<Destination>, now: Instant) -> Self {
        let mut next = Self::new(destination, now);
        let before = &self.destination;
        if before.endpoints == destination.endpoints
            && before.balancer == destination.balancer
            && before.outliers == destination.outliers
        {
            next.endpoints = Arc::clone(&self.endpoints);
        }
        let is_same_ground = before.resolution == destination.resolution
            && before.endpoints == destination.endpoints
            && is_same_plan(&before.transport_plan, &destination.transport_plan);
        next.epoch = if is_same_ground { self.epoch } else { self.epoch + 1 };
        next
    }

    /// What a connection rests on that is made by these settings, for this generation of the own identity.
    pub(super) fn basis(&self, generation: u64) -> Basis {
        Basis { generation, epoch: self.epoch }
    }

    /// The server, where there is no choice.
    pub(super) fn only(&self) -> Option<Picked> {
        let wanted = Wanted { among: self.fixed.as_deref()?, tried: &[], avoid: None };
        self.endpoints.only(wanted)
    }

    /// How long a connection may be idle.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.destination.limits.http_idle_timeout.unwrap_or(IDLE)
    }

    /// The servers to choose from.
    ///
    /// # Errors
    /// [`Refusal::NoEndpoints`], [`Refusal::NotResolved`].
    pub(super) fn candidates(&self, target: &Target, names: &Names) -> Result<Arc<[Candidate]>, Refusal> {
        match &self.fixed {
            Some(fixed) => Ok(Arc::clone(fixed)),
            None => {
                let target = Target { destination: Arc::clone(&self.destination), ..*target };
                Ok(target.candidates(names)?.into())
            }
        }
    }
}

fn fixed(destination: &Destination) -> Option<Arc<[Candidate]>> {
    if destination.resolution == Resolution::Original || destination.endpoints.is_empty() {
        return None;
    }
    let candidates = destination.endpoints.iter().map(|endpoint| match endpoint.addr {
        EndpointAddr::Socket(addr) => Some(Candidate { addr, weight: endpoint.weight }),
        EndpointAddr::Name(..) => None,
    });
    candidates.collect()
}

fn is_same_plan(one: &TransportPlan, other: &TransportPlan) -> bool {
    use TransportPlan::{MutualTls, Plaintext, Refused, Tls};
    match (one, other) {
        (MutualTls(one), MutualTls(other)) | (Tls(one), Tls(other)) => is_same_transport(one, other),
        (
            Plaintext { exception: one, after: then, .. },
            Plaintext { exception: other, after: other_then, .. },
        ) => {
            let same_then = match (then, other_then) {
                (Some(then), Some(other)) => is_same_transport(then, other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            one == other && same_then
        }
        (Refused, Refused) => true,
        (MutualTls(_) | Tls(_) | Plaintext { .. } | Refused, _) => false,
    }
}

fn is_same_transport(one: &Transport, other: &Transport) -> bool {
    match (one, other) {
        (
            Transport::MutualTls { sni, expected },
            Transport::MutualTls { sni: other_sni, expected: other_expected },
        ) => sni == other_sni && expected == other_expected,
        (Transport::Plaintext { exception }, Transport::Plaintext { exception: other }) => exception == other,
        // By what was in the files, which may have changed under the same names.
        (Transport::Tls(one), Transport::Tls(other)) => one == other,
        (Transport::MutualTls { .. } | Transport::Plaintext { .. } | Transport::Tls(_), _) => false,
    }
}
