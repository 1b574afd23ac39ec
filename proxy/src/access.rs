//! The access log: one JSON line per request and per stream of bytes, each field bounded.

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::addr::ClientAddr;
use crate::metrics::{Direction, Metrics, RequestLabels, code_class};
use crate::protocol::tcp::Ended;
use crate::tls::VerifiedPeer;

const LONGEST_METHOD: usize = 16;
const LONGEST_PATH: usize = 256;

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
}

impl Ends<'_> {
    fn peer_id(&self) -> &str {
        self.peer.map_or("-", |peer| peer.id().as_str())
    }

    fn peer_serial(&self) -> String {
        self.peer.map_or_else(|| "-".to_owned(), |peer| peer.serial().to_string())
    }
}

/// Logs and counts one answered request.
pub fn request(
    metrics: &Metrics,
    ends: Ends<'_>,
    method: &Method,
    path: &str,
    status: StatusCode,
    started: Instant,
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
    tracing::info!(
        direction = ends.direction.as_str(),
        client = %ends.client,
        peer = ends.peer_id(),
        peer_serial = ends.peer_serial(),
        destination = ends.destination,
        ended = how,
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
