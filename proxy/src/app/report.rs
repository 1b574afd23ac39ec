//! From the state of a sidecar to what its `status` page says. Bounded, whatever the policy lists.

use std::collections::BTreeMap;
use std::convert::identity;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_identity::{Clock, Fingerprint, TrustBundle};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::policy::{PolicyInForce, Record};
use crate::authz::{Action, AuthorizationPolicy, Exception, InboundPolicy, PortMode};
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::pool::Pools;
use crate::route::{AppProtocol, Destination, OutboundPolicy};
use crate::status::{
    Anchor, AuthorizationReport, Certificate, ExceptionReport, IdentityReport, InboundReport, Listener,
    PolicyFault, PolicyReport, PortReport, RefusalReport, Refusals, Status, Trust,
};
use crate::svid::{IdentityStatus, IdentityWatch, Moment};
use crate::upstream::{NameStatus, Names};

mod outbound;

/// Ports, destinations or pools that are listed.
const MAX_LISTED: usize = 1000;
/// Roots of one bundle that are listed.
const MAX_ANCHORS: usize = 64;
/// Warnings that are listed.
const MAX_WARNINGS: usize = 100;

/// What the pages are made from.
pub(super) struct Reporter {
    /// Who we are.
    pub(super) id: String,
    /// Certificate and bundles.
    pub(super) identity: IdentityWatch,
    /// What we go by.
    pub(super) policy: PolicyInForce,
    /// Connections to others.
    pub(super) pools: Pools,
    /// Addresses of names.
    pub(super) names: Names,
    /// Refusals of late.
    pub(super) metrics: Arc<Metrics>,
    /// Sockets that listen, as they were bound.
    pub(super) listeners: Arc<Mutex<Vec<Listener>>>,
    /// The time that proofs are measured against.
    pub(super) clock: Clock,
    /// The time that exceptions expire by.
    pub(super) policy_clock: Clock,
    /// Shutdown of the way to the app.
    pub(super) leaving: Drain,
}

/// Takes as many as may be listed, and counts the others.
struct Bound {
    omitted: usize,
}

impl Bound {
    fn list<T, U>(&mut self, most: usize, items: impl Iterator<Item = T>, f: impl FnMut(T) -> U) -> Vec<U> {
        let mut items = items.fuse();
        let listed = items.by_ref().take(most).map(f).collect();
        self.omitted += items.count();
        listed
    }
}

impl Reporter {
    /// Everything, as it is now.
    pub(super) fn status(&self) -> Status {
        let now = self.clock.now();
        let policy_now = self.policy_clock.now();
        let mut bound = Bound { omitted: 0 };
        let (inbound, outbound) = (self.policy.inbound.get(), self.policy.outbound.get());
        let outbound: &OutboundPolicy = &outbound;
        let destination = |each: &Arc<Destination>| outbound::destination(each, policy_now);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: moment(now),
            draining: self.leaving.has_begun(),
            identity: self.identity(now, &mut bound),
            policy: policy(self.policy.record(), now, &mut bound),
            listeners: self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            inbound: inbound_report(&inbound, policy_now, &mut bound),
            outbound: bound.list(MAX_LISTED, outbound.destinations(), destination),
            names: bound.list(MAX_LISTED, names(&self.names, outbound).into_iter(), identity),
            pools: bound.list(MAX_LISTED, self.pools.status().into_iter(), identity),
            refusals: self.refusals(),
            omitted: bound.omitted,
        }
    }

    /// Whom we have refused of late.
    pub(super) fn refusals(&self) -> Refusals {
        let now = self.clock.now();
        let (recent, unlisted) = self.metrics.recent.list();
        let recent = recent.into_iter().map(|refusal| RefusalReport {
            direction: refusal.key.direction.as_str().to_owned(),
            peer: refusal.key.peer.to_string(),
            identity: refusal.key.identity,
            port: refusal.key.port,
            reason: refusal.key.reason.to_owned(),
            rule: refusal.key.rule,
            count: refusal.count,
            first: moment(now.saturating_sub(refusal.first.elapsed())),
            last: moment(now.saturating_sub(refusal.last.elapsed())),
            last_ago_s: refusal.last.elapsed().as_secs(),
            text: refusal.text,
        });
        Refusals { recent: recent.collect(), unlisted }
    }

    fn identity(&self, now: Duration, bound: &mut Bound) -> IdentityReport {
        let status = self.identity.status();
        let state = match &status {
            IdentityStatus::Uncertified { .. } => "uncertified",
            IdentityStatus::Certified { .. } => "certified",
            IdentityStatus::Expiring { .. } => "expiring",
            IdentityStatus::Expired { .. } => "expired",
        };
        let current = self.identity.current();
        let renewal = self.identity.renewal();
        let certificate = current.as_ref().map(|current| {
            let facts = current.svid().facts();
            Certificate {
                serial: facts.serial.to_string(),
                not_before: moment(Duration::from_secs(facts.not_before)),
                not_after: moment(Duration::from_secs(facts.not_after)),
                age_s: self.identity.received().map_or(0, |at| -until(now, at)),
                left_s: until(now, Duration::from_secs(facts.not_after)),
                generation: current.generation(),
            }
        });
        let bundles = current.iter().flat_map(|current| current.bundles().iter());
        let bundles = bound.list(MAX_LISTED, bundles, identity);
        let trust = bundles.into_iter().map(|bundle| trust(bundle, now, bound)).collect();
        IdentityReport {
            id: self.id.clone(),
            state: state.to_owned(),
            detail: status.to_string(),
            certificate,
            renewal: renewal.map(moment),
            renewal_in_s: renewal.map(|at| until(now, at)),
            trust,
        }
    }
}

