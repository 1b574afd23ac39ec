//! What goes wrong on purpose: a delay, then an abort, each for its share of the requests. As under Envoy the two are
//! rolled for independently, and both come before anything else is done with the request.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::record::Record;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::protocol::grpc;
use crate::route::{Fault, FaultStatus};

/// A roll decides by so many sides.
const MILLION: u64 = 1_000_000;
const BODY: &str = "fault filter abort";

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) delay: Option<Duration>,
    pub(super) abort: Option<FaultStatus>,
}

impl Chosen {
    /// `roll` picks a number below its argument, each as likely as the other.
    pub(super) fn by(fault: &Fault, mut roll: impl FnMut(u64) -> u64) -> Self {
        let delay = fault.delay.filter(|(_, share)| share.has(roll(MILLION)));
        let abort = fault.abort.filter(|(_, share)| share.has(roll(MILLION)));
        Self { delay: delay.map(|(delay, _)| delay), abort: abort.map(|(status, _)| status) }
    }
}

/// Delays a request, and answers it if it is to be aborted. The delay ends early when the sidecar stops; when the app
/// leaves, whoever waits here is dropped.
pub(super) async fn inject(
    chosen: Chosen,
    (metrics, drain): (&Metrics, &Drain),
    record: &mut Record,
) -> Option<Response<Full<Bytes>>> {
    if let Some(delay) = chosen.delay {
        record.delayed = true;
        Metrics::outcome(&metrics.faults, "delay");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = drain.begun() => {}
        }
    }
    let status = chosen.abort?;
    record.aborted = true;
    Metrics::outcome(&metrics.faults, "abort");
    Some(match status {
        FaultStatus::Grpc(status) => grpc::trailers_only(status, BODY),
        FaultStatus::Http(status) => {
            let mut response = Response::new(Full::from(BODY));
            *response.status_mut() = status;
            response
        }
    })
}

#[cfg(test)]
mod tests;
