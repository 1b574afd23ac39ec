//! Connecting to one server of another service, and having it prove that it is one.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::Clock;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::app::timed_out;
use super::balance::Candidate;
use super::resolve::Names;
use crate::lifetime::Lifetime;
use crate::listen;
use crate::refusal::Refusal;
use crate::route::{Destination, EndpointAddr, PoolLimits, Resolution, TcpKeepalive, Transport};
use crate::svid::Identity;
use crate::tls::{self, Alpn, EgressTls, ExpectedPeer, NoMutualTls, VerifiedPeer};

/// Longest TLS handshake.
pub const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// One destination and the addresses that stand for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The service.
    pub destination: Arc<Destination>,
    /// Where the app meant to connect, if the kernel redirected it: what is dialled under `resolution: NONE`.
    pub original: Option<SocketAddr>,
    /// The endpoint that failed this request before: another is preferred.
    pub avoid: Option<SocketAddr>,
    /// Whether an HTTP/1.1 request goes over a connection made for it, because one that was idle has failed it.
    pub fresh: bool,
}

impl Target {
    /// The addresses to choose from, with their weights.
    ///
    /// # Errors
    /// [`Refusal::NoEndpoints`], [`Refusal::NotResolved`].
    pub fn candidates(&self, names: &Names) -> Result<Vec<Candidate>, Refusal> {
        if let (Resolution::Original, Some(addr)) = (self.destination.resolution, self.original) {
            return Ok(vec![Candidate { addr, weight: 1 }]);
        }
        let (mut found, mut unresolved) = (Vec::new(), None);
        for endpoint in &self.destination.endpoints {
            let weight = endpoint.weight;
            match &endpoint.addr {
                EndpointAddr::Socket(addr) => found.push(Candidate { addr: *addr, weight }),
                EndpointAddr::Name(name, port) => match names.addresses(name) {
                    Some(ips) => found
                        .extend(ips.iter().map(|ip| Candidate { addr: SocketAddr::new(*ip, *port), weight })),
                    None => unresolved = Some(name),
                },
            }
        }
        let destination = || self.to_string();
        match unresolved {
            _ if !found.is_empty() => Ok(found),
            Some(name) => Err(Refusal::NotResolved { destination: destination(), name: name.to_string() }),
            None => Err(Refusal::NoEndpoints { destination: destination() }),
        }
    }
}

impl fmt::Display for Target {
    /// The service; under `resolution: NONE` with the address, because each is a server of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.destination.resolution, self.original) {
            (Resolution::Original, Some(original)) => write!(f, "{} at {original}", self.destination),
            _ => self.destination.fmt(f),
        }
    }
}

/// A connection to another service, proven or excepted.
pub struct Upstream {
    /// The bytes.
    pub stream: Either<TlsStream<TcpStream>, TcpStream>,
    /// Who answered; `None` under a plaintext exception, and outside of the mesh.
    pub peer: Option<VerifiedPeer>,
    /// Ends with the own or the peer's certificate, or the exception's plan.
    pub lifetime: Lifetime,
    /// The server.
    pub addr: SocketAddr,
}

/// Opens connections to other services.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// The time that plaintext exceptions expire by.
    pub policy_clock: Clock,
}

impl Dialler {
    /// Connects to one server, and proves it to be of the service asked for. With `alpn`, exactly that protocol is
    /// offered, and the other side must confirm it.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`] when it does not take the connection, [`Refusal::UpstreamIdentity`] when it did and
    /// did not prove to be the service, [`Refusal::NoTransport`].
    pub async fn connect(
        &self,
        destination: &Destination,
        addr: SocketAddr,
        identity: &Identity,
        alpn: Option<Alpn>,
    ) -> Result<Upstream, Refusal> {
        let transport = destination.transport(self.policy_clock.now())?;
        let stream = connect_tcp(addr, &destination.limits).await.map_err(|source| Refusal::Unreachable {
            destination: destination.to_string(),
            addr,
            source,
        })?;
        let secured = match transport {
            Transport::Plaintext { exception } => {
                let lifetime = lifetime(&self.policy_clock, destination, alpn, exception.ends());
                return Ok(Upstream { stream: Either::Right(stream), peer: None, lifetime, addr });
            }
            Transport::MutualTls { sni, expected } => {
                // Handshakes are boxed: they are large, and rare beside requests.
                Box::pin(mutual(stream, (destination, addr), (identity, sni, expected), alpn)).await
            }
            Transport::Tls(egress) => Box::pin(self.egress(stream, (destination, addr), egress, alpn)).await,
        };
        secured.map_err(|source| Refusal::UpstreamIdentity {
            destination: destination.to_string(),
            addr,
            source: Box::new(source),
        })
    }

