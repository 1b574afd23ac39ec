//! Opaque TCP: bytes both ways until both sides have closed, each half-close carried over.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

use crate::lifetime::Lifetime;
use crate::listen::{self, OverTcp};

/// One TLS record's worth per direction.
pub(super) const BUFFER: usize = 16 * 1024;

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

#[cfg(test)]
mod tests {
    use portcullis_identity::ManualClock;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const START: Duration = Duration::from_secs(1_000);
    const LIMIT: Duration = Duration::from_secs(10);

    /// Both ends of a connection on loopback.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// What the client reads of an answer whose sender ends it by `end`.
    async fn answer(end: impl FnOnce(TcpStream), life: &Lifetime) -> io::Result<Vec<u8>> {
        let (mut client, mut client_leg) = connection().await;
        let (mut server_leg, mut server) = connection().await;
        let life = life.clone();
        let copying = tokio::spawn(async move { copy(&mut client_leg, &mut server_leg, &life).await });
        server.write_all(b"half").await.unwrap();
        let mut read = vec![0; 4];
        client.read_exact(&mut read).await?;
        client.shutdown().await?;
        end(server);
        let rest = tokio::time::timeout(LIMIT, client.read_to_end(&mut read)).await.expect("an end in time");
        drop(tokio::time::timeout(LIMIT, copying).await.expect("the copy to end").unwrap());
        rest.map(|_| read)
    }

    #[tokio::test]
    async fn what_was_cut_short_ends_in_a_reset_and_what_was_whole_does_not() {
        let hand = ManualClock::at(START);
        let unbounded = Lifetime::until(&hand.clock(), []);
        assert_eq!(answer(drop, &unbounded).await.unwrap(), b"half", "control: an end in order");
        let broken = answer(|server| listen::reset_on_close(&server), &unbounded).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);

        let over = Lifetime::until(&hand.clock(), [START]);
        let expired = answer(std::mem::forget, &over).await.unwrap_err();
        assert_eq!(expired.kind(), io::ErrorKind::ConnectionReset);
    }
}