fn trust(bundle: &TrustBundle, now: Duration, bound: &mut Bound) -> Trust {
    let anchor = |root: &CertificateDer<'_>| {
        let parsed = X509Certificate::from_der(root).ok();
        let not_after =
            parsed.and_then(|(_, root)| u64::try_from(root.validity().not_after.timestamp()).ok());
        let not_after = not_after.map(Duration::from_secs);
        Anchor {
            fingerprint: Fingerprint::of(root).to_string(),
            not_after: not_after.map(moment),
            left_s: not_after.map(|at| until(now, at)),
        }
    };
    Trust {
        trust_domain: bundle.trust_domain().to_string(),
        generation: bundle.generation(),
        anchors: bound.list(MAX_ANCHORS, bundle.roots().iter(), anchor),
    }
}

fn policy(record: Record, now: Duration, bound: &mut Bound) -> PolicyReport {
    PolicyReport {
        generation: record.generation,
        sources: bound.list(MAX_LISTED, record.sources.iter(), |path| path.display().to_string()),
        loaded_at: moment(record.loaded),
        age_s: -until(now, record.loaded),
        fault: record.fault.map(|(at, report)| PolicyFault { at: moment(at), report: report.to_string() }),
        warnings: bound.list(MAX_WARNINGS, record.warnings.iter(), String::clone),
    }
}

fn inbound_report(inbound: &InboundPolicy, now: Duration, bound: &mut Bound) -> InboundReport {
    let report = |port| {
        let (mode, rule) = match inbound.mode(port, now) {
            PortMode::Strict { rule } => ("STRICT", rule),
            PortMode::Plaintext { rule, .. } => ("DISABLE", rule),
        };
        PortReport {
            port,
            mode: mode.to_owned(),
            protocol: protocol(inbound.protocol(port)).to_owned(),
            rule: rule.to_string(),
            exception: inbound.exception(port).map(|exception| exception_report(exception, now)),
        }
    };
    InboundReport {
        default_rule: inbound.default_rule().to_string(),
        ports: bound.list(MAX_LISTED, inbound.ports().into_iter(), report),
        authorization: bound.list(MAX_LISTED, inbound.authorization().policies().iter(), authorization),
    }
}

/// Names of the policy, those included of which nothing is known yet.
fn names(names: &Names, outbound: &OutboundPolicy) -> Vec<NameStatus> {
    let known = names.status().into_iter().map(|status| (status.name.clone(), status));
    let mut all: BTreeMap<String, NameStatus> = known.collect();
    for (name, _) in outbound.names() {
        let unknown =
            || NameStatus { name: name.to_string(), addresses: Vec::new(), age_s: None, failing: false };
        all.entry(name.to_string()).or_insert_with(unknown);
    }
    all.into_values().collect()
}

