//! When a request is sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::values::duration;
use crate::config::decode::Node;
use crate::config::report::{Faults, quoted};
use crate::route::{RetryOn, RetryPolicy};

/// More than these are an attack on a server in trouble.
const MAX_ATTEMPTS: u64 = 100;
const REFUSED: [(&str, &str); 2] = [
    ("backoff", "how long a retry waits is fixed: remove it"),
    ("retryRemoteLocalities", "endpoints have no locality here: remove it"),
];

/// The field `retries` of a route; `timeout` is the route's.
pub(super) fn read(node: &Node<'_>, timeout: Option<Duration>, faults: &mut Faults) -> Option<RetryPolicy> {
    let mut fields = node.fields(faults)?;
    fields.refuse(&REFUSED, faults);
    let attempts = fields.require("attempts", faults).and_then(|node| node.integer(faults, 0..=MAX_ATTEMPTS));
    let per_try = fields.take("perTryTimeout");
    let per_try_timeout = per_try.as_ref().and_then(|node| node.duration(faults, duration));
    if let (Some(node), Some(per_try), Some(timeout)) = (&per_try, per_try_timeout, timeout)
        && per_try > timeout
    {
        node.fault(faults, "longer than the route's timeout, which ends the request first");
    }
    let on = fields.take("retryOn").map(|node| read_on(&node, faults));
    if let Some(node) = fields.take("retryIgnorePreviousHosts")
        && node.boolean(faults) == Some(false)
    {
        let message = "not supported: false; another server is tried first whenever there is one, remove it";
        node.fault(faults, message);
    }
    fields.finish(&[], faults);
    let default = RetryPolicy::default();
    Some(RetryPolicy { attempts: attempts?, per_try_timeout, on: on.map_or(Some(default.on), |on| on)? })
}

/// Conditions of Envoy's, separated by commas; numbers are HTTP statuses.
fn read_on(node: &Node<'_>, faults: &mut Faults) -> Option<RetryOn> {
    let words: Vec<&str> =
        node.text(faults)?.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        node.fault(
            faults,
            "names no condition: remove it for the default, or write attempts: 0 for no retry",
        );
        return None;
    }
    let mut on = RetryOn::default();
    let mut by_code = false;
    for word in &words {
        match *word {
            "retriable-status-codes" => by_code = true,
            word => {
                if let Err(message) = add(&mut on, word) {
                    node.fault(faults, format!("{}: {message}", quoted(word)));
                }
            }
        }
    }
    if by_code && !words.iter().any(|word| word.parse::<u16>().is_ok()) {
        node.fault(faults, "retriable-status-codes needs codes: write them beside it, such as 503");
    }
    Some(on)
}

/// As Envoy reads them: `5xx`, `gateway-error` and `reset` are about no answer at all, too.
fn add(on: &mut RetryOn, word: &str) -> Result<(), &'static str> {
    let no_answer = matches!(word, "5xx" | "gateway-error" | "reset");
    on.reset |= no_answer;
    on.connect_failure |= no_answer || word == "connect-failure";
    on.refused_stream |= no_answer || word == "refused-stream";
    on.reset_before_request |= no_answer || word == "reset-before-request";
    match word {
        "reset" | "connect-failure" | "refused-stream" | "reset-before-request" => {}
        "5xx" => on.statuses.extend(500..=599),
        "gateway-error" => on.statuses.extend(502..=504),
        "retriable-4xx" => on.statuses.extend(BTreeSet::from([409])),
        "cancelled" => on.grpc.extend([1]),
        "deadline-exceeded" => on.grpc.extend([4]),
        "resource-exhausted" => on.grpc.extend([8]),
        "internal" => on.grpc.extend([13]),
        "unavailable" => on.grpc.extend([14]),
        "envoy-ratelimited" | "retriable-headers" | "http3-post-connect-failure" => {
            return Err("not supported: nothing here makes that condition; remove it");
        }
        code => {
            let code = code.parse().ok().filter(|code| (200..=599).contains(code));
            on.statuses.insert(code.ok_or(
                "not a condition; known: 5xx, gateway-error, reset, reset-before-request, connect-failure, \
                 refused-stream, retriable-4xx, statuses, cancelled, deadline-exceeded, internal, \
                 resource-exhausted, unavailable",
            )?);
        }
    }
    Ok(())
}
