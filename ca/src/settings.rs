//! How long certificates live, whom they are for, and a root brought along: validated once, here.
//!
//! Knows nothing of the store: whether it fits what is stored, the authority decides.

use std::time::Duration;

use portcullis_identity::{Clock, SvidDefect, TrustDomain, check_issuer};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::seal::SigningKey;

const SHORTEST_LEAF: Duration = Duration::from_secs(3);
const LONGEST_LEAF: Duration = Duration::from_secs(90 * 24 * 3600);
/// 100 years: keeps every NotAfter within what X.509 dates and arithmetic can carry.
const LONGEST_LIFE: Duration = Duration::from_secs(36_525 * 24 * 3600);
/// How many leaf lives an issuer must cover, so that rotation always has room.
const LEAF_LIVES: u32 = 6;

/// A setting that cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Leaf life outside 3 s to 90 d.
    #[error("--leaf-life is {}, it must be from 3s to 90d", in_units(*.0))]
    LeafLife(Duration),
    /// An issuer's life under six leaf lives.
    #[error(
        "--{which}-life is {}, under six leaf lives ({}): lengthen it or shorten --leaf-life",
        in_units(*.life), in_units(*.needed)
    )]
    IssuerLife {
        /// `root` or `intermediate`.
        which: &'static str,
        /// As set.
        life: Duration,
        /// Six leaf lives.
        needed: Duration,
    },
    /// More than 100 years.
    #[error("--{which}-life is {}, the limit is 36525d", in_units(*.life))]
    TooLong {
        /// `root` or `intermediate`.
        which: &'static str,
        /// As set.
        life: Duration,
    },
    /// The root's file is not one PEM certificate.
    #[error("--root-cert does not hold exactly one PEM certificate")]
    RootPem,
    /// The key's file is not a PEM private key.
    #[error("--root-key does not hold a PEM private key of a kind that can sign (ECDSA, RSA, Ed25519)")]
    RootKeyPem,
    /// The certificate cannot be a root.
    #[error("--root-cert cannot be a root: {0}")]
    Root(#[from] SvidDefect),
    /// The root names another trust domain.
    #[error("--root-cert is of trust domain {found}, not {wanted}")]
    RootTrustDomain {
        /// In the certificate.
        found: TrustDomain,
        /// As set.
        wanted: TrustDomain,
    },
    /// The root may sign leaves only.
    #[error("--root-cert has path length 0: it forbids the intermediate that signs leaves")]
    RootPathLength,
    /// Certificate and key do not belong together.
    #[error("--root-key is not the key of --root-cert")]
    RootKey,
    /// The given root ends too soon.
    #[error("--root-cert ends in {}, under six leaf lives ({})", in_units(*.left), in_units(*.needed))]
    RootEnds {
        /// What is left of it.
        left: Duration,
        /// Six leaf lives.
        needed: Duration,
    },
}

/// How long each kind of certificate lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lives {
    leaf: Duration,
    intermediate: Duration,
    root: Duration,
}

impl Lives {
    /// Takes three lives.
    ///
    /// # Errors
    /// [`SettingsError`] for a leaf life outside 3 s to 90 d, an issuer's under six leaf lives or above 100 years.
    pub fn new(leaf: Duration, intermediate: Duration, root: Duration) -> Result<Self, SettingsError> {
        if !(SHORTEST_LEAF..=LONGEST_LEAF).contains(&leaf) {
            return Err(SettingsError::LeafLife(leaf));
        }
        let needed = leaf * LEAF_LIVES;
        for (which, life) in [("intermediate", intermediate), ("root", root)] {
            if life < needed {
                return Err(SettingsError::IssuerLife { which, life, needed });
            }
            if life > LONGEST_LIFE {
                return Err(SettingsError::TooLong { which, life });
            }
        }
        Ok(Self { leaf, intermediate, root })
    }

    /// Life of a leaf.
    #[must_use]
    pub fn leaf(&self) -> Duration {
        self.leaf
    }

    /// Life of an intermediate.
    #[must_use]
    pub fn intermediate(&self) -> Duration {
        self.intermediate
    }

    /// Life of a root made here.
    #[must_use]
    pub fn root(&self) -> Duration {
        self.root
    }
}