fn authorization(policy: &AuthorizationPolicy) -> AuthorizationReport {
    let action = match policy.action {
        Action::Allow => "ALLOW",
        Action::Deny => "DENY",
        Action::Audit => "AUDIT",
    };
    AuthorizationReport {
        action: action.to_owned(),
        rule: policy.rule.to_string(),
        rules: policy.rules.len(),
    }
}

fn exception_report(exception: &Exception, now: Duration) -> ExceptionReport {
    let plan = exception.plan.as_ref();
    ExceptionReport {
        open: exception.is_open(now),
        reason: plan.map(|plan| plan.reason.clone()),
        owner: plan.map(|plan| plan.owner.clone()),
        expires: plan.map(|plan| plan.expires.to_string()),
        days_left: plan.map(|plan| plan.days_left(now)),
    }
}

fn protocol(protocol: AppProtocol) -> &'static str {
    match protocol {
        AppProtocol::Http => "HTTP",
        AppProtocol::Http2 => "HTTP2",
        AppProtocol::HttpProxy => "HTTP_PROXY",
        AppProtocol::Tcp => "TCP",
        AppProtocol::Undeclared => "undeclared",
    }
}

/// RFC 3339, UTC, whole seconds.
fn moment(since_epoch: Duration) -> String {
    Moment(since_epoch).to_string()
}

/// Seconds from `now` to `then`, both since the epoch.
fn until(now: Duration, then: Duration) -> i64 {
    let seconds = |moment: Duration| i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
    seconds(then) - seconds(now)
}

#[cfg(test)]
mod tests {
    use portcullis_identity::{TrustDomain, Workload};

    use super::*;
    use crate::config::{ExceptionPlans, PolicyScope, load_policy};

    #[test]
    fn a_list_is_bounded_and_the_rest_counted() {
        let mut bound = Bound { omitted: 1 };
        assert_eq!(bound.list(3, 0..3, identity), [0, 1, 2]);
        assert_eq!((bound.list(3, 0..10, identity), bound.omitted), (vec![0, 1, 2], 8));
        assert_eq!(outbound::listed((0..40).map(|n| n.to_string()))[31..], ["31", "and 8 more"]);
    }

    #[test]
    fn policies_and_names_are_told_even_when_nothing_is_known_of_them() {
        let trust_domain = TrustDomain::parse("cluster.local").unwrap();
        let scope = PolicyScope {
            workload: Workload::new(&trust_domain, "production", "api").unwrap(),
            labels: BTreeMap::new(),
            root_namespace: "istio-system".to_owned(),
            exception_plans: ExceptionPlans::Warn,
        };
        let directory = tempfile::tempdir().unwrap();
        let yaml = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
            metadata: {name: readers, namespace: production}\nspec: {action: DENY, rules: [{}, {}]}\n---\n\
            apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
            metadata: {name: db, namespace: production}\n\
            spec: {hosts: [db.production.svc.cluster.local], resolution: DNS, ports: [{number: 80, name: http}]}\n";
        std::fs::write(directory.path().join("policy.yaml"), yaml).unwrap();
        let policy = load_policy(&[directory.path().to_owned()], &scope, Duration::ZERO).unwrap();
        let report = inbound_report(&policy.inbound, Duration::ZERO, &mut Bound { omitted: 0 });
        let told = serde_json::to_value(report.authorization).unwrap();
        let rule = "AuthorizationPolicy production/readers";
        assert_eq!(told, serde_json::json!([{ "action": "DENY", "rule": rule, "rules": 2 }]));
        let told = serde_json::to_value(names(&Names::with_resolver(None), &policy.outbound)).unwrap();
        let name = "db.production.svc.cluster.local";
        let expected =
            serde_json::json!([{ "name": name, "addresses": [], "age_s": null, "failing": false }]);
        assert_eq!(told, expected);
    }

    #[test]
    fn moments_are_seconds_apart_in_either_direction() {
        let (now, then) = (Duration::from_millis(5_900), Duration::from_secs(9));
        assert_eq!((until(now, then), until(then, now)), (4, -4));
        assert_eq!(until(Duration::ZERO, Duration::MAX), i64::MAX);
    }
}
