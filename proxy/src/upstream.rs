//! Dialling: the own app in plaintext inside its own host, another sidecar over mutual TLS.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use portcullis_identity::Clock;
use rand::seq::SliceRandom;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::authz::Permit;
use crate::lifetime::Lifetime;
use crate::listen;
use crate::refusal::Refusal;
use crate::route::{Destination, Resolution, Transport};
use crate::svid::Identity;
use crate::tls::{self, Alpn, VerifiedPeer};

/// The app is on this host: it answers at once or not at all.
const APP_CONNECT: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where the own app listens, and from where it is dialled.
#[derive(Debug, Clone, Copy)]
pub struct AppAddr {
    addr: SocketAddr,
    marked_source: bool,
}

impl AppAddr {
    /// The app behind interception: dialled from 127.0.0.6 or ::6, so that the redirect does not loop and the app
    /// can tell the sidecar from a local caller.
    #[must_use]
    pub fn intercepted(addr: SocketAddr) -> Self {
        Self { addr, marked_source: true }
    }

    /// The app named by an explicit listener.
    #[must_use]
    pub fn explicit(addr: SocketAddr) -> Self {
        Self { addr, marked_source: false }
    }

    /// Where it listens.
    #[must_use]
    pub fn get(&self) -> SocketAddr {
        self.addr
    }
}

/// Connects to the own app. Takes the permit, so that nothing unchecked gets here.
///
/// # Errors
/// [`Refusal::NoApp`].
pub async fn connect_app(_permit: &Permit, app: AppAddr) -> Result<TcpStream, Refusal> {
    let connecting = async {
        let socket =
            if app.marked_source { socket_from_marked_source(app.addr)? } else { socket_for(app.addr)? };
        socket.connect(app.addr).await
    };
    let connected = tokio::time::timeout(APP_CONNECT, connecting).await.unwrap_or_else(|_| timed_out());
    let stream = connected.map_err(|source| Refusal::NoApp { addr: app.addr, source })?;
    listen::tune(&stream);
    Ok(stream)
}

fn socket_for(addr: SocketAddr) -> io::Result<TcpSocket> {
    if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

fn socket_from_marked_source(addr: SocketAddr) -> io::Result<TcpSocket> {
    let source: IpAddr = match addr {
        SocketAddr::V4(_) => Ipv4Addr::new(127, 0, 0, 6).into(),
        SocketAddr::V6(_) => Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
    };
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // The port is chosen at connect, where only the whole four-tuple must be free.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn timed_out<T>() -> io::Result<T> {
    Err(io::ErrorKind::TimedOut.into())
}

/// One destination and the addresses that stand for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The service.
    pub destination: Arc<Destination>,
    /// Where the app meant to connect, if the kernel redirected it: what is dialled under `resolution: NONE`.
    pub original: Option<SocketAddr>,
}

impl Target {
    /// The addresses to try, in no order.
    fn addrs(&self) -> Vec<SocketAddr> {
        match (self.destination.resolution, self.original) {
            (Resolution::Original, Some(original)) => vec![original],
            _ => self.destination.endpoints.iter().map(|endpoint| endpoint.addr).collect(),
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
    /// Who answered; `None` under a plaintext exception.
    pub peer: Option<VerifiedPeer>,
    /// Ends with the own or the peer's certificate, or the exception's plan.
    pub lifetime: Lifetime,
}

/// Opens connections to other services.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// The time that plaintext exceptions expire by.
    pub policy_clock: Clock,
}

impl Dialler {
    /// Connects to one of the target's addresses, in random order, and proves it to be the service asked for.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`] when none takes the connection, [`Refusal::UpstreamIdentity`] when one did and did
    /// not prove to be the service. Another is tried after silence or a broken connection, but not after a wrong
    /// proof, because that is an attack or a mistake to be seen.
    pub async fn connect(
        &self,
        target: &Target,
        identity: &Identity,
        alpn: &[Alpn],
    ) -> Result<Upstream, Refusal> {
        let transport = target.destination.transport(self.policy_clock.now())?;
        let mut addrs = target.addrs();
        addrs.shuffle(&mut rand::rng());
        let mut last = Refusal::NoEndpoints { destination: target.to_string() };
        for addr in addrs {
            last = match connect_tcp(addr, target.destination.limits.connect_timeout).await {
                Ok(stream) => match self.secure((stream, addr), target, transport, identity, alpn).await {
                    Err(refusal) if refusal.is_of_the_endpoint() => refusal,
                    secured => return secured,
                },
                Err(source) => Refusal::Unreachable { destination: target.to_string(), addr, source },
            }
        }
        Err(last)
    }

    async fn secure(
        &self,
        (stream, addr): (TcpStream, SocketAddr),
        target: &Target,
        transport: &Transport,
        identity: &Identity,
        alpn: &[Alpn],
    ) -> Result<Upstream, Refusal> {
        let (sni, expected) = match transport {
            Transport::MutualTls { sni, expected } => (sni, expected),
            Transport::Plaintext { exception } => {
                let lifetime = Lifetime::until(&self.policy_clock, exception.ends());
                return Ok(Upstream { stream: Either::Right(stream), peer: None, lifetime });
            }
        };
        let originated = tls::originate(stream, identity, sni, expected, alpn, HANDSHAKE).await;
        let originated = originated.map_err(|source| Refusal::UpstreamIdentity {
            destination: target.to_string(),
            addr,
            source: Box::new(source),
        })?;
        let own_end = Duration::from_secs(identity.svid().facts().not_after);
        let lifetime = Lifetime::until(identity.clock(), [own_end, originated.peer.not_after()]);
        Ok(Upstream { stream: Either::Left(originated.stream), peer: Some(originated.peer), lifetime })
    }
}

async fn connect_tcp(addr: SocketAddr, deadline: Duration) -> io::Result<TcpStream> {
    let stream =
        tokio::time::timeout(deadline, TcpStream::connect(addr)).await.unwrap_or_else(|_| timed_out())?;
    listen::tune(&stream);
    Ok(stream)
}
