//! The two steps of inbound authorization. A connection is [`Admitted`] by its port's mode and the peer's identity;
//! a request on it, or the stream of bytes that it is, gets its [`Permit`] from the AuthorizationPolicies.
//!
//! What a connection alone cannot settle (methods, paths, hosts, headers) is settled request by request: until then
//! the verdict is [`Verdict::DependsOnRequest`].

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use portcullis_identity::{SpiffeId, TrustDomain, Workload};

use super::authorization::Weighed;
use super::path::NormalPath;
use super::permit::Caller;
use super::policy::{Facts, Identified, Readings, RequestView, Truth};
use super::{Authorization, Denial, InboundPolicy, Permit, PortMode, RuleRef};
use crate::addr::ClientAddr;
use crate::tls::VerifiedPeer;

/// What is known of a connection before its first byte.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    /// Who connected.
    pub client: ClientAddr,
    /// Where it was meant to go: the app's address.
    pub destination: SocketAddr,
    /// The port that policy speaks of.
    pub port: u16,
    /// The name that the peer asked for in its handshake.
    pub sni: Option<String>,
}

/// What the connection alone settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Whatever comes over it is permitted.
    Permitted,
    /// Nothing that could come over it is.
    Denied,
    /// It has to be HTTP, and each request is asked about.
    DependsOnRequest,
}

/// A caller that may speak to the sidecar, and not yet to the app.
#[derive(Debug, Clone)]
pub struct Admitted {
    peer: Option<VerifiedPeer>,
    workload: Option<Workload>,
    facts: ConnectionFacts,
    /// What a permit cites when no policy had to allow it.
    default: RuleRef,
}

impl Admitted {
    fn new(peer: Option<&VerifiedPeer>, facts: ConnectionFacts, rule: &RuleRef) -> Self {
        let workload = peer.and_then(|peer| Workload::try_from(peer.id().clone()).ok());
        let default = rule.with_remark(match peer {
            Some(_) => "no ALLOW policy: any peer of the trust domain",
            None => "no ALLOW policy: any plaintext caller",
        });
        Self { peer: peer.cloned(), workload, facts, default }
    }

    /// The verified peer; `None` for plaintext by exception.
    #[must_use]
    pub fn peer(&self) -> Option<&VerifiedPeer> {
        self.peer.as_ref()
    }

    /// What is known of the connection.
    #[must_use]
    pub fn facts(&self) -> &ConnectionFacts {
        &self.facts
    }

    /// What the connection alone settles, under `policy`.
    #[must_use]
    pub fn verdict(&self, policy: &InboundPolicy) -> Verdict {
        policy.authorization().weigh(self.connection()).verdict()
    }

    /// Leave to pass bytes that nobody looks at.
    ///
    /// # Errors
    /// [`Denial`], with the rule that refused.
    pub fn stream(&self, policy: &InboundPolicy) -> Result<Permit, Denial> {
        let authorization = policy.authorization();
        let weighed = authorization.weigh(self.connection());
        match weighed.verdict() {
            Verdict::Permitted => Ok(self.permit(weighed, authorization.audits(self.connection(), false))),
            Verdict::Denied => Err(self.denial(weighed, authorization)),
            Verdict::DependsOnRequest => {
                let open = if weighed.deny.truth == Truth::Unknown { weighed.deny } else { weighed.allow };
                let rule = open.rule.unwrap_or(&self.default).clone();
                Err(Denial::NeedsHttp { peer: self.id(), port: self.facts.port, rule })
            }
        }
    }

    /// Leave to pass one request. `head` is in the one form that requests have inside: origin form, one `Host`.
    ///
    /// # Errors
    /// [`Denial`], with the rule that refused.
    pub fn request(&self, policy: &InboundPolicy, head: &http::request::Parts) -> Result<Permit, Denial> {
        let host = head.headers.get(header::HOST);
        self.decide(policy, &head.method, &head.uri, host, Some(&head.headers))
    }

    /// The one decision about a request. What the connection settles is not asked again, so that no request is
    /// treated differently from what [`Admitted::verdict`] has said.
    fn decide(
        &self,
        policy: &InboundPolicy,
        method: &Method,
        uri: &Uri,
        host: Option<&HeaderValue>,
        headers: Option<&HeaderMap>,
    ) -> Result<Permit, Denial> {
        let authorization = policy.authorization();
        let connection = self.connection();
        let path = authorization.looks_at_paths().then(|| NormalPath::of(uri.path()));
        let request = RequestView {
            method: method.as_str(),
            host: host.map(HeaderValue::as_bytes).unwrap_or_default(),
            path: path.as_ref().and_then(|path| path.as_ref().ok()),
            headers,
        };
        let facts = Facts { request: Some(request), ..connection };
        let mut weighed = authorization.weigh(connection);
        if weighed.verdict() == Verdict::DependsOnRequest {
            if let Some(Err(defect)) = path
                && let Some(rule) = authorization.asks_about_path(connection)
            {
                return Err(Denial::AmbiguousPath { defect, rule: rule.clone() });
            }
            weighed = authorization.weigh(facts);
        }
        match weighed.verdict() {
            Verdict::Permitted => Ok(self.permit(weighed, authorization.audits(facts, true))),
            // What is still unknown was not kept: not permitted.
            Verdict::Denied | Verdict::DependsOnRequest => Err(self.denial(weighed, authorization)),
        }
    }

