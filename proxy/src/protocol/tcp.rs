//! Opaque TCP: bytes both ways until both sides have closed, each half-close carried over.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

use crate::lifetime::Lifetime;
use crate::listen::{self, OverTcp};

/// One TLS record's worth per direction.
const BUFFER: usize = 16 * 1024;

/// How a stream of bytes ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides closed; bytes from the client and from the server.
    Closed {
        /// Bytes that the client sent.
        sent: u64,
        /// Bytes that the server sent.
        received: u64,
    },
    /// One side broke. A TLS stream without close_notify counts as broken: it may have been cut short.
    Broken(io::Error),
    /// The proof behind the connection ended.
    Expired,
}

/// Copies until the end of both directions, an error, or the end of the connection's life. Both sockets end in a
/// reset unless both directions have ended in order: what was cut short must not look whole.
pub async fn copy<C, S>(client: &mut C, server: &mut S, lifetime: &Lifetime) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin + OverTcp,
    S: AsyncRead + AsyncWrite + Unpin + OverTcp,
{
    listen::reset_on_close(client.tcp());
    listen::reset_on_close(server.tcp());
    let ended = tokio::select! {
        copied = copy_bidirectional_with_sizes(client, server, BUFFER, BUFFER) => match copied {
            Ok((sent, received)) => Ended::Closed { sent, received },
            // The other side goes by the same proof, and may have cut first.
            Err(_) if lifetime.is_over() => Ended::Expired,
            Err(error) => Ended::Broken(error),
        },
        () = lifetime.over() => Ended::Expired,
    };
    if matches!(ended, Ended::Closed { .. }) {
        listen::close_in_order(client.tcp());
        listen::close_in_order(server.tcp());
    }
    ended
}
