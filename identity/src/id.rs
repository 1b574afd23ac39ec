//! SPIFFE IDs and trust domains, to the letter of the SPIFFE-ID standard (sections 2.1 to 2.4).
//!
//! Nothing is normalised: a name that is not already in canonical form is refused, so that two spellings of
//! one identity can never be compared as different, or two identities as one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest trust domain name, in bytes (SPIFFE-ID 2.1, after the host part of a URI).
const MAX_TRUST_DOMAIN: usize = 255;
/// Longest SPIFFE ID, in bytes (SPIFFE-ID 2.3).
const MAX_ID: usize = 2048;
const SCHEME: &str = "spiffe://";

/// What is wrong with a text that should be a SPIFFE ID or a trust domain: one variant per defect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdDefect {
    /// Nothing between the scheme and the path, or an empty trust domain name.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// More than 255 bytes of trust domain.
    #[error("the trust domain has {0} bytes, the limit is 255")]
    TrustDomainTooLong(usize),
    /// A byte other than `a-z0-9.-_` in the trust domain.
    #[error("the trust domain has the character {0:?}, allowed are a-z 0-9 . - _")]
    TrustDomainCharacter(char),
    /// More than 2,048 bytes of ID.
    #[error("the SPIFFE ID has {0} bytes, the limit is 2048")]
    TooLong(usize),
    /// Not `spiffe://`.
    #[error("a SPIFFE ID starts with spiffe://")]
    Scheme,
    /// `user@` before the trust domain.
    #[error("a SPIFFE ID has no user part")]
    UserInfo,
    /// `:443` after the trust domain.
    #[error("a SPIFFE ID has no port")]
    Port,
    /// `?`.
    #[error("a SPIFFE ID has no query")]
    Query,
    /// `#`.
    #[error("a SPIFFE ID has no fragment")]
    Fragment,
    /// `%`.
    #[error("a SPIFFE ID is never percent-encoded")]
    PercentEncoded,
    /// `//` inside the path.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `/` at the end.
    #[error("the path ends in a slash")]
    TrailingSlash,
    /// `.` or `..` as a segment.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A byte other than `a-zA-Z0-9.-_` in a path segment.
    #[error("the path has the character {0:?}, allowed are a-z A-Z 0-9 . - _")]
    PathCharacter(char),
    /// A workload's ID is needed and this one names only the trust domain.
    #[error("the SPIFFE ID has no path")]
    NoPath,
    /// A path that is not `/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    #[error("the path is not /ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    NotAWorkload,
}

