//! What a VirtualService says of HTTP requests: conditions, and what is done with a request that meets them.

mod fault;
mod headers;
mod matching;
mod redirect;
mod rewrite;
mod targets;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;

use super::retry::RetryPolicy;
use super::rules::DestinationId;
use crate::authz::RuleRef;

pub use fault::{Fault, FaultStatus, Share};
pub use headers::{HeaderChanges, HeaderRules, Reserved};
pub(crate) use matching::SCHEME;
pub use matching::{BadExpression, HttpMatch, TextMatch, UriMatch, ValueMatch};
pub use redirect::{Redirect, RedirectPort};
pub(crate) use rewrite::is_path;
pub use rewrite::{BadRewrite, NotRewritable, Replacement, Rewrite, UriRewrite};
pub use targets::Targets;

/// The HTTP rules for one destination, narrowed down to what this workload may meet.
#[derive(Debug, Clone)]
pub enum HttpRules {
    /// No VirtualService speaks of it: it serves itself.
    Direct,
    /// The first route whose conditions a request meets serves it. Without any, nothing does: there is no silent
    /// default.
    Ordered {
        /// The resource that the routes come from.
        rule: RuleRef,
        /// The routes whose workload conditions (labels, namespace, port) are met, in order.
        routes: Vec<Arc<HttpRoute>>,
    },
}

/// One HTTP route.
#[derive(Debug)]
pub struct HttpRoute {
    /// The rule's name, with its position: `VirtualService production/api (http[0])`.
    pub rule: RuleRef,
    /// Alternatives of which one must be met; none: always.
    pub matches: Vec<HttpMatch>,
    /// What goes wrong on purpose, before anything else is done.
    pub fault: Option<Fault>,
    /// Changes to every request and response of the route.
    pub headers: HeaderRules,
    /// What is done.
    pub action: HttpAction,
}

impl HttpRoute {
    /// Whether a request meets one of the alternatives.
    #[must_use]
    pub fn is_met(&self, head: &Parts) -> bool {
        self.matched(head).is_some()
    }

    /// The first alternative that a request meets, which a prefix rewrite has to know: `Some(None)` when the
    /// route has no conditions, `None` when the request does not meet it.
    #[must_use]
    pub fn matched(&self, head: &Parts) -> Option<Option<&HttpMatch>> {
        if self.matches.is_empty() {
            return Some(None);
        }
        self.matches.iter().find(|condition| condition.is_met(head)).map(Some)
    }
}

/// What is done with a request.
#[derive(Debug)]
pub enum HttpAction {
    /// It is sent on.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Respond(DirectResponse),
}

/// Where requests are sent, and how.
#[derive(Debug)]
pub struct Forward {
    /// By weight.
    pub targets: Targets<HttpTarget>,
    /// Longest time from the request's end until the response's end: 504 after that.
    pub timeout: Option<Duration>,
    /// When a request is sent again.
    pub retries: RetryPolicy,
    /// What the path or authority becomes.
    pub rewrite: Option<Rewrite>,
    /// Who gets a copy.
    pub mirrors: Vec<Mirror>,
}

/// One target of a route.
#[derive(Debug, Clone)]
pub struct HttpTarget {
    /// Where.
    pub id: DestinationId,
    /// Changes to the requests and responses that take this target, after those of the route.
    pub headers: HeaderRules,
}

/// An answer that no app gives.
#[derive(Debug, Clone)]
pub struct DirectResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: bytes::Bytes,
}

/// Who gets a copy of a request. The answer is thrown away.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Where.
    pub id: DestinationId,
    /// Of how many requests.
    pub share: Share,
}
