//! The fields of an HTTP route.

use std::time::Duration;

use super::answers::{RedirectSpec, read_direct, read_redirect};
use super::matching::{Alternatives, read_http};
use super::targets::{TargetSpec, read_destination, read_targets};
use super::values::{either_share, name, share, zero_or_duration};
use super::{faults as injected, headers, retries, rewrite};
use crate::config::decode::{Fields, Node};
use crate::config::report::Faults;
use crate::route::{DirectResponse, Fault, HeaderRules, HttpMatch, RetryPolicy, Rewrite, Share};

const REFUSED: [(&str, &str); 2] = [
    ("corsPolicy", "no browser calls a sidecar directly: answer CORS in the app"),
    ("delegate", "write the routes of the other VirtualService here"),
];
/// Fields about a request that is sent on.
const OF_FORWARDING: [(&str, &str); 8] = [
    ("fault", "faults are for requests that are sent on"),
    ("mirror", "nothing is sent on that could be mirrored"),
    ("mirrorPercent", "nothing is sent on that could be mirrored"),
    ("mirrorPercentage", "nothing is sent on that could be mirrored"),
    ("mirrors", "nothing is sent on that could be mirrored"),
    ("retries", "nothing is sent on that could be sent again"),
    ("rewrite", "nothing is sent on that could be rewritten"),
    ("timeout", "nothing is sent on that could take long"),
];

/// One HTTP route as written.
pub(in crate::config::policy) struct HttpSpec {
    /// `http[0]`, or `http[0] NAME`.
    pub(in crate::config::policy) label: String,
    pub(in crate::config::policy) matches: Alternatives<HttpMatch>,
    pub(in crate::config::policy) fault: Option<Fault>,
    pub(in crate::config::policy) headers: HeaderRules,
    pub(in crate::config::policy) action: ActionSpec,
}

/// What is done with a request.
pub(in crate::config::policy) enum ActionSpec {
    Forward(ForwardSpec),
    Redirect(RedirectSpec),
    Respond(DirectResponse),
}

/// Where a request is sent, and how.
pub(in crate::config::policy) struct ForwardSpec {
    pub(in crate::config::policy) targets: Vec<(TargetSpec, HeaderRules, u32)>,
    pub(in crate::config::policy) timeout: Option<Duration>,
    pub(in crate::config::policy) retries: RetryPolicy,
    pub(in crate::config::policy) rewrite: Option<Rewrite>,
    pub(in crate::config::policy) mirrors: Vec<(TargetSpec, Share)>,
}

pub(super) fn read(node: &Node<'_>, label: &str, namespace: &str, faults: &mut Faults) -> Option<HttpSpec> {
    let mut fields = node.fields(faults)?;
    let name = fields.take("name").and_then(|node| node.parsed(faults, name));
    let matches = Alternatives::read(&mut fields, faults, read_http);
    fields.refuse(&REFUSED, faults);
    let headers = headers::read(&mut fields, faults);
    let route = fields.take("route");
    let (redirect, direct) = (fields.take("redirect"), fields.take("directResponse"));
    let answers = redirect.is_some() || direct.is_some();
    if answers && route.is_none() {
        fields.refuse(&OF_FORWARDING, faults);
        if !headers.request.is_empty() {
            node.fault(faults, "headers.request is for requests that are sent on: remove it here");
        }
    }
    let fault = fields.take("fault").and_then(|node| injected::read(&node, faults));
    let forward = read_forward(&mut fields, route.as_ref(), namespace, faults);
    let redirect = redirect.map(|node| read_redirect(&node, faults).map(ActionSpec::Redirect));
    let direct = direct.map(|node| read_direct(&node, faults).map(ActionSpec::Respond));
    fields.finish(&[], faults);
    let action = match (route, redirect, direct) {
        (Some(_), None, None) => ActionSpec::Forward(forward?),
        (None, Some(action), None) | (None, None, Some(action)) => action?,
        (None, None, None) => {
            node.fault(faults, "route is missing: write one of route, redirect and directResponse");
            return None;
        }
        _ => {
            node.fault(faults, "write one of route, redirect and directResponse");
            return None;
        }
    };
    let label = name.map_or_else(|| label.to_owned(), |name| format!("{label} {name}"));
    Some(HttpSpec { label, matches, fault, headers, action })
}

fn read_forward(
    fields: &mut Fields<'_>,
    route: Option<&Node<'_>>,
    namespace: &str,
    faults: &mut Faults,
) -> Option<ForwardSpec> {
    let timeout = fields.take("timeout").and_then(|node| node.duration(faults, zero_or_duration));
    // 0 is Istio's way to say: none.
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    let retries = fields.take("retries").map(|node| retries::read(&node, timeout, faults));
    let rewrite = fields.take("rewrite").and_then(|node| rewrite::read(&node, faults));
    let mirrors = read_mirrors(fields, namespace, faults);
    let targets = route.map(|node| read_targets(node, namespace, faults, headers::read))?;
    Some(ForwardSpec {
        targets,
        timeout,
        retries: retries.unwrap_or_else(|| Some(RetryPolicy::default()))?,
        rewrite,
        mirrors,
    })
}

/// `mirror` with its percentage, or `mirrors` with one each.
fn read_mirrors(fields: &mut Fields<'_>, namespace: &str, faults: &mut Faults) -> Vec<(TargetSpec, Share)> {
    let (one, many) = (fields.take("mirror"), fields.take("mirrors"));
    if let (Some(_), Some(many)) = (&one, &many) {
        many.fault(faults, "mirror and mirrors are two lists of one thing: keep mirrors");
    }
    let share_of_one = if one.is_some() {
        either_share(fields, ("mirrorPercentage", "mirrorPercent"), faults)
    } else {
        let shares = [fields.take("mirrorPercentage"), fields.take("mirrorPercent")];
        for node in shares.into_iter().flatten() {
            node.fault(faults, "is for mirror, which is missing; mirrors have a percentage each");
        }
        None
    };
    let mut mirrors = Vec::new();
    let one = one.and_then(|node| read_destination(&node, namespace, faults));
    mirrors.extend(one.zip(share_of_one));
    for node in many.map(|node| node.items(faults)).unwrap_or_default() {
        let Some(mut fields) = node.fields(faults) else { continue };
        let destination = fields.require("destination", faults);
        let destination = destination.and_then(|node| read_destination(&node, namespace, faults));
        let part = fields.take("percentage").map_or(Some(Share::ALL), |node| share(&node, faults));
        fields.finish(&[], faults);
        mirrors.extend(destination.zip(part));
    }
    mirrors
}
