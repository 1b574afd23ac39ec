//! One AuthorizationPolicy: what its rules say of a connection, and of a request on it.
//!
//! A rule that asks about requests is neither met nor unmet by a connection. So truth has three values, ordered such
//! that "and" is the least and "or" is the greatest of them.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use portcullis_identity::{SpiffeId, Workload};

use super::matching::{HostMatch, Listed, PathMatch, PrincipalMatch, ServiceAccount, StringMatch};
use super::path::NormalPath;
use super::{ConnectionFacts, RuleRef};

/// Whether something holds, as far as one can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    No,
    Unknown,
    Yes,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Truth {
    /// Whether all hold; true of none.
    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().min().unwrap_or(Self::Yes)
    }

    /// Whether one of a list holds; an absent list asks for nothing.
    fn one_of<T>(list: &[T], truth: impl Fn(&T) -> Self) -> Self {
        list.iter().map(truth).max().unwrap_or(Self::Yes)
    }
}

/// What happens when a rule of the policy is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Permitted, unless denied.
    Allow,
    /// Denied, whatever else is allowed.
    Deny,
    /// Recorded, and nothing else.
    Audit,
}

/// One policy that holds for the workload.
#[derive(Debug, Clone)]
pub struct AuthorizationPolicy {
    /// The resource.
    pub rule: RuleRef,
    /// What its rules are for.
    pub action: Action,
    /// It is met when one of these is. Without any it never is.
    pub rules: Vec<AuthorizationRule>,
}

/// One rule: a source, an operation and all conditions have to be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// The resource, with the rule's position in it.
    pub rule: RuleRef,
    /// Who: one of these; empty: anybody.
    pub from: Vec<Source>,
    /// What: one of these; empty: anything.
    pub to: Vec<Operation>,
    /// All of these.
    pub when: Vec<Condition>,
}

/// Who asks: every field that is set has to be met. A field that asks for an identity is not met by a caller without
/// one, its `not` twin is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `principals`.
    pub principals: Listed<PrincipalMatch>,
    /// `namespaces`.
    pub namespaces: Listed<StringMatch>,
    /// `serviceAccounts`.
    pub service_accounts: Listed<ServiceAccount>,
    /// `ipBlocks`: of the peer itself, whatever a header says.
    pub ip_blocks: Listed<IpNet>,
}

/// What is asked for: every field that is set has to be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// `ports`: the workload's.
    pub ports: Listed<u16>,
    /// `methods`.
    pub methods: Listed<StringMatch>,
    /// `paths`, without query.
    pub paths: Listed<PathMatch>,
    /// `hosts`.
    pub hosts: Listed<HostMatch>,
}

/// One entry of `when`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `source.ip`, `source.namespace`, `source.principal`, `source.serviceAccount`.
    Source(Source),
    /// `destination.ip`.
    DestinationIp(Listed<IpNet>),
    /// `destination.port`.
    DestinationPort(Listed<u16>),
    /// `connection.sni`.
    Sni(Listed<HostMatch>),
    /// `request.headers[NAME]`.
    Header(HeaderName, Listed<StringMatch>),
}

/// In how many of its readings something has to be met, where an app may read a request in several ways: a path
/// before and after cleaning up, a field that appears twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readings {
    /// In each, to be permitted.
    Every,
    /// In one, to be denied.
    Any,
}

impl Readings {
    fn meet<T>(self, mut readings: impl Iterator<Item = T>, is_met: impl FnMut(T) -> bool) -> bool {
        match self {
            Self::Every => readings.all(is_met),
            Self::Any => readings.any(is_met),
        }
    }
}

/// The caller's proven identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identified<'a> {
    pub(super) id: &'a SpiffeId,
    /// Absent for an identity that is not of Istio's shape.
    pub(super) workload: Option<&'a Workload>,
}

/// What rules may ask about a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestView<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a [u8],
    /// `None`: it could mean two things.
    pub(super) path: Option<&'a NormalPath<'a>>,
    /// `None`: not kept.
    pub(super) headers: Option<&'a HeaderMap>,
}

/// Everything that rules may ask about.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) caller: Option<Identified<'a>>,
    pub(super) connection: &'a ConnectionFacts,
    /// `None`: a connection, whatever comes over it.
    pub(super) request: Option<RequestView<'a>>,
    pub(super) readings: Readings,
}

