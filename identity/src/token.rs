//! Join tokens: what a workload shows the authority for its first certificate.
//!
//! The text is `pcj1.` and base64url of JSON with the identity, the SHA-256 of the authority's root and a secret.
//! The root's hash authenticates the authority at first contact, so the token alone is enough to start from.
//! What a token is worth (its life, the key it is bound to) only the authority's store knows.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Fingerprint, IdDefect, SpiffeId, Workload};

/// Longest text of a token, in bytes: the longest SPIFFE ID and both hashes, in base64, with room to spare.
const MAX_TEXT: usize = 4096;
/// Names the format; another format gets another number.
const PREFIX: &str = "pcj1.";
const SECRET_BYTES: usize = 32;

/// What is wrong with a text that should be a join token: one variant per defect. None repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenDefect {
    /// More than 4,096 bytes.
    #[error("the join token has {0} bytes, the limit is 4096")]
    TooLong(usize),
    /// Not `pcj1.`.
    #[error("a join token starts with {PREFIX}")]
    Prefix,
    /// Not base64url without padding after the prefix: mostly a token cut short when it was copied.
    #[error("the join token is not base64url after {PREFIX}; was it cut when it was copied?")]
    Base64,
    /// Not the JSON object with exactly `id`, `root` and `secret`.
    #[error("the join token does not hold a JSON object of id, root and secret")]
    Json,
    /// `id` is not a workload's SPIFFE ID.
    #[error("the identity in the join token: {0}")]
    Id(#[from] IdDefect),
    /// `root` is not 64 lower-case hexadecimal digits.
    #[error("the root hash in the join token is not 64 lower-case hexadecimal digits")]
    Root,
    /// `secret` is not 32 bytes in base64url.
    #[error("the secret in the join token is not 32 bytes in base64url")]
    Secret,
}

/// A join token. The secret is zeroised on drop and never printed.
#[derive(Clone)]
pub struct JoinToken {
    workload: Workload,
    root: Fingerprint,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'a> {
    id: &'a str,
    root: &'a str,
    secret: &'a str,
}

impl JoinToken {
    /// Puts a token together from its parts; `secret` must come from a random source.
    #[must_use]
    pub fn new(workload: Workload, root: Fingerprint, secret: Zeroizing<[u8; SECRET_BYTES]>) -> Self {
        Self { workload, root, secret }
    }

    /// Reads a token; white space around it (a file's last newline) is passed over.
    ///
    /// # Errors
    /// The first defect met, see [`TokenDefect`].
    pub fn parse(text: &str) -> Result<Self, TokenDefect> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(TokenDefect::TooLong(text.len()));
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(TokenDefect::Prefix)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenDefect::Base64)?);
        // serde's error could quote the secret, so it is not kept.
        let content: Content<'_> = serde_json::from_slice(&json).map_err(|_| TokenDefect::Json)?;
        let workload = Workload::try_from(SpiffeId::parse(content.id)?)?;
        let root = parse_fingerprint(content.root).ok_or(TokenDefect::Root)?;
        let decoded =
            Zeroizing::new(URL_SAFE_NO_PAD.decode(content.secret).map_err(|_| TokenDefect::Secret)?);
        if decoded.len() != SECRET_BYTES {
            return Err(TokenDefect::Secret);
        }
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        secret.copy_from_slice(&decoded);
        Ok(Self { workload, root, secret })
    }

    /// The text to hand over. It is the secret itself: never log it.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let root = self.root.to_string();
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.secret));
        let content = Content { id: self.workload.id().as_str(), root: &root, secret: &secret };
        let json = Zeroizing::new(serde_json::to_vec(&content).unwrap_or_default());
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&json));
        Zeroizing::new([PREFIX, encoded.as_str()].concat())
    }

    /// The one identity that the token is good for.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// SHA-256 of the authority's root certificate (DER): what the first contact must chain to.
    #[must_use]
    pub fn root(&self) -> &Fingerprint {
        &self.root
    }

    /// SHA-256 of the secret: all that the authority keeps.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, self.secret.as_slice()).as_ref());
        hash
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("workload", &self.workload)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// One spelling only, so that two texts of one token are the same text.
fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digits.iter().try_fold(0, |value, digit| match digit {
            b'0'..=b'9' => Some(value << 4 | (digit - b'0')),
            b'a'..=b'f' => Some(value << 4 | (digit - b'a' + 10)),
            _ => None,
        })?;
    }
    Some(Fingerprint::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let workload = Workload::try_from(SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap()).unwrap();
        JoinToken::new(workload, Fingerprint::of(b"root"), Zeroizing::new([0xa7; 32]))
    }

    fn text_of(json: &str) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn a_token_survives_its_text() {
        let token = token();
        let read = JoinToken::parse(&format!("{}\n", token.to_text().as_str())).unwrap();
        assert_eq!(read.workload(), token.workload());
        assert_eq!(read.root(), token.root());
        assert_eq!(read.secret_hash(), token.secret_hash());
        assert_eq!(*read.secret, [0xa7; 32]);
    }

    #[test]
    fn the_longest_identity_fits() {
        let start = "spiffe://td/ns/a/sa/";
        let id = format!("{start}{}", "b".repeat(2048 - start.len()));
        let workload = Workload::try_from(SpiffeId::parse(&id).unwrap()).unwrap();
        let token = JoinToken::new(workload, Fingerprint::of(b""), Zeroizing::new([1; 32]));
        assert!(JoinToken::parse(&token.to_text()).is_ok());
    }

    #[test]
    fn each_defect_has_its_own_name() {
        let good_root = "0".repeat(64);
        let good_secret = URL_SAFE_NO_PAD.encode([1; 32]);
        let content = |id: &str, root: &str, secret: &str| {
            text_of(&format!(r#"{{"id":"{id}","root":"{root}","secret":"{secret}"}}"#))
        };
        let id = "spiffe://td/ns/a/sa/b";
        assert!(JoinToken::parse(&content(id, &good_root, &good_secret)).is_ok(), "positive control");
        for (text, defect) in [
            (String::new(), TokenDefect::Prefix),
            ("pcj2.e30".to_owned(), TokenDefect::Prefix),
            (format!("{PREFIX}{}", "a".repeat(MAX_TEXT)), TokenDefect::TooLong(MAX_TEXT + PREFIX.len())),
            (format!("{PREFIX}e30="), TokenDefect::Base64),
            (format!("{PREFIX}ä"), TokenDefect::Base64),
            (text_of("{}"), TokenDefect::Json),
            (text_of("[[[["), TokenDefect::Json),
            (text_of(r#"{"id":"x","root":"y","secret":"z","more":1}"#), TokenDefect::Json),
            (content("http://td", &good_root, &good_secret), IdDefect::Scheme.into()),
            (content("spiffe://td", &good_root, &good_secret), IdDefect::NoPath.into()),
            (content("spiffe://td/x", &good_root, &good_secret), IdDefect::NotAWorkload.into()),
            (content(id, &"0".repeat(63), &good_secret), TokenDefect::Root),
            (content(id, &"A".repeat(64), &good_secret), TokenDefect::Root),
            (content(id, &"é".repeat(32), &good_secret), TokenDefect::Root),
            (content(id, &good_root, &URL_SAFE_NO_PAD.encode([1; 31])), TokenDefect::Secret),
            (content(id, &good_root, "*"), TokenDefect::Secret),
        ] {
            assert_eq!(JoinToken::parse(&text).unwrap_err(), defect, "{text:?}");
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("spiffe://td/ns/a/sa/b"));
        assert!(!shown.contains("167") && !shown.contains("a7a7") && !shown.contains("secret"), "{shown}");
    }
}
