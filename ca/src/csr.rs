//! Certificate requests: proof that the caller has a private key, and nothing else.
//!
//! Of the whole PKCS#10 message only the public key is kept. Names, extensions and attributes are the caller's
//! wishes; they are never looked at.

use aws_lc_rs::digest;
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// A request with an RSA key of 8,192 bits has about 2.5 KiB.
const MAX_CSR: usize = 16 * 1024;
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What is wrong with a request: one variant per defect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrDefect {
    /// More than 16 KiB.
    #[error("the request has {0} bytes, the limit is 16384")]
    TooLong(usize),
    /// Not DER, not PKCS#10, or bytes after the end.
    #[error("not a PKCS#10 certificate request")]
    Malformed,
    /// A kind of key that is not issued for.
    #[error("the key must be ECDSA P-256, ECDSA P-384 or RSA")]
    KeyKind,
    /// RSA outside 2,048 to 8,192 bits.
    #[error("the RSA key has {0} bits, from 2048 to 8192 are needed")]
    RsaBits(usize),
    /// A signature over SHA-1 or by an algorithm nobody here knows.
    #[error("the request is signed by an algorithm that is not taken")]
    SignatureAlgorithm,
    /// The caller does not have the private key.
    #[error("the request is not signed by its own key")]
    Signature,
}

/// A public key that a leaf may be issued for.
#[derive(Debug, Clone)]
pub struct RequestedKey {
    info: SubjectPublicKeyInfo,
    hash: [u8; 32],
}

