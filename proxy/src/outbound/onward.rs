//! A request on its way to a service: shaped by the rule, copied for its mirrors, sent, and the answer shaped in turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};

use super::answers::{self, AnswerBody};
use super::attempts::{self, Bounds, Wire};
use super::mirror;
use super::record::Record;
use super::retry::Outcome;
use super::tunnel::{Asked, Tunnel};
use super::{App, Outbound};
use crate::pool::{Answer, Failed, LeasedBody, Stage};
use crate::protocol::body::RequestBody;
use crate::protocol::grpc;
use crate::protocol::upgrade::Upgrade;
use crate::refusal::Refusal;
use crate::route::{
    AppProtocol, Destination, Forward, HeaderRules, HttpAction, HttpDecision, HttpRoute, HttpVersion,
    OutboundPolicy, RetryPolicy,
};
use crate::upstream::Target;

/// Longest reading of an answer that nobody wants, for the sake of its connection.
const READ_AWAY: Duration = Duration::from_secs(1);

/// Where a request goes, and by which rule.
pub(super) struct Onward<'a> {
    policy: &'a OutboundPolicy,
    rule: Option<Rule<'a>>,
    target: Target,
    spoken: HttpVersion,
}

#[derive(Clone, Copy)]
struct Rule<'a> {
    route: &'a HttpRoute,
    forward: &'a Forward,
    target: &'a HeaderRules,
}

/// Sends over the pools.
struct Link<'a> {
    outbound: &'a Outbound,
    version: HttpVersion,
}

impl<'a> Onward<'a> {
    /// `None` when the decision is not to send it.
    pub(super) fn new(
        policy: &'a OutboundPolicy,
        decision: &'a HttpDecision,
        meant: &Arc<Destination>,
        original: Option<SocketAddr>,
        spoken: HttpVersion,
    ) -> Option<Self> {
        let (rule, destination) = match decision {
            HttpDecision::Direct(destination) => (None, destination),
            HttpDecision::Forward { route, target, destination } => {
                let HttpAction::Forward(forward) = &route.action else { return None };
                (Some(Rule { route, forward, target: &target.headers }), destination)
            }
            HttpDecision::Answer(_) => return None,
        };
        // The address that the app dialled is one of the service it meant, and of no other.
        let original = original.filter(|_| destination.host == meant.host && destination.port == meant.port);
        let target = Target { destination: Arc::clone(destination), original, avoid: None, fresh: false };
        Some(Self { policy, rule, target, spoken })
    }

    /// Sends it, as often as may be, and shapes the answer.
    pub(super) async fn send(
        self,
        outbound: &Arc<Outbound>,
        (mut head, mut body): (Parts, RequestBody),
        asked: Option<Asked>,
        app: &App,
        record: &mut Record,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let version = self.version(asked.as_ref())?;
        self.shape(&mut head)?;
        match &asked {
            Some(asked) => {
                asked.upgrade.ask(&mut head.headers);
                // What follows the head is the other protocol's.
                body = RequestBody::Empty;
            }
            None => {
                let mirrors = self.rule.map_or(&[][..], |rule| &rule.forward.mirrors);
                body = mirror::send(outbound, (self.policy, mirrors), (&head, body), self.spoken);
            }
        }
        let destination = &self.target.destination;
        record.destination = self.target.to_string();
        let active = outbound.bounds.budgets.enter(destination);
        let by_default = RetryPolicy::default();
        let bounds = Bounds {
            rule: self.rule.map_or(&destination.rule, |rule| &rule.route.rule),
            timeout: self.rule.and_then(|rule| rule.forward.timeout),
            retries: self.rule.map_or(&by_default, |rule| &rule.forward.retries),
            max_retries: destination.limits.max_retries,
        };
        let (link, counted) = (Link { outbound, version }, (&active, &*outbound.metrics));
        let sent = attempts::send(&link, self.target.clone(), (head, body), &bounds, counted, record);
        let (mut answer, deadline) = sent.await?;
        record.peer = answer.peer.take();
        self.hand_on(outbound, answer, asked, app, record)
            .map(|response| response.map(|body| AnswerBody::streamed(body, deadline, active)))
    }

    /// The version that the destination wants; an upgrade is one of HTTP/1.1.
    fn version(&self, asked: Option<&Asked>) -> Result<HttpVersion, Refusal> {
        let destination = &self.target.destination;
        if asked.is_none() {
            return Ok(destination.wire_version(self.spoken));
        }
        let only_http2 = match destination.protocol {
            AppProtocol::Http2 => !destination.use_client_protocol,
            AppProtocol::Http | AppProtocol::HttpProxy | AppProtocol::Tcp | AppProtocol::Undeclared => false,
        };
        if only_http2 {
            return Err(Refusal::NoUpgrade { destination: destination.to_string() });
        }
        Ok(HttpVersion::Http1)
    }

    /// The request as the rule wants it: rewritten, then with the route's header fields, then with the target's.
    fn shape(&self, head: &mut Parts) -> Result<(), Refusal> {
        // What the app's connection has attached is not for the next one.
        head.extensions.clear();
        let Some(rule) = self.rule else { return Ok(()) };
        if let Some(rewrite) = &rule.forward.rewrite {
            let matched = rule.route.matched(head).flatten().and_then(|matched| matched.uri.clone());
            rewrite
                .apply(head, matched.as_ref())
                .map_err(|source| Refusal::NotRewritable { source, rule: rule.route.rule.clone() })?;
        }
        for rules in [&rule.route.headers, rule.target] {
            rules.request.apply(&mut head.headers);
        }
        Ok(())
    }
}

impl Onward<'_> {
    /// The answer as the app gets it. When it grants an upgrade, the bytes begin to flow.
    fn hand_on(
        &self,
        outbound: &Arc<Outbound>,
        mut answer: Answer,
        asked: Option<Asked>,
        app: &App,
        record: &mut Record,
    ) -> Result<Response<LeasedBody>, Refusal> {
        let upgrade = asked.as_ref().map(|asked| &asked.upgrade);
        let granted = Upgrade::is_granted(upgrade, &answer.response)
            .map_err(|source| Refusal::BadUpgrade { destination: self.target.to_string(), source })?;
        let opened = asked
            .filter(|_| granted)
            .map(|asked| (asked.upgrade, Tunnel::new(asked.client, &mut answer, &self.target)));
        let rules = self.rule.map(|rule| [&rule.route.headers, rule.target]);
        answers::shape(&mut answer.response, rules.iter().flatten().copied());
        if let Some((upgrade, tunnel)) = opened {
            record.answered = Some("upgraded");
            upgrade.grant(answer.response.headers_mut());
            tunnel.open(outbound, app);
        }
        Ok(answer.response)
    }
}

impl Wire for Link<'_> {
    type Answer = Answer;

    async fn send(&self, target: &Target, request: Request<RequestBody>) -> Result<Answer, Failed> {
        let identity = self.outbound.valid_identity().map_err(|refusal| Failed {
            refusal,
            stage: Stage::Refused,
            unsent: None,
            endpoint: None,
        })?;
        self.outbound.pools.send(target, &identity, request, self.version).await
    }

    fn look(&self, answer: &Answer) -> (Outcome, Option<SocketAddr>) {
        let grpc = grpc::status_in_head(&answer.response);
        (Outcome::Answered { status: answer.response.status(), grpc }, answer.endpoint)
    }

    fn discard(&self, answer: Answer) {
        self.outbound.drain.spawn(async move {
            // Too long, and the connection is closed instead.
            let _ = tokio::time::timeout(READ_AWAY, mirror::read_away(answer.response)).await;
        });
    }
}