    async fn egress(
        &self,
        stream: TcpStream,
        (destination, addr): (&Destination, SocketAddr),
        egress: &EgressTls,
        alpn: Option<Alpn>,
    ) -> Result<Upstream, NoMutualTls> {
        let done = tls::originate_egress(stream, egress, alpn.as_slice(), LONGEST_HANDSHAKE).await?;
        // Plain web servers need not know ALPN, and then speak HTTP/1.1 (RFC 7301, 3.2).
        let silent = alpn == Some(Alpn::Http1) && done.alpn == Alpn::None;
        if alpn.is_some_and(|alpn| alpn != done.alpn) && !silent {
            return Err(NoMutualTls::NoCommonAlpn);
        }
        let lifetime = lifetime(&self.policy_clock, destination, alpn, [done.not_after]);
        Ok(Upstream { stream: Either::Left(done.stream), peer: None, lifetime, addr })
    }
}

async fn mutual(
    stream: TcpStream,
    (destination, addr): (&Destination, SocketAddr),
    (identity, sni, expected): (&Identity, &ServerName<'static>, &ExpectedPeer),
    alpn: Option<Alpn>,
) -> Result<Upstream, NoMutualTls> {
    let offered = alpn.as_slice();
    let done = tls::originate(stream, identity, sni, expected, offered, LONGEST_HANDSHAKE).await?;
    if alpn.is_some_and(|alpn| alpn != done.alpn) {
        return Err(NoMutualTls::NoCommonAlpn);
    }
    let own_end = Duration::from_secs(identity.svid().facts().not_after);
    let ends = [own_end, done.peer.not_after()];
    let lifetime = lifetime(identity.clock(), destination, alpn, ends);
    Ok(Upstream { stream: Either::Left(done.stream), peer: Some(done.peer), lifetime, addr })
}

/// Ends with the proof. A TCP stream also ends at `maxConnectionDuration`; an HTTP connection is taken out of use
/// then by its pool, which does not cut a request.
fn lifetime(
    clock: &Clock,
    destination: &Destination,
    alpn: Option<Alpn>,
    ends: impl IntoIterator<Item = Duration>,
) -> Lifetime {
    let longest = destination.limits.max_connection_duration.filter(|_| alpn.is_none());
    let ends = ends.into_iter().chain(longest.map(|longest| clock.now().saturating_add(longest)));
    Lifetime::until(clock, ends)
}

async fn connect_tcp(addr: SocketAddr, limits: &PoolLimits) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect(addr);
    let stream =
        tokio::time::timeout(limits.connect_timeout, connecting).await.unwrap_or_else(|_| timed_out())?;
    match &limits.tcp_keepalive {
        None => listen::tune(&stream),
        Some(keepalive) => {
            // Both fail only on a socket that is already dead; the next read says so.
            let _ = stream.set_nodelay(true);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&system_keepalive(keepalive));
        }
    }
    Ok(stream)
}

fn system_keepalive(keepalive: &TcpKeepalive) -> socket2::TcpKeepalive {
    let mut system = socket2::TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        system = system.with_time(time);
    }
    if let Some(interval) = keepalive.interval {
        system = system.with_interval(interval);
    }
    match keepalive.probes {
        Some(probes) => system.with_retries(probes),
        None => system,
    }
}

#[cfg(test)]
mod tests;
