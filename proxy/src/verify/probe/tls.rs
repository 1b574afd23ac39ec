//! A TLS client that takes any server, shows what it is told to show, and then asks for something.
//!
//! In TLS 1.3 a client is done before the server has judged its certificate: only an answer, or an alert, tells.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, Error, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::plain::{MAX_READ, failed};
use super::{Outcome, Probe};
use crate::tls::signatures_by;

pub(super) static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
pub(super) static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
pub(super) static TLS12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];

/// What the server showed during a handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// Its certificates; empty when it came to none.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether it asked for a client certificate.
    pub(super) asked: bool,
}

/// One handshake in one of `versions` with `own` (or without a certificate), and one request.
pub(super) async fn attempt(
    probe: &Probe<'_>,
    versions: &[&'static SupportedProtocolVersion],
    own: Option<Arc<CertifiedKey>>,
) -> Result<(Outcome, Shown), Error> {
    let first = once(probe, versions, own.clone(), &[b"http/1.1", b"h2"]).await?;
    // The protocol is not what is tried: a server without HTTP is asked again with nothing offered.
    if first.0 == Outcome::alert(AlertDescription::NoApplicationProtocol) {
        return once(probe, versions, own, &[]).await;
    }
    Ok(first)
}

async fn once(
    probe: &Probe<'_>,
    versions: &[&'static SupportedProtocolVersion],
    own: Option<Arc<CertifiedKey>>,
    alpn: &[&[u8]],
) -> Result<(Outcome, Shown), Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let anyone = Arc::new(Anyone { algorithms, chain: Mutex::default() });
    let own = Arc::new(Own { own, asked: AtomicBool::new(false) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&anyone) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(Arc::clone(&own) as Arc<dyn ResolvesClientCert>);
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let deadline = probe.target.deadline;
    let late = || Outcome::unclear(format!("neither answered nor refused within {deadline:?}"));
    let outcome = timeout(deadline, ask(probe, config)).await.unwrap_or_else(|_| late());
    let chain = anyone.chain.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((outcome, Shown { chain, asked: own.asked.load(Ordering::SeqCst) }))
}

/// The handshake and a request in the protocol that it settled on.
async fn ask(probe: &Probe<'_>, config: ClientConfig) -> Outcome {
    let stream = match probe.connect().await {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    let mut stream = match TlsConnector::from(Arc::new(config)).connect(probe.sni.clone(), stream).await {
        Ok(stream) => stream,
        Err(error) => return refusal(&error),
    };
    let (_, connection) = stream.get_ref();
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    let request = match connection.alpn_protocol() {
        Some(b"h2") => http2(&probe.target.host, true),
        _ => http1(&probe.target.host),
    };
    // A server that has refused us may have closed: what it said is in what we read.
    let said = match stream.write_all(&request).await {
        Ok(()) => stream.flush().await,
        failed => failed,
    };
    let mut buffer = [0; MAX_READ];
    match (stream.read(&mut buffer).await, said) {
        (Ok(0), Err(error)) => refusal(&error),
        // An orderly end comes from a server that holds the handshake for good.
        (Ok(0), Ok(())) => Outcome::unclear(format!("{version}: the handshake was accepted, then closed")),
        (Ok(length), _) => Outcome::got_in(version, buffer.get(..length).unwrap_or_default()),
        (Err(error), _) => refusal(&error),
    }
}

pub(super) fn http1(host: &str) -> Vec<u8> {
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {host}\r\nuser-agent: portcullis-verify\r\nconnection: close\r\n\r\n"
    );
    request.into_bytes()
}

/// The connection preface, SETTINGS and one GET (RFC 9113, 3.4, 6.2 and 6.5; RFC 7541, 6.1 and 6.2.1).
pub(super) fn http2(host: &str, tls: bool) -> Vec<u8> {
    let mut fields = vec![0x82, 0x84, if tls { 0x87 } else { 0x86 }, 0x41];
    // A DNS name has at most 253 bytes: one more byte after the prefix of 7 bits is enough (RFC 7541, 5.1).
    let host: Vec<u8> = host.bytes().take(253).collect();
    match u8::try_from(host.len()) {
        Ok(length @ 127..) => fields.extend([127, length - 127]),
        Ok(length) => fields.push(length),
        Err(_) => {}
    }
    fields.extend(&host);
    let length = u16::try_from(fields.len()).unwrap_or_default().to_be_bytes();
    let headers = [&[0], &length[..], &[1, 5, 0, 0, 0, 1], &fields].concat();
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &headers].concat()
}

/// What an error of a TLS stream means to somebody who wants in.
#[allow(clippy::wildcard_enum_match_arm, reason = "rustls' enums are open and grow")]
fn refusal(error: &io::Error) -> Outcome {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => Outcome::alert(*alert),
        Some(Error::InvalidMessage(_)) => Outcome::refused("does not speak TLS"),
        Some(Error::PeerIncompatible(_)) => {
            Outcome::refused("speaks no TLS version or suite that was offered")
        }
        Some(other) => Outcome::unclear(format!("the handshake broke on this side: {other}")),
        None if error.kind() == ErrorKind::UnexpectedEof => Outcome::refused("closed"),
        None => failed(error),
    }
}

/// Takes any server for the right one, and remembers what it showed. That it holds the key is checked all the same.
#[derive(Debug)]
struct Anyone {
    algorithms: WebPkiSupportedAlgorithms,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(others).map(|certificate| certificate.clone().into_owned());
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(this => &this.algorithms);
}

/// Shows a certificate without a look at it, and notes whether it was asked for one.
#[derive(Debug)]
struct Own {
    own: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::SeqCst);
        self.own.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_http2_has_frames_of_the_length_they_say() {
        for host in ["a.example".to_owned(), "a".repeat(200), "a".repeat(253)] {
            let bytes = http2(&host, false);
            let headers = bytes.get(24 + 9..).unwrap();
            let [0, high, low, 1, 5, 0, 0, 0, 1, fields @ ..] = headers else { panic!("{headers:?}") };
            assert_eq!(usize::from(u16::from_be_bytes([*high, *low])), fields.len());
            assert!(fields.ends_with(host.as_bytes()));
        }
    }
}