impl AuthorizationRule {
    pub(super) fn truth(&self, facts: &Facts<'_>) -> Truth {
        let from = Truth::one_of(&self.from, |source| source.is_met(facts).into());
        // What is settled already need not be asked of the request.
        if from == Truth::No {
            return Truth::No;
        }
        let to = Truth::one_of(&self.to, |operation| operation.truth(facts));
        let when = Truth::all(self.when.iter().map(|condition| condition.truth(facts)));
        from.min(to).min(when)
    }

    /// Whether it asks about the path of a request.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        self.to.iter().any(|operation| operation.paths.is_set())
    }

    /// Whether it asks about the header of a request, `Host` apart.
    #[must_use]
    pub fn looks_at_headers(&self) -> bool {
        self.when.iter().any(|condition| matches!(condition, Condition::Header(..)))
    }
}

impl Source {
    fn is_met(&self, facts: &Facts<'_>) -> bool {
        let caller = facts.caller;
        let workload = caller.and_then(|caller| caller.workload);
        let address = facts.connection.client.get().ip();
        self.principals.is_met(|one| caller.is_some_and(|caller| one.fits(caller.id)))
            && self.namespaces.is_met(|one| workload.is_some_and(|own| one.fits(own.namespace().as_bytes())))
            && self.service_accounts.is_met(|one| workload.is_some_and(|own| one.fits(own)))
            && self.ip_blocks.is_met(|block| holds(block, address))
    }
}

impl Operation {
    /// Whether it asks about requests.
    #[must_use]
    pub fn needs_http(&self) -> bool {
        self.methods.is_set() || self.paths.is_set() || self.hosts.is_set()
    }

    fn truth(&self, facts: &Facts<'_>) -> Truth {
        if !self.ports.is_met(|port| *port == facts.connection.port) {
            return Truth::No;
        }
        if !self.needs_http() {
            return Truth::Yes;
        }
        let Some(request) = facts.request else { return Truth::Unknown };
        let method = self.methods.is_met(|one| one.fits(request.method.as_bytes()));
        let host = self.hosts.is_met(|one| one.fits(request.host));
        Truth::from(method && host).min(self.path_truth(request.path, facts.readings))
    }

    fn path_truth(&self, path: Option<&NormalPath<'_>>, readings: Readings) -> Truth {
        if !self.paths.is_set() {
            return Truth::Yes;
        }
        let Some(path) = path else { return Truth::Unknown };
        readings.meet(path.readings(), |path| self.paths.is_met(|one| one.fits(path))).into()
    }
}

impl Condition {
    fn truth(&self, facts: &Facts<'_>) -> Truth {
        match self {
            Self::Source(source) => source.is_met(facts).into(),
            Self::DestinationIp(blocks) => {
                let address = facts.connection.destination.ip().to_canonical();
                blocks.is_met(|block| holds(block, address)).into()
            }
            Self::DestinationPort(ports) => ports.is_met(|port| *port == facts.connection.port).into(),
            Self::Sni(names) => {
                let sni = facts.connection.sni.as_deref();
                names.is_met(|name| sni.is_some_and(|sni| name.fits(sni.as_bytes()))).into()
            }
            Self::Header(name, values) => match facts.request.and_then(|request| request.headers) {
                Some(headers) => header_meets(headers, name, values, facts.readings).into(),
                None => Truth::Unknown,
            },
        }
    }
}

/// A field that is absent fits nothing. One that appears more than once is read as each of its values, and as all of
/// them joined by commas (RFC 9110, 5.2): servers do either.
fn header_meets(
    headers: &HeaderMap,
    name: &HeaderName,
    values: &Listed<StringMatch>,
    readings: Readings,
) -> bool {
    // A field that is there without a value is present.
    let met = |value: &[u8]| values.is_met(|one| *one == StringMatch::Present || one.fits(value));
    let mut all = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    match (all.next(), all.next()) {
        (None, _) => values.is_met(|_| false),
        (Some(only), None) => met(only),
        (Some(_), Some(_)) => {
            let each: Vec<&[u8]> = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
            let joined = each.join(&b","[..]);
            let joined_apart = each.join(&b", "[..]);
            readings.meet(each.into_iter().chain([&joined[..], &joined_apart[..]]), met)
        }
    }
}

fn holds(block: &IpNet, address: IpAddr) -> bool {
    block.contains(&address)
}
