//! An exchange after which both connections carry bytes: an upgrade, or CONNECT through a declared HTTP proxy.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::{App, Outbound, ends};
use crate::access;
use crate::lifetime::Lifetime;
use crate::metrics::Direction;
use crate::pool::{Answer, Lease, LeasedBody};
use crate::protocol::tcp::Ended;
use crate::protocol::upgrade::{Upgrade, splice};
use crate::tls::VerifiedPeer;
use crate::upstream::Target;

/// What a request asks for, and the app's end of it.
pub(super) struct Asked {
    pub(super) upgrade: Upgrade,
    pub(super) client: OnUpgrade,
}

/// Both ends, once the service has granted it.
pub(super) struct Tunnel {
    client: OnUpgrade,
    server: OnUpgrade,
    lease: Option<Lease>,
    lifetime: Lifetime,
    peer: Option<VerifiedPeer>,
    name: String,
    longest: Option<Duration>,
}

impl Tunnel {
    /// Takes the service's end out of its answer.
    pub(super) fn new(asked: OnUpgrade, answer: &mut Answer, target: &Target) -> Self {
        Self {
            client: asked,
            server: hyper::upgrade::on::<&mut Response<LeasedBody>>(&mut answer.response),
            lease: answer.upgraded.take(),
            lifetime: answer.lifetime.clone(),
            peer: answer.peer.clone(),
            name: target.to_string(),
            longest: target.destination.limits.max_connection_duration,
        }
    }

    /// Carries bytes until both sides have ended, the proof has, or the connection has lived as long as it may. The
    /// app's place among the connections of its listener is kept for as long.
    pub(super) fn open(self, outbound: &Arc<Outbound>, app: &App) {
        let (outbound, app) = (Arc::clone(outbound), app.clone());
        let drain = outbound.drain.clone();
        drain.spawn(async move {
            let started = Instant::now();
            let spliced = bounded(self.longest, splice(self.client, self.server, &self.lifetime)).await;
            // The connection is closed by now, and its place free for another.
            drop(self.lease);
            let ends = ends(app.addr, self.peer.as_ref(), &self.name);
            match spliced {
                Some(ended) => {
                    if matches!(ended, Ended::Expired) {
                        outbound.metrics.expired(Direction::outbound);
                    }
                    access::stream(ends, &ended, started);
                }
                None => access::cut_stream(ends, "maxConnectionDuration", started),
            }
        });
    }
}

/// `None` when `longest` has passed first.
pub(super) async fn bounded<T>(longest: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match longest {
        Some(longest) => tokio::time::timeout(longest, work).await.ok(),
        None => Some(work.await),
    }
}
