//! Dialling the own app, in plaintext inside its own host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::authz::Permit;
use crate::listen;
use crate::refusal::Refusal;

/// The app is on this host: it answers at once or not at all.
const APP_CONNECT: Duration = Duration::from_secs(5);

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

pub(super) fn timed_out<T>() -> io::Result<T> {
    Err(io::ErrorKind::TimedOut.into())
}
