//! What a connection begins with: TLS, plaintext HTTP, or something else. Looks, and consumes nothing.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Methods of the IANA registry, `PRI` (the HTTP/2 preface) apart.
const METHODS: &[&str] = &[
    "GET",
    "POST",
    "PUT",
    "HEAD",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];
/// First line of the HTTP/2 connection preface (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Longer than any beginning that [`classify`] needs: "UPDATEREDIRECTREF " has 18 bytes.
const ENOUGH: usize = 32;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// A TLS handshake record.
    TlsHandshake,
    /// The request line of plaintext HTTP.
    Http {
        /// A registered method; `PRI` for the HTTP/2 preface.
        method: &'static str,
    },
    /// Neither.
    Other,
    /// No byte within the deadline.
    Silent,
    /// The peer closed without a byte.
    Closed,
}

/// Tells what `bytes` begin; `None` when they are too few to tell.
#[must_use]
pub fn classify(bytes: &[u8]) -> Option<FirstBytes> {
    match bytes {
        [] | [0x16] => return None,
        // Content type handshake, major version 3 (RFC 8446, 5.1).
        [0x16, 0x03, ..] => return Some(FirstBytes::TlsHandshake),
        _ => {}
    }
    if bytes.starts_with(HTTP2_PREFACE) {
        return Some(FirstBytes::Http { method: "PRI" });
    }
    let mut undecided = HTTP2_PREFACE.starts_with(bytes);
    for method in METHODS {
        match bytes.strip_prefix(method.as_bytes()) {
            Some([b' ', ..]) => return Some(FirstBytes::Http { method }),
            Some([]) => undecided = true,
            Some(_) => {}
            None => undecided |= method.as_bytes().starts_with(bytes),
        }
    }
    if undecided { None } else { Some(FirstBytes::Other) }
}

/// Waits until the first bytes can be told, at most for `deadline`, and leaves them in the socket. A peer
/// that sent too little to tell by then is [`FirstBytes::Other`].
///
/// # Errors
/// Those of the socket.
pub async fn first_bytes(stream: &TcpStream, deadline: Duration) -> io::Result<FirstBytes> {
    let mut any = false;
    // "Would block" while the bytes are too few takes the readiness back. epoll is edge-triggered in tokio,
    // so the next segment wakes us even though the socket was readable all the time: neither a busy loop nor
    // a timer.
    let told = stream.async_io(Interest::READABLE, || {
        let mut buffer = [0; ENOUGH];
        let length = recv(stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)?;
        if length == 0 {
            return Ok(FirstBytes::Closed);
        }
        any = true;
        let bytes = buffer.get(..length).unwrap_or_default();
        classify(bytes).ok_or_else(|| io::ErrorKind::WouldBlock.into())
    });
    match tokio::time::timeout(deadline, told).await {
        Ok(told) => told,
        Err(_) if any => Ok(FirstBytes::Other),
        Err(_) => Ok(FirstBytes::Silent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn more_bytes_never_change_what_was_told(bytes in "[A-Z* /.\\x16\\x03-]{0,24}", more in any::<Vec<u8>>()) {
            if let Some(told) = classify(bytes.as_bytes()) {
                prop_assert_eq!(classify(&[bytes.as_bytes(), &more].concat()), Some(told));
            }
        }

        #[test]
        fn enough_bytes_always_tell(bytes in prop::collection::vec(any::<u8>(), ENOUGH)) {
            prop_assert!(classify(&bytes).is_some());
        }
    }

    #[test]
    fn every_method_is_told() {
        for method in METHODS {
            let line = format!("{method} / HTTP/1.1");
            assert_eq!(classify(line.as_bytes()), Some(FirstBytes::Http { method }));
            assert!(method.len() < ENOUGH);
        }
    }
}
