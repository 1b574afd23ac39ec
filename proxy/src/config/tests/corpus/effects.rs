//! What is done with the requests and connections of the app.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::request::Parts;

use super::{host_and_port, options};
use crate::config::Policy;
use crate::route::{
    DestinationId, FaultStatus, Forward, HeaderChanges, HttpAction, HttpDecision, HttpRoute, OutboundPolicy,
    RetryPolicy,
};

/// `HOST:PORT to=IP`
pub(super) fn of_connection(policy: &Policy, text: &str) -> String {
    let mut words = text.split_whitespace();
    let (host, port) = host_and_port(words.next().unwrap());
    let (options, _) = options(words);
    let original = options.get("to").map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
    let outbound = &policy.outbound;
    match outbound.destination_by_host(host, port) {
        Ok(asked) => shares(|roll| {
            let pick = |total: u64| roll * total / 100;
            outbound.route_tcp(asked, original, pick).map_or("no route".to_owned(), |to| format!("to {to}"))
        }),
        Err(unknown) => format!("unknown: {unknown}"),
    }
}

/// `HOST:PORT/PATH HEADER:VALUE ...`
pub(super) fn of_request(policy: &Policy, method: &str, text: &str) -> String {
    let mut words = text.split_whitespace();
    let url = words.next().unwrap();
    let (service, path) = url.split_once('/').unwrap_or_else(|| panic!("no path in {url}"));
    let (host, port) = host_and_port(service);
    let (_, headers) = options(words);
    let mut request = http::Request::builder().method(method).uri(format!("/{path}"));
    if !headers.iter().any(|(name, _)| name == "host") {
        request = request.header("host", host);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let outbound = &policy.outbound;
    let Ok(asked) = outbound.destination_by_host(host, port) else { return "unknown".to_owned() };
    let decide = |roll: u64| outbound.route_http(asked, &head, |total| roll * total / 100);
    let to = shares(|roll| match decide(roll) {
        Ok(decision) => decision.destination().map_or(String::new(), |to| format!("to {to}")),
        Err(_) => "404".to_owned(),
    });
    match decide(0) {
        Ok(HttpDecision::Forward { route, target, .. }) => {
            let mut told = vec![to];
            told.extend(changes("", &route.headers.request));
            told.extend(changes("response ", &route.headers.response));
            told.extend(changes("", &target.headers.request));
            told.extend(changes("response ", &target.headers.response));
            if let HttpAction::Forward(forward) = &route.action {
                told.extend(forwarding(outbound, &route, forward, &head));
            }
            told.extend(faults(&route));
            told.join(", ")
        }
        Ok(HttpDecision::Answer(route)) => {
            let told = [answer(&route, &head)].into_iter().chain(faults(&route));
            told.chain(changes("response ", &route.headers.response)).collect::<Vec<_>>().join(", ")
        }
        Ok(HttpDecision::Direct(_)) | Err(_) => to,
    }
}

/// What hundred rolls come to: alone when all come to the same, else each with its percentage.
fn shares(mut outcome: impl FnMut(u64) -> String) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    (0..100).for_each(|roll| *counts.entry(outcome(roll)).or_default() += 1);
    if let (1, Some((only, _))) = (counts.len(), counts.first_key_value()) {
        return only.clone();
    }
    counts.into_iter().map(|(to, share)| format!("{to} {share}%")).collect::<Vec<_>>().join(" | ")
}

fn answer(route: &HttpRoute, head: &Parts) -> String {
    match &route.action {
        HttpAction::Redirect(redirect) => {
            format!("redirect {} {}", redirect.status.as_u16(), redirect.location(head))
        }
        HttpAction::Respond(response) => {
            format!("respond {} {:?}", response.status.as_u16(), String::from_utf8_lossy(&response.body))
        }
        HttpAction::Forward(_) => "forward".to_owned(),
    }
}

fn forwarding(outbound: &OutboundPolicy, route: &HttpRoute, forward: &Forward, head: &Parts) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(rewrite) = &forward.rewrite {
        let mut after = head.clone();
        let met = route.matched(head).flatten().and_then(|condition| condition.uri.as_ref());
        rewrite.apply(&mut after, met).unwrap();
        if after.uri != head.uri {
            told.push(format!("path {}", after.uri));
        }
        if after.headers["host"] != head.headers["host"] {
            told.push(format!("host {}", after.headers["host"].to_str().unwrap()));
        }
    }
    told.extend(forward.timeout.map(|timeout| format!("timeout {timeout:?}")));
    if forward.retries != RetryPolicy::default() {
        let within = forward.retries.per_try_timeout.map(|time| format!(" within {time:?}"));
        told.push(format!("retries {}{}", forward.retries.attempts, within.unwrap_or_default()));
    }
    let name = |id: DestinationId| outbound.get(id).map_or("nowhere".to_owned(), ToString::to_string);
    told.extend(forward.mirrors.iter().map(|mirror| format!("mirror {} {}", name(mirror.id), mirror.share)));
    told
}

fn faults(route: &HttpRoute) -> Vec<String> {
    let Some(fault) = &route.fault else { return Vec::new() };
    let delay = fault.delay.map(|(time, share)| format!("delay {time:?} {share}"));
    let abort = fault.abort.map(|(status, share)| match status {
        FaultStatus::Http(status) => format!("abort {} {share}", status.as_u16()),
        FaultStatus::Grpc(status) => format!("abort gRPC {status} {share}"),
    });
    delay.into_iter().chain(abort).collect()
}

fn changes(prefix: &str, changes: &HeaderChanges) -> Vec<String> {
    let text = |(name, value): &(http::HeaderName, http::HeaderValue)| {
        format!("{name}:{}", value.to_str().unwrap_or_default())
    };
    let remove = changes.remove.iter().map(|name| format!("{prefix}remove {name}"));
    let set = changes.set.iter().map(|change| format!("{prefix}set {}", text(change)));
    let add = changes.add.iter().map(|change| format!("{prefix}add {}", text(change)));
    remove.chain(set).chain(add).collect()
}
