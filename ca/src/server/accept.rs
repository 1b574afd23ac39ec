//! From a listener to TLS connections: a permit for each, a backoff when accepting fails, a timeout for the
//! handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connection::Connection;
use crate::authority::Authority;

/// Each sidecar keeps one connection for its watch; at this number the next ones wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;
/// Finished handshakes that the server has not yet taken.
const HANDED_OVER: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// Accepts until `shutdown`, or until the handle is dropped.
pub(super) fn start(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    authority: Arc<Authority>,
    shutdown: CancellationToken,
) -> (mpsc::Receiver<io::Result<Connection>>, AbortOnDropHandle<()>) {
    let (handed_over, receiver) = mpsc::channel(HANDED_OVER);
    let accepting = accept(listener, TlsAcceptor::from(config), authority, handed_over);
    let task = tokio::spawn(async move {
        shutdown.run_until_cancelled(accepting).await;
    });
    (receiver, AbortOnDropHandle::new(task))
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    authority: Arc<Authority>,
    handed_over: mpsc::Sender<io::Result<Connection>>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut handshakes = JoinSet::new();
    let mut backoff = FIRST_BACKOFF;
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                backoff = FIRST_BACKOFF;
                let (acceptor, handed_over) = (acceptor.clone(), handed_over.clone());
                handshakes.spawn(handshake(stream, peer, acceptor, authority.clone(), permit, handed_over));
            }
            // Out of descriptors or memory, or a peer that left before we looked.
            Err(error) => {
                if backoff == LONGEST_BACKOFF {
                    tracing::error!(%error, "cannot accept connections");
                }
                sleep(backoff).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
        }
    }
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    authority: Arc<Authority>,
    permit: OwnedSemaphorePermit,
    handed_over: mpsc::Sender<io::Result<Connection>>,
) {
    // Answers are small and come one at a time: waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    let reason = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => match Connection::new(stream, peer, authority.clock(), permit) {
            Ok(connection) => {
                // Fails only when the server is gone, and the connection with it.
                let _ = handed_over.send(Ok(connection)).await;
                return;
            }
            Err(defect) => defect.to_string(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no handshake within {} s", HANDSHAKE.as_secs()),
    };
    tracing::debug!(%peer, reason, "TLS refused");
}
