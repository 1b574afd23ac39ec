//! Faults on purpose.

use std::time::Duration;

use ::http::StatusCode;

use super::values::{duration, either_share};
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, quoted};
use crate::route::{Fault, FaultStatus, Share};

const SHARE: (&str, &str) = ("percentage", "percent");
const REFUSED_DELAY: [(&str, &str); 1] = [("exponentialDelay", "write fixedDelay")];
const REFUSED_ABORT: [(&str, &str); 1] =
    [("http2Error", "write httpStatus or grpcStatus, which every client can read")];
/// A client that waits longer has given up.
const MAX_DELAY: Duration = Duration::from_secs(3600);

/// gRPC's status codes in their order, from 0.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The field `fault` of a route.
pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Fault> {
    let mut fields = node.fields(faults)?;
    let (delay, abort) = (fields.take("delay"), fields.take("abort"));
    if delay.is_none() && abort.is_none() && fields.is_finished() {
        node.fault(faults, "says nothing: write delay or abort");
    }
    let delay = delay.and_then(|node| read_delay(&node, faults));
    let abort = abort.and_then(|node| read_abort(&node, faults));
    fields.finish(&[], faults);
    Some(Fault { delay, abort })
}

fn read_delay(node: &Node<'_>, faults: &mut Faults) -> Option<(Duration, Share)> {
    let mut fields = node.fields(faults)?;
    fields.refuse(&REFUSED_DELAY, faults);
    let share = either_share(&mut fields, SHARE, faults);
    let delay = fields.require("fixedDelay", faults).and_then(|node| node.duration(faults, delay));
    fields.finish(&[], faults);
    Some((delay?, share?))
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = duration(text)?;
    if delay > MAX_DELAY { Err("longer than an hour".to_owned()) } else { Ok(delay) }
}

fn read_abort(node: &Node<'_>, faults: &mut Faults) -> Option<(FaultStatus, Share)> {
    let mut fields = node.fields(faults)?;
    fields.refuse(&REFUSED_ABORT, faults);
    let share = either_share(&mut fields, SHARE, faults);
    let status = read_status(node, &mut fields, faults);
    fields.finish(&[], faults);
    Some((status?, share?))
}

fn read_status(node: &Node<'_>, fields: &mut Fields<'_>, faults: &mut Faults) -> Option<FaultStatus> {
    match (fields.take("httpStatus"), fields.take("grpcStatus")) {
        (Some(http), None) => {
            let status: u16 = http.integer(faults, 200..=599)?;
            StatusCode::from_u16(status).ok().map(FaultStatus::Http)
        }
        (None, Some(grpc)) => grpc.parsed(faults, grpc_status).map(FaultStatus::Grpc),
        (None, None) => {
            node.fault(faults, "what is answered is missing: write httpStatus or grpcStatus");
            None
        }
        (Some(_), Some(grpc)) => {
            grpc.fault(faults, "httpStatus and grpcStatus are two answers: keep one");
            None
        }
    }
}

/// By name or, in quotes, by number.
fn grpc_status(text: &str) -> Result<u8, String> {
    let by_name = GRPC.iter().position(|name| *name == text).and_then(|code| u8::try_from(code).ok());
    let code = by_name.or_else(|| text.parse().ok().filter(|code| usize::from(*code) < GRPC.len()));
    match code {
        Some(0) => Err("OK is not a fault".to_owned()),
        Some(code) => Ok(code),
        None => Err(format!("not a gRPC status: write a name such as {} or \"14\"", quoted("UNAVAILABLE"))),
    }
}