/// The name of a trust domain: `cluster.local`. At most 255 bytes of `a-z0-9.-_`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name, without scheme.
    ///
    /// # Errors
    /// The first defect met, see [`IdDefect`].
    pub fn parse(name: &str) -> Result<Self, IdDefect> {
        if name.is_empty() {
            return Err(IdDefect::EmptyTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN {
            return Err(IdDefect::TrustDomainTooLong(name.len()));
        }
        match name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
            Some('%') => Err(IdDefect::PercentEncoded),
            Some('@') => Err(IdDefect::UserInfo),
            Some(':') => Err(IdDefect::Port),
            Some(other) => Err(IdDefect::TrustDomainCharacter(other)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name, without scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the trust domain itself, as CA certificates carry it: `spiffe://cluster.local`.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId { text: format!("{SCHEME}{self}").into(), trust_domain: self.clone() }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({self})")
    }
}

impl FromStr for TrustDomain {
    type Err = IdDefect;
    fn from_str(s: &str) -> Result<Self, IdDefect> {
        Self::parse(s)
    }
}

/// A SPIFFE ID: `spiffe://cluster.local/ns/production/sa/api`. At most 2,048 bytes, always canonical.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomain,
}

impl SpiffeId {
    /// Parses the text of a URI.
    ///
    /// # Errors
    /// The first defect met, see [`IdDefect`].
    pub fn parse(text: &str) -> Result<Self, IdDefect> {
        if text.len() > MAX_ID {
            return Err(IdDefect::TooLong(text.len()));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdDefect::Scheme)?;
        for (byte, defect) in
            [('?', IdDefect::Query), ('#', IdDefect::Fragment), ('%', IdDefect::PercentEncoded)]
        {
            if rest.contains(byte) {
                return Err(defect);
            }
        }
        let trust_domain = match rest.split_once('/') {
            None => TrustDomain::parse(rest)?,
            Some((trust_domain, path)) => {
                let trust_domain = TrustDomain::parse(trust_domain)?;
                check_path(path)?;
                trust_domain
            }
        };
        Ok(Self { text: text.into(), trust_domain })
    }

    /// The trust domain that vouches for the identity.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash; empty for the ID of a trust domain.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(SCHEME.len() + self.trust_domain.0.len()..).unwrap_or_default()
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// `path` is what follows the first slash after the trust domain.
fn check_path(path: &str) -> Result<(), IdDefect> {
    if path.is_empty() || path.ends_with('/') {
        return Err(IdDefect::TrailingSlash);
    }
    path.split('/').try_for_each(check_segment)
}

/// One segment of a path (SPIFFE-ID 2.2).
pub(crate) fn check_segment(segment: &str) -> Result<(), IdDefect> {
    match segment {
        "" => return Err(IdDefect::EmptySegment),
        "." | ".." => return Err(IdDefect::DotSegment),
        _ => {}
    }
    match segment.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_')) {
        Some(odd) => Err(IdDefect::PathCharacter(odd)),
        None => Ok(()),
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = IdDefect;
    fn from_str(s: &str) -> Result<Self, IdDefect> {
        Self::parse(s)
    }
}

/// The identity of a workload, in Istio's shape: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    id: SpiffeId,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl Workload {
    /// Builds the identity from its three names.
    ///
    /// # Errors
    /// [`IdDefect`] when a name holds what an ID may not hold.
    pub fn new(trust_domain: &TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdDefect> {
        SpiffeId::parse(&format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}"))?.try_into()
    }

    /// The whole ID.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// `NAMESPACE` of `/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `SERVICE_ACCOUNT` of `/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl TryFrom<SpiffeId> for Workload {
    type Error = IdDefect;

    fn try_from(id: SpiffeId) -> Result<Self, IdDefect> {
        let mut segments = id.path().split('/');
        let (Some(""), Some("ns"), Some(namespace), Some("sa"), Some(service_account), None) = (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        ) else {
            return Err(if id.path().is_empty() { IdDefect::NoPath } else { IdDefect::NotAWorkload });
        };
        let (namespace, service_account) = (namespace.into(), service_account.into());
        Ok(Self { id, namespace, service_account })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_splits_into_trust_domain_and_path() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/production/sa/api").unwrap();
        assert_eq!(id.trust_domain().as_str(), "cluster.local");
        assert_eq!(id.path(), "/ns/production/sa/api");
        let workload = Workload::try_from(id).unwrap();
        assert_eq!((workload.namespace(), workload.service_account()), ("production", "api"));
    }

    #[test]
    fn each_defect_has_its_own_name() {
        let long_domain = "a".repeat(256);
        let long_id = format!("spiffe://td/{}", "a".repeat(2048));
        for (text, defect) in [
            ("", IdDefect::Scheme),
            ("SPIFFE://td/a", IdDefect::Scheme),
            ("https://td/a", IdDefect::Scheme),
            ("spiffe:/td/a", IdDefect::Scheme),
            ("spiffe://", IdDefect::EmptyTrustDomain),
            ("spiffe:///a", IdDefect::EmptyTrustDomain),
            ("spiffe://TD/a", IdDefect::TrustDomainCharacter('T')),
            ("spiffe://t d/a", IdDefect::TrustDomainCharacter(' ')),
            ("spiffe://user@td/a", IdDefect::UserInfo),
            ("spiffe://td:443/a", IdDefect::Port),
            ("spiffe://td/a?q", IdDefect::Query),
            ("spiffe://td/a#f", IdDefect::Fragment),
            ("spiffe://td/%2e%2e/a", IdDefect::PercentEncoded),
            ("spiffe://td/", IdDefect::TrailingSlash),
            ("spiffe://td/a/", IdDefect::TrailingSlash),
            ("spiffe://td/a//b", IdDefect::EmptySegment),
            ("spiffe://td//a", IdDefect::EmptySegment),
            ("spiffe://td/./a", IdDefect::DotSegment),
            ("spiffe://td/a/..", IdDefect::DotSegment),
            ("spiffe://td/ä", IdDefect::PathCharacter('ä')),
            ("spiffe://td/a\0b", IdDefect::PathCharacter('\0')),
            (&format!("spiffe://{long_domain}/a"), IdDefect::TrustDomainTooLong(256)),
            (&long_id, IdDefect::TooLong(long_id.len())),
        ] {
            assert_eq!(SpiffeId::parse(text).unwrap_err(), defect, "{text:?}");
        }
    }

    #[test]
    fn limits_are_met_exactly() {
        assert!(TrustDomain::parse(&"a".repeat(255)).is_ok());
        let fill = MAX_ID - "spiffe://td/".len();
        assert!(SpiffeId::parse(&format!("spiffe://td/{}", "a".repeat(fill))).is_ok());
        assert!(SpiffeId::parse(&format!("spiffe://td/{}", "a".repeat(fill + 1))).is_err());
    }

    #[test]
    fn a_workload_is_exactly_namespace_and_service_account() {
        for path in ["", "/ns/a", "/ns/a/sa", "/ns/a/sa/b/c", "/sa/b/ns/a", "/x"] {
            let id = SpiffeId::parse(&format!("spiffe://td{path}")).unwrap();
            assert!(Workload::try_from(id).is_err(), "{path}");
        }
        let td = TrustDomain::parse("td").unwrap();
        assert!(Workload::new(&td, "a/sa/b", "c").is_err(), "a name cannot smuggle a segment");
    }
}
