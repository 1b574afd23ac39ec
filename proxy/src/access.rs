//! The access log: one JSON line per request and per stream of bytes, each field bounded.

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::addr::ClientAddr;
use crate::authz::RuleRef;
use crate::metrics::{Direction, Metrics, RequestLabels, code_class};
use crate::protocol::tcp::Ended;
use crate::tls::VerifiedPeer;

const LONGEST_METHOD: usize = 16;
const LONGEST_PATH: usize = 256;
const LONGEST_RULE: usize = 256;
const LONGEST_AUDIT: usize = 1024;

/// Who is at the two ends of what is logged.
#[derive(Clone, Copy)]
pub struct Ends<'a> {
    /// Which way.
    pub direction: Direction,
    /// Who connected.
    pub client: ClientAddr,
    /// The other side's proven identity, if it has one.
    pub peer: Option<&'a VerifiedPeer>,
    /// The service, or the app's address.
    pub destination: &'a str,
    /// The AUDIT rules that were met.
    pub audits: &'a [RuleRef],
}

impl Ends<'_> {
    fn peer_id(&self) -> &str {
        self.peer.map_or("-", |peer| peer.id().as_str())
    }

    fn audit(&self) -> String {
        if self.audits.is_empty() {
            return "-".to_owned();
        }
        let rules: Vec<String> = self.audits.iter().map(ToString::to_string).collect();
        bounded(&rules.join(", "), LONGEST_AUDIT).to_owned()
    }

    fn peer_serial(&self) -> String {
        self.peer.map_or_else(|| "-".to_owned(), |peer| peer.serial().to_string())
    }
}

/// What the rules made of one request.
#[derive(Clone, Copy)]
pub struct Routed<'a> {
    /// The rule that served it; `-` when none speaks of it.
    pub rule: &'a str,
    /// How often it was sent.
    pub attempts: u32,
    /// What was out of the ordinary, each one of a closed set; `-` when nothing was.
    pub why: &'a str,
}

impl Routed<'_> {
    /// As it came: no rule speaks of it.
    pub const DIRECT: Self = Routed { rule: "-", attempts: 1, why: "-" };
}

/// Logs and counts one answered request, with what the rules made of it.
pub fn routed(
    metrics: &Metrics,
    ends: Ends<'_>,
    (method, path): (&Method, &str),
    (status, started): (StatusCode, Instant),
    routed: Routed<'_>,
) {
    let labels = RequestLabels { direction: ends.direction, code: code_class(status) };
    metrics.requests.get_or_create(&labels).inc();
    tracing::info!(
        direction = ends.direction.as_str(),
        client = %ends.client,
        peer = ends.peer_id(),
        peer_serial = ends.peer_serial(),
        destination = ends.destination,
        method = bounded(method.as_str(), LONGEST_METHOD),
        path = bounded(path, LONGEST_PATH),
        status = status.as_u16(),
        route = bounded(routed.rule, LONGEST_RULE),
        attempts = routed.attempts,
        why = routed.why,
        audit = ends.audit(),
        duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}

/// Logs one ended stream of bytes.
pub fn stream(ends: Ends<'_>, ended: &Ended, started: Instant) {
    // How far a stream came that did not end in order, nobody has counted.
    let (how, sent, received) = match ended {
        Ended::Closed { sent, received } => ("closed".to_owned(), Some(*sent), Some(*received)),
        Ended::Broken(error) => (format!("broken: {error}"), None, None),
        Ended::Expired => ("cut: the proof behind it ended".to_owned(), None, None),
    };
    log_stream(ends, &how, sent.zip(received), started);
}

/// Logs a stream of bytes that was cut by a bound of its own.
pub fn cut_stream(ends: Ends<'_>, bound: &'static str, started: Instant) {
    log_stream(ends, &format!("cut: {bound}"), None, started);
}

fn log_stream(ends: Ends<'_>, how: &str, counted: Option<(u64, u64)>, started: Instant) {
    let (sent, received) = counted.unzip();
    tracing::info!(
        direction = ends.direction.as_str(),
        client = %ends.client,
        peer = ends.peer_id(),
        peer_serial = ends.peer_serial(),
        destination = ends.destination,
        ended = how,
        audit = ends.audit(),
        sent,
        received,
        duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "stream"
    );
}

/// At most `limit` bytes, cut between characters.
fn bounded(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(bounded("abc", 5), "abc");
        assert_eq!(bounded("abc", 2), "ab");
        assert_eq!(bounded("aä", 2), "a");
    }
}