    fn connection(&self) -> Facts<'_> {
        let caller =
            self.peer.as_ref().map(|peer| Identified { id: peer.id(), workload: self.workload.as_ref() });
        // The order of weighing sets the readings itself.
        Facts { caller, connection: &self.facts, request: None, readings: Readings::Any }
    }

    fn id(&self) -> Option<SpiffeId> {
        self.peer.as_ref().map(|peer| peer.id().clone())
    }

    fn permit(&self, weighed: Weighed<'_>, audits: Vec<RuleRef>) -> Permit {
        let rule = weighed.allow.rule.unwrap_or(&self.default).clone();
        Permit::new(self.peer.clone(), rule, audits)
    }

    fn denial(&self, weighed: Weighed<'_>, authorization: &Authorization) -> Denial {
        let (peer, port) = (self.id(), self.facts.port);
        match (weighed.deny.rule, weighed.deny.truth, weighed.allow.truth) {
            (Some(rule), Truth::Yes, _) | (Some(rule), Truth::Unknown, Truth::Yes) => {
                Denial::ByPolicy { peer, port, rule: rule.clone() }
            }
            _ => {
                let rule = authorization.nothing_allows().unwrap_or(&self.default).clone();
                Denial::NotAllowed { peer, port, rule }
            }
        }
    }
}

/// What a decision about a request rests on, kept for as long as the request lasts.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    /// `None` when no policy looked at header fields at the time.
    headers: Option<HeaderMap>,
}

impl RequestFacts {
    /// Keeps what `policy` may be asked about again; `head` is as for [`Admitted::request`].
    #[must_use]
    pub fn of(head: &http::request::Parts, policy: &InboundPolicy) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            host: head.headers.get(header::HOST).cloned(),
            headers: policy.authorization().looks_at_headers().then(|| head.headers.clone()),
        }
    }
}

impl Admitted {
    /// The same caller under a policy that replaced the one it was admitted under.
    ///
    /// # Errors
    /// [`Denial`]: the port no longer takes such a caller.
    pub fn again(&self, policy: &InboundPolicy, now: Duration, own: &TrustDomain) -> Result<Self, Denial> {
        let caller = self.peer.as_ref().map_or(Caller::Plaintext, Caller::Verified);
        admit(&policy.mode(self.facts.port, now), caller, self.facts.clone(), own)
    }

    /// As [`Admitted::request`], for a request under way. What was not kept counts as not permitted.
    ///
    /// # Errors
    /// [`Denial`], with the rule that refused.
    pub fn request_again(&self, policy: &InboundPolicy, facts: &RequestFacts) -> Result<Permit, Denial> {
        let headers = facts.headers.as_ref();
        self.decide(policy, &facts.method, &facts.uri, facts.host.as_ref(), headers)
    }
}

/// Lets a caller of one port speak, or not. A verified peer is held to the own trust domain even where plaintext
/// is let in: an identity from elsewhere must never reach the app as if it meant something here.
///
/// # Errors
/// [`Denial`], with the rule that refused.
pub fn admit(
    mode: &PortMode,
    caller: Caller<'_>,
    facts: ConnectionFacts,
    own: &TrustDomain,
) -> Result<Admitted, Denial> {
    let rule = match mode {
        PortMode::Strict { rule } | PortMode::Plaintext { rule, .. } => rule,
    };
    match (mode, caller) {
        (_, Caller::Verified(peer)) if peer.id().trust_domain() == own => {
            Ok(Admitted::new(Some(peer), facts, rule))
        }
        (_, Caller::Verified(peer)) => {
            Err(Denial::TrustDomain { peer: peer.id().clone(), own: own.clone(), rule: rule.clone() })
        }
        (PortMode::Plaintext { .. }, Caller::Plaintext) => Ok(Admitted::new(None, facts, rule)),
        (PortMode::Strict { .. }, Caller::Plaintext) => Err(Denial::Plaintext { rule: rule.clone() }),
    }
}
