//! Upgrades (RFC 9110, 7.8) and CONNECT: a request after which the connection carries bytes.
//!
//! A request that asks for one has no body (see [`super::headers::prepare_request`]), so whatever follows its head is
//! the other protocol's first word, and hyper keeps it for the tunnel.

use std::io;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};
use tokio_util::either::Either;

use super::detect::Prefixed;
use super::tcp::{BUFFER, Ended};
use crate::lifetime::Lifetime;
use crate::listen::{self, OverTcp};

/// Longest wait for both sides to have changed, from the answer that says so on.
const CHANGE: Duration = Duration::from_secs(10);

/// What a request asks its connection to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// A protocol, such as `websocket`.
    To(HeaderValue),
    /// A tunnel (CONNECT).
    Tunnel,
}

/// The server changed protocols without having been asked to, or to another than it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server changed to a protocol that it was not asked for")]
pub struct NotAsked;

impl Upgrade {
    /// Puts back what was taken out as belonging to one connection, for the next connection.
    pub fn ask(&self, headers: &mut HeaderMap) {
        let Self::To(protocol) = self else { return };
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }

    /// Whether `response`, as it came from the server, says that the connection is now what was asked for.
    ///
    /// # Errors
    /// [`NotAsked`]: what comes after it is neither HTTP nor what the client wants.
    pub fn is_granted<B>(asked: Option<&Self>, response: &Response<B>) -> Result<bool, NotAsked> {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match asked {
            Some(Self::Tunnel) if !switched => Ok(response.status().is_success()),
            Some(Self::To(protocol)) if switched => {
                let granted = response.headers().get(header::UPGRADE).map(HeaderValue::as_bytes);
                let same = granted.is_some_and(|one| one.eq_ignore_ascii_case(protocol.as_bytes()));
                if same { Ok(true) } else { Err(NotAsked) }
            }
            _ if switched => Err(NotAsked),
            _ => Ok(false),
        }
    }

    /// Makes the head that grants it fit for the client, after [`super::headers::prepare_response`].
    pub fn grant(&self, headers: &mut HeaderMap) {
        self.ask(headers);
        // Neither answer has a body (RFC 9110, 8.6 and 15.2.2; 9.3.6).
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRAILER);
    }
}

/// Copies bytes between two connections that have been upgraded, until both sides have ended or the proof has.
pub async fn splice(client: OnUpgrade, server: OnUpgrade, lifetime: &Lifetime) -> Ended {
    let changed = tokio::time::timeout(CHANGE, async { tokio::try_join!(client, server) });
    let (client, server) = tokio::select! {
        changed = changed => match changed {
            Ok(Ok(both)) => both,
            Ok(Err(error)) => return Ended::Broken(io::Error::other(error)),
            Err(_) => return Ended::Broken(io::ErrorKind::TimedOut.into()),
        },
        () = lifetime.over() => return Ended::Expired,
    };
    copy(client, server, lifetime).await
}

async fn copy(client: Upgraded, server: Upgraded, lifetime: &Lifetime) -> Ended {
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    let ended = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER) => match copied {
            Ok((sent, received)) => Ended::Closed { sent, received },
            // The other side goes by the same proof, and may have cut first.
            Err(_) if lifetime.is_over() => Ended::Expired,
            Err(error) => Ended::Broken(error),
        },
        () = lifetime.over() => Ended::Expired,
    };
    if !matches!(ended, Ended::Closed { .. }) {
        reset(client.into_inner());
        reset(server.into_inner());
    }
    ended
}

/// Ends a connection so that what was cut short does not look whole. A stream of HTTP/2 is reset by being dropped.
fn reset(upgraded: Upgraded) {
    // The four kinds of stream that a sidecar serves on and dials.
    let other = reset_if::<Prefixed<TcpStream>>(upgraded)
        .and_then(reset_if::<Prefixed<server::TlsStream<TcpStream>>>)
        .and_then(reset_if::<TcpStream>)
        .and_then(reset_if::<Either<client::TlsStream<TcpStream>, TcpStream>>);
    drop(other);
}

fn reset_if<IO>(upgraded: Upgraded) -> Option<Upgraded>
where
    IO: OverTcp + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match upgraded.downcast::<TokioIo<IO>>() {
        Ok(parts) => {
            listen::reset_on_close(parts.io.inner().tcp());
            None
        }
        Err(other) => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_granted() {
        let response = |status: u16, protocol: Option<&str>| {
            let mut response = Response::builder().status(status);
            if let Some(protocol) = protocol {
                response = response.header(header::UPGRADE, protocol);
            }
            response.body(()).unwrap()
        };
        let websocket = Upgrade::To(HeaderValue::from_static("websocket"));
        for (asked, status, protocol, granted) in [
            (Some(&websocket), 101, Some("WebSocket"), Ok(true)),
            (Some(&websocket), 101, Some("tcp"), Err(NotAsked)),
            (Some(&websocket), 101, None, Err(NotAsked)),
            (Some(&websocket), 200, Some("websocket"), Ok(false)),
            (Some(&Upgrade::Tunnel), 200, None, Ok(true)),
            (Some(&Upgrade::Tunnel), 407, None, Ok(false)),
            (Some(&Upgrade::Tunnel), 101, None, Err(NotAsked)),
            (None, 101, Some("websocket"), Err(NotAsked)),
            (None, 200, None, Ok(false)),
        ] {
            let response = response(status, protocol);
            assert_eq!(Upgrade::is_granted(asked, &response), granted, "{asked:?} {response:?}");
        }
    }
}