impl RequestedKey {
    /// Reads a PKCS#10 request (DER) and checks that it is signed by its own key.
    ///
    /// # Errors
    /// The first defect met.
    pub fn from_csr(der: &[u8]) -> Result<Self, CsrDefect> {
        if der.len() > MAX_CSR {
            return Err(CsrDefect::TooLong(der.len()));
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrDefect::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrDefect::Malformed);
        }
        let key = Self::from_parsed(&request.certification_request_info.subject_pki)?;
        // x509-parser would take SHA-1, and RSA of 1,024 bits with it.
        let taken = [
            OID_SIG_ECDSA_WITH_SHA256,
            OID_SIG_ECDSA_WITH_SHA384,
            OID_PKCS1_SHA256WITHRSA,
            OID_PKCS1_SHA384WITHRSA,
            OID_PKCS1_SHA512WITHRSA,
        ];
        if !taken.contains(&request.signature_algorithm.algorithm) {
            return Err(CsrDefect::SignatureAlgorithm);
        }
        request.verify_signature().map_err(|_| CsrDefect::Signature)?;
        Ok(key)
    }

    /// Takes a SubjectPublicKeyInfo (DER) on the word of whoever calls: nothing proves that its key is at hand.
    ///
    /// # Errors
    /// [`CsrDefect::Malformed`], [`CsrDefect::KeyKind`], [`CsrDefect::RsaBits`].
    pub fn from_public_key(der: &[u8]) -> Result<Self, CsrDefect> {
        match x509_parser::x509::SubjectPublicKeyInfo::from_der(der) {
            Ok(([], info)) => Self::from_parsed(&info),
            _ => Err(CsrDefect::Malformed),
        }
    }

    fn from_parsed(info: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<Self, CsrDefect> {
        let parsed = info.parsed().map_err(|_| CsrDefect::Malformed)?;
        if let PublicKey::RSA(rsa) = &parsed {
            let bits = bits(rsa.modulus);
            if !RSA_BITS.contains(&bits) {
                return Err(CsrDefect::RsaBits(bits));
            }
        } else {
            // An uncompressed point, 4 and two coordinates of 32 or 48 bytes (RFC 5480, 2.2); rcgen knows the curve.
            let PublicKey::EC(point) = &parsed else { return Err(CsrDefect::KeyKind) };
            if point.data().first() != Some(&4) || !matches!(point.data().len(), 65 | 97) {
                return Err(CsrDefect::KeyKind);
            }
        }
        let hash = digest::digest(&digest::SHA256, info.raw);
        let info = SubjectPublicKeyInfo::from_der(info.raw).map_err(|_| CsrDefect::KeyKind)?;
        let mut key = Self { info, hash: [0; 32] };
        key.hash.copy_from_slice(hash.as_ref());
        Ok(key)
    }

    /// What goes into the certificate.
    pub(crate) fn info(&self) -> &SubjectPublicKeyInfo {
        &self.info
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what a token is bound to.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

/// Length of a big-endian number without its leading zeroes.
fn bits(number: &[u8]) -> usize {
    let mut rest = number;
    while let [0, tail @ ..] = rest {
        rest = tail;
    }
    let first = rest.first().map_or(0, |byte| byte.leading_zeros() as usize);
    (rest.len() * 8).saturating_sub(first)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    use super::*;

    fn csr(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    /// `depth` SEQUENCEs, one inside the other.
    fn nested(depth: usize) -> Vec<u8> {
        let mut der = Vec::new();
        for _ in 0..depth {
            let length = u16::try_from(der.len()).unwrap().to_be_bytes();
            der.splice(0..0, [0x30, 0x82, length[0], length[1]]);
        }
        der
    }

    #[test]
    fn the_kinds_of_key_that_are_taken() {
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256]
        {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let read = RequestedKey::from_csr(&csr(&key)).unwrap();
            assert_eq!(read.info().subject_public_key_info(), key.subject_public_key_info());
            let direct = RequestedKey::from_public_key(&key.subject_public_key_info()).unwrap();
            assert_eq!(direct.hash(), read.hash());
        }
        for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P521_SHA512] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(RequestedKey::from_csr(&csr(&key)).unwrap_err(), CsrDefect::KeyKind);
        }
    }

    #[test]
    fn a_changed_byte_never_gets_another_key_accepted() {
        let pair = KeyPair::generate().unwrap();
        let good = csr(&pair);
        let key = RequestedKey::from_csr(&good).unwrap();
        let info = pair.subject_public_key_info();
        let start = good.windows(info.len()).position(|window| window == info).unwrap();
        let mut accepted = 0;
        for at in 0..good.len() {
            for flip in [0x01, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                // The headers around what is signed are read leniently.
                if let Ok(read) = RequestedKey::from_csr(&bad) {
                    assert!(!(start..start + info.len()).contains(&at), "byte {at}");
                    assert_eq!(read.hash(), key.hash());
                    accepted += 1;
                }
            }
            assert_eq!(RequestedKey::from_csr(&good[..at]).unwrap_err(), CsrDefect::Malformed);
        }
        assert!(accepted < 8, "{accepted} changes went unnoticed");
        assert_eq!(RequestedKey::from_csr(&[&good[..], &[0]].concat()).unwrap_err(), CsrDefect::Malformed);
    }

    #[test]
    fn size_is_checked_before_anything_is_read() {
        assert_eq!(RequestedKey::from_csr(&vec![0x30; MAX_CSR]).unwrap_err(), CsrDefect::Malformed);
        let one_more = vec![0x30; MAX_CSR + 1];
        assert_eq!(RequestedKey::from_csr(&one_more).unwrap_err(), CsrDefect::TooLong(MAX_CSR + 1));
    }

    #[test]
    fn deep_nesting_does_not_grow_the_stack() {
        let bodies = [nested(100), nested(4000), vec![0x30; 8000], [0x30, 0x80].repeat(8000)];
        let small = std::thread::Builder::new().stack_size(128 * 1024);
        let run = small.spawn(move || {
            for body in bodies {
                assert!(RequestedKey::from_csr(&body).is_err());
                // The same at the places where a request is open to any type: name, key and attributes.
                let mut inner = vec![0x02, 0x01, 0x00];
                inner.extend(&body);
                let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
                let outer = [&[0x30, 0x82, length[0], length[1]][..], &inner].concat();
                assert!(RequestedKey::from_csr(&outer).is_err());
                assert!(RequestedKey::from_public_key(&body).is_err());
            }
        });
        run.unwrap().join().unwrap();
    }
}
