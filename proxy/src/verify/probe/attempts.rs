//! The attempts: what each is called, what it does, and what it tells.

use super::forge::{Forger, Forgery};
use super::hello::{self, Version as Old};
use super::server::{Server, Version};
use super::tls::{self, TLS12, TLS13};
use super::{CannotProbe, Outcome, Probe, plain};

/// Begins like no protocol; the line ends, so that nobody waits for more.
const BYTES: &[u8] = b"hello, this is not TLS\r\n";

/// One way to try to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    PlainHttp1,
    PlainHttp2,
    PlainBytes,
    NoCertificate13,
    NoCertificate12,
    Forged(Forgery),
    Old(Old),
}

impl Attempt {
    /// All that make sense with what is known of the server.
    pub(super) fn all(forger: &Forger) -> Vec<Self> {
        let forgeries = [
            Forgery::SelfSigned,
            Forgery::WrongCa,
            Forgery::Impostor,
            Forgery::OtherTrustDomain,
            Forgery::Expired,
            Forgery::NotYetValid,
            Forgery::NoSpiffeId,
            Forgery::Borrowed,
        ];
        let forged = forgeries.into_iter().filter(|forgery| forger.can(*forgery)).map(Self::Forged);
        let first = [
            Self::PlainHttp1,
            Self::PlainHttp2,
            Self::PlainBytes,
            Self::NoCertificate13,
            Self::NoCertificate12,
        ];
        let old = [Old::Tls10, Old::Tls11, Old::Tls12].map(Self::Old);
        first.into_iter().chain(forged).chain(old).collect()
    }

    /// Its name in JSON; one of a closed set.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PlainHttp1 => "plaintext_http1",
            Self::PlainHttp2 => "plaintext_http2",
            Self::PlainBytes => "plaintext_bytes",
            Self::NoCertificate13 => "tls13_no_certificate",
            Self::NoCertificate12 => "tls12_no_certificate",
            Self::Forged(Forgery::SelfSigned) => "self_signed",
            Self::Forged(Forgery::WrongCa) => "wrong_ca",
            Self::Forged(Forgery::Impostor) => "impostor_ca",
            Self::Forged(Forgery::OtherTrustDomain) => "wrong_trust_domain",
            Self::Forged(Forgery::Expired) => "expired",
            Self::Forged(Forgery::NotYetValid) => "not_yet_valid",
            Self::Forged(Forgery::NoSpiffeId) => "no_spiffe_id",
            Self::Forged(Forgery::Borrowed) => "borrowed_certificate",
            Self::Old(Old::Tls10) => "tls10",
            Self::Old(Old::Tls11) => "tls11",
            Self::Old(Old::Tls12) => "tls12",
        }
    }

    /// What it does, in words.
    pub(super) fn what(self, forger: &Forger) -> String {
        let claimed = forger.claimed();
        match self {
            Self::PlainHttp1 => "plaintext HTTP/1.1 request".to_owned(),
            Self::PlainHttp2 => "plaintext HTTP/2 request (prior knowledge)".to_owned(),
            Self::PlainBytes => "plaintext bytes".to_owned(),
            Self::NoCertificate13 => "TLS 1.3 without a client certificate".to_owned(),
            Self::NoCertificate12 => "TLS 1.2 without a client certificate".to_owned(),
            Self::Forged(Forgery::SelfSigned) => format!("self-signed certificate for {claimed}"),
            Self::Forged(Forgery::WrongCa) => {
                format!("certificate of an unknown CA of {} for {claimed}", forger.trust_domain())
            }
            Self::Forged(Forgery::Impostor) => {
                "certificate of a CA with the real one's name, not its key".to_owned()
            }
            Self::Forged(Forgery::OtherTrustDomain) => "certificate of another trust domain".to_owned(),
            Self::Forged(Forgery::Expired) => "expired certificate".to_owned(),
            Self::Forged(Forgery::NotYetValid) => "certificate that is not yet valid".to_owned(),
            Self::Forged(Forgery::NoSpiffeId) => "certificate without a SPIFFE ID".to_owned(),
            Self::Forged(Forgery::Borrowed) => "the server's own certificate, without its key".to_owned(),
            Self::Old(version) => format!("{} and nothing newer", version.as_str()),
        }
    }

    pub(super) async fn run(
        self,
        probe: &Probe<'_>,
        forger: &Forger,
        server: &mut Server,
    ) -> Result<Outcome, CannotProbe> {
        let host = &probe.target.host;
        Ok(match self {
            Self::PlainHttp1 => plain::attempt(probe, &tls::http1(host)).await,
            Self::PlainHttp2 => plain::attempt(probe, &tls::http2(host, false)).await,
            Self::PlainBytes => plain::attempt(probe, BYTES).await,
            Self::NoCertificate13 => {
                let (outcome, shown) = tls::attempt(probe, &TLS13, None).await?;
                server.tls13 = Some(Version::of(&shown));
                outcome
            }
            Self::NoCertificate12 => {
                let (outcome, shown) = tls::attempt(probe, &TLS12, None).await?;
                server.tls12 = Some(Version::of(&shown));
                outcome
            }
            Self::Forged(forgery) => {
                let shown = forger.make(forgery)?;
                tls::attempt(probe, &tls::BOTH, Some(shown)).await?.0
            }
            Self::Old(version) => hello::attempt(probe, version).await,
        })
    }
}
