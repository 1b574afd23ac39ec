//! A ClientHello of older TLS, made by hand: no library that we use still speaks it. Only the first answer is read.

use rand::RngCore;
use rustls::AlertDescription;
use rustls_pki_types::ServerName;

use super::plain::{End, alert, failed, not_tls, say};
use super::{Outcome, Probe, Verdict};

/// A version of TLS, as it stands in a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Tls10,
    Tls11,
    Tls12,
}

impl Version {
    fn wire(self) -> [u8; 2] {
        match self {
            Self::Tls10 => [3, 1],
            Self::Tls11 => [3, 2],
            Self::Tls12 => [3, 3],
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tls10 => "TLS 1.0",
            Self::Tls11 => "TLS 1.1",
            Self::Tls12 => "TLS 1.2",
        }
    }

    fn of(wire: [u8; 2]) -> Option<Self> {
        [Self::Tls10, Self::Tls11, Self::Tls12].into_iter().find(|version| version.wire() == wire)
    }

    /// Suites that a server of that time has: ECDHE and RSA with AES-CBC; with 1.2 also AEAD (RFC 5289).
    fn suites(self) -> Vec<u16> {
        let old = [0xc00a, 0xc014, 0xc009, 0xc013, 0x0035, 0x002f, 0x000a];
        let new: &[u16] =
            if self == Self::Tls12 { &[0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8] } else { &[] };
        [new, &old].concat()
    }
}

/// What a server answered to a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A ServerHello with this version.
    Agreed(Option<Version>),
    Alert(AlertDescription),
    Other,
}

/// Offers `version` and nothing newer. A server that agrees to less than TLS 1.2 has let the attempt in.
pub(super) async fn attempt(probe: &Probe<'_>, version: Version) -> Outcome {
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    let (got, end) = say(probe, &hello(version, &random, &probe.sni)).await;
    let outcome = judge(&got, &end, version);
    // 1.2 is good TLS: that a server speaks it or not is no verdict.
    if version == Version::Tls12 && outcome.verdict != Verdict::Unclear {
        return Outcome::information(outcome.how);
    }
    outcome
}

fn judge(got: &[u8], end: &End, offered: Version) -> Outcome {
    match (answer(got), end) {
        (Answer::Agreed(Some(version)), _) if version <= offered => {
            Outcome { verdict: Verdict::GotIn, how: format!("the server agrees to {}", version.as_str()) }
        }
        (Answer::Agreed(_), _) => Outcome::unclear("the server answers with a version that was not offered"),
        (Answer::Alert(description), _) => Outcome::alert(description),
        (Answer::Other, _) if !got.is_empty() => Outcome::refused(not_tls(got)),
        (Answer::Other, End::Closed) => Outcome::refused("closed"),
        (Answer::Other, End::Failed(error)) => failed(error),
        (Answer::Other, End::Open | End::Enough) => Outcome::unclear("neither answered nor closed in time"),
    }
}

/// A handshake record with a ServerHello (type 2), or an alert. The first bytes of the record are enough: the
/// version stands behind two headers of 5 and 4 bytes.
fn answer(bytes: &[u8]) -> Answer {
    match bytes {
        [0x16, 3, _, _, _, 2, _, _, _, major, minor, ..] => Answer::Agreed(Version::of([*major, *minor])),
        _ => alert(bytes).map_or(Answer::Other, Answer::Alert),
    }
}

/// A list with its length before it, in `width` bytes.
fn sized(width: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = length.get(length.len().saturating_sub(width)..).unwrap_or_default();
    [length, content].concat()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(2, content)].concat()
}

/// The record (RFC 5246, 7.4.1.2; RFC 4346 for 1.1).
fn hello(version: Version, random: &[u8; 32], name: &ServerName<'_>) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let ServerName::DnsName(name) = name {
        // server_name: a list of names of type 0 (RFC 6066, 3).
        let entry = [&[0][..], &sized(2, name.as_ref().as_bytes())].concat();
        extensions.extend(extension(0, &sized(2, &entry)));
    }
    // supported_groups x25519, P-256, P-384; uncompressed points (RFC 8422, 5.1).
    extensions.extend(extension(10, &sized(2, &words(&[0x001d, 0x0017, 0x0018]))));
    extensions.extend(extension(11, &sized(1, &[0])));
    if version == Version::Tls12 {
        // signature_algorithms: ECDSA and RSA with SHA-256 and SHA-384 (RFC 5246, 7.4.1.4.1).
        extensions
            .extend(extension(13, &sized(2, &words(&[0x0403, 0x0503, 0x0804, 0x0805, 0x0401, 0x0501]))));
    }
    // extended_master_secret and renegotiation_info: a server may insist on them (RFC 7627, RFC 5746).
    extensions.extend(extension(23, &[]));
    extensions.extend(extension(0xff01, &[0]));
    let body = [
        &version.wire()[..],
        random,
        &sized(1, &[]),
        &sized(2, &words(&version.suites())),
        &sized(1, &[0]),
        &sized(2, &extensions),
    ]
    .concat();
    let message = [&[1][..], &sized(3, &body)].concat();
    [&[0x16, 3, 1][..], &sized(2, &message)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_says_its_own_length_and_version() {
        let name = ServerName::try_from("api.example").unwrap();
        for version in [Version::Tls10, Version::Tls11, Version::Tls12] {
            let record = hello(version, &[7; 32], &name);
            assert_eq!(record[..3], [0x16, 3, 1]);
            assert_eq!(usize::from(u16::from_be_bytes([record[3], record[4]])), record.len() - 5);
            assert_eq!(record[5..6], [1]);
            assert_eq!(record[9..11], version.wire());
            assert!(record.windows(11).any(|window| window == b"api.example"));
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let server_hello = |minor| [0x16, 3, 3, 0, 80, 2, 0, 0, 76, 3, minor, 1, 2];
        for (bytes, told) in [
            (&server_hello(1)[..], Answer::Agreed(Some(Version::Tls10))),
            (&server_hello(2), Answer::Agreed(Some(Version::Tls11))),
            (&server_hello(9), Answer::Agreed(None)),
            (&[0x15, 3, 1, 0, 2, 2, 70], Answer::Alert(AlertDescription::ProtocolVersion)),
            (b"HTTP/1.1 400 Bad Request\r\n", Answer::Other),
            (&[0x15, 3], Answer::Other),
            (&[], Answer::Other),
        ] {
            assert_eq!(answer(bytes), told, "{bytes:?}");
        }
    }

    #[test]
    fn a_server_that_agrees_has_let_the_attempt_in() {
        let hello = [0x16, 3, 2, 0, 80, 2, 0, 0, 76, 3, 2];
        assert_eq!(judge(&hello, &End::Enough, Version::Tls11).verdict, Verdict::GotIn);
        assert_eq!(judge(&hello, &End::Enough, Version::Tls10).verdict, Verdict::Unclear);
        assert_eq!(judge(&[], &End::Closed, Version::Tls11).verdict, Verdict::Refused);
        assert_eq!(judge(&[], &End::Open, Version::Tls11).verdict, Verdict::Unclear);
    }
}
