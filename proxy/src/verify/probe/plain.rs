//! Bytes without TLS, and what comes back.

use std::io::{self, ErrorKind};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::outcome::shown;
use super::{Outcome, Probe};

/// Bytes read of one answer: enough to tell what it is.
pub(super) const MAX_READ: usize = 1024;
/// Up to the version in a ServerHello: two headers of 5 and 4 bytes, then 2 (RFC 5246, 6.2.1 and 7.4). An alert
/// record is shorter.
const ENOUGH: usize = 11;

/// How a server stopped talking.
pub(super) enum End {
    /// It has said enough to tell what it is.
    Enough,
    Closed,
    Failed(io::Error),
    /// The deadline passed with the connection open.
    Open,
}

/// Says `bytes` and listens. Nothing is read after what tells the answer apart.
pub(super) async fn say(probe: &Probe<'_>, bytes: &[u8]) -> (Vec<u8>, End) {
    let mut got = Vec::new();
    let exchange = async {
        let mut stream = match probe.connect().await {
            Ok(stream) => stream,
            Err(error) => return End::Failed(error),
        };
        // A server that has closed already may have said why: its bytes count, not our failure to speak.
        let said = stream.write_all(bytes).await;
        match (listen(&mut stream, &mut got).await, said) {
            (End::Closed, Err(error)) => End::Failed(error),
            (end, _) => end,
        }
    };
    let end = timeout(probe.target.deadline, exchange).await.unwrap_or(End::Open);
    (got, end)
}

/// Reads until the answer can be told, or the end.
async fn listen(stream: &mut (impl AsyncRead + Unpin), got: &mut Vec<u8>) -> End {
    let mut buffer = [0; MAX_READ];
    while got.len() < ENOUGH && alert(got).is_none() {
        match stream.read(&mut buffer).await {
            Ok(0) => return End::Closed,
            Ok(length) => got.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) => return End::Failed(error),
        }
    }
    End::Enough
}

/// Plaintext is refused by silence and an end, or by a TLS alert.
pub(super) async fn attempt(probe: &Probe<'_>, bytes: &[u8]) -> Outcome {
    let (got, end) = say(probe, bytes).await;
    judge(&got, &end, probe)
}

fn judge(got: &[u8], end: &End, probe: &Probe<'_>) -> Outcome {
    if let Some(alert) = alert(got) {
        return Outcome::alert(alert);
    }
    if !got.is_empty() {
        return Outcome::got_in("plaintext", got);
    }
    match end {
        End::Closed => Outcome::refused("closed"),
        End::Failed(error) => failed(error),
        // With nothing read there cannot be enough.
        End::Open | End::Enough => {
            Outcome::unclear(format!("neither answered nor closed within {:?}", probe.target.deadline))
        }
    }
}

/// The end of a connection that the other side tore down is a refusal; that there was none is not.
pub(super) fn failed(error: &io::Error) -> Outcome {
    let torn = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
    if torn.contains(&error.kind()) {
        Outcome::refused("reset")
    } else {
        Outcome::unclear(format!("no connection: {error}"))
    }
}

/// The description in a TLS alert record: type, version, length, level, description (RFC 8446, 5.1 and 6).
pub(super) fn alert(bytes: &[u8]) -> Option<AlertDescription> {
    match bytes {
        [0x15, 3, _, 0, 2, _, description, ..] => Some(AlertDescription::from(*description)),
        _ => None,
    }
}

/// The text of an answer that is no TLS.
pub(super) fn not_tls(got: &[u8]) -> String {
    format!("no TLS, but {}", shown(got))
}