impl Default for Lives {
    /// A day, 30 days, ten years.
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        Self { leaf: days(1), intermediate: days(30), root: days(3650) }
    }
}

/// What an authority is set up with.
pub struct Settings {
    /// Whom it vouches for.
    pub trust_domain: TrustDomain,
    /// How long its certificates live.
    pub lives: Lives,
    /// A root to start from instead of a fresh one.
    pub given_root: Option<GivenRoot>,
}

/// A root certificate and its key, brought along and found usable.
pub struct GivenRoot {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: SigningKey,
}

impl GivenRoot {
    /// Reads both from PEM.
    ///
    /// # Errors
    /// [`SettingsError`] when it is no root, not of `trust_domain`, does not fit its key, or ends too soon for `lives`.
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        trust_domain: &TrustDomain,
        lives: &Lives,
        clock: &Clock,
    ) -> Result<Self, SettingsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let Ok([certificate]) = certificates.as_deref() else { return Err(SettingsError::RootPem) };
        let facts = check_issuer(certificate, clock.unix_time())?;
        if let Some(found) = facts.trust_domain
            && found != *trust_domain
        {
            return Err(SettingsError::RootTrustDomain { found, wanted: trust_domain.clone() });
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| SettingsError::RootKeyPem)?;
        let key = KeyPair::try_from(&key).map_err(|_| SettingsError::RootKeyPem)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| SettingsError::RootPem)?;
        // webpki does not look at the path length of an anchor; others do.
        let constraints = parsed.basic_constraints().ok().flatten();
        if constraints.is_some_and(|constraints| constraints.value.path_len_constraint == Some(0)) {
            return Err(SettingsError::RootPathLength);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(SettingsError::RootKey);
        }
        let left = Duration::from_secs(facts.not_after).saturating_sub(clock.now());
        let needed = lives.leaf * LEAF_LIVES;
        if left < needed {
            return Err(SettingsError::RootEnds { left, needed });
        }
        Ok(Self { certificate: certificate.clone(), key: SigningKey::new(key) })
    }
}

/// Reads `3s`, `10m`, `24h`, `30d`.
///
/// # Errors
/// A text for the user.
pub(crate) fn parse_life(text: &str) -> Result<Duration, String> {
    let parsed = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)].iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?;
        // u64's own parser takes a leading plus.
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        number.parse::<u64>().ok()?.checked_mul(*seconds).map(Duration::from_secs)
    });
    parsed.ok_or_else(|| "a whole number and a unit is needed: 3s, 10m, 24h, 30d".to_owned())
}

/// The inverse of [`parse_life`], in the largest unit that divides.
fn in_units(life: Duration) -> String {
    let seconds = life.as_secs();
    let (unit, size) = [("d", 86_400), ("h", 3600), ("m", 60)]
        .into_iter()
        .find(|(_, size)| seconds >= *size && seconds.is_multiple_of(*size))
        .unwrap_or(("s", 1));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn lives_have_their_limits_exactly() {
        let day = 86_400;
        assert!(Lives::new(s(3), s(18), s(18)).is_ok());
        assert!(Lives::new(s(90 * day), s(540 * day), s(540 * day)).is_ok());
        for (leaf, intermediate, root, part) in [
            (2, 18, 18, "--leaf-life is 2s"),
            (90 * day + 1, 600 * day, 600 * day, "--leaf-life is 7776001s"),
            (3, 17, 18, "--intermediate-life is 17s, under six leaf lives (18s)"),
            (3, 18, 17, "--root-life is 17s"),
            (3, 18, 36_526 * day, "--root-life is 36526d, the limit"),
        ] {
            let error = Lives::new(s(leaf), s(intermediate), s(root)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_life_is_a_number_and_a_unit() {
        for (text, life) in [("3s", s(3)), ("10m", s(600)), ("24h", s(86_400)), ("30d", s(30 * 86_400))] {
            assert_eq!(parse_life(text).unwrap(), life);
        }
        assert_eq!(in_units(parse_life("24h").unwrap()), "1d");
        for text in [
            "",
            "s",
            "3",
            "-3s",
            "+3s",
            "3 s",
            "3ms",
            "1.5h",
            "99999999999999999999d",
            "9999999999999999999d",
        ] {
            assert!(parse_life(text).is_err(), "{text}");
        }
    }
}
