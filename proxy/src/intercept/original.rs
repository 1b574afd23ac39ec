//! Where an intercepted connection was going before the rules redirected it.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::addr::OrigDstAddr;

/// Why a connection has no destination but the proxy itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoOriginalDst {
    /// Nothing has redirected it.
    #[error("the connection was not redirected here: no original destination ({0})")]
    NotRedirected(#[source] io::Error),
    /// It was made to the proxy's own port.
    #[error("the connection was made to the proxy's own address {0}")]
    Own(SocketAddr),
}

impl NoOriginalDst {
    /// The metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotRedirected(_) => "not_redirected",
            Self::Own(_) => "own_address",
        }
    }
}

/// Asks the kernel where `stream` was going. `own_ports` are those the proxy listens on for intercepted
/// connections; a destination of that port on an address of this host would be a loop.
///
/// # Errors
/// [`NoOriginalDst`]: the connection must be refused.
pub fn original_dst(stream: &TcpStream, own_ports: &[u16]) -> Result<OrigDstAddr, NoOriginalDst> {
    let local = stream.local_addr().map_err(NoOriginalDst::NotRedirected)?;
    let socket = SockRef::from(stream);
    // An IPv6 socket that carries IPv4 has its original destination on the IPv4 side.
    let asked =
        if local.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = asked.and_then(|address| address.as_socket().ok_or(io::ErrorKind::InvalidData.into()));
    let original = original.map_err(NoOriginalDst::NotRedirected)?;
    let original = SocketAddr::new(original.ip().to_canonical(), original.port());
    if own_ports.contains(&original.port()) && is_own(original) {
        return Err(NoOriginalDst::Own(original));
    }
    Ok(OrigDstAddr::new(original))
}

/// Only an address of this host can be bound.
fn is_own(address: SocketAddr) -> bool {
    UdpSocket::bind((address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_direct_connection_has_no_original_destination() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let port = listener.local_addr().unwrap();
            let _client = TcpStream::connect(port).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            // With connection tracking there is an answer, the proxy's own address; without there is none.
            let refused = original_dst(&stream, &[port.port()]).unwrap_err();
            assert!(["not_redirected", "own_address"].contains(&refused.label()), "{refused}");
        }
    }
}
