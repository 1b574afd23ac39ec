//! How a rule names texts, hosts, paths and principals: the four forms of Istio's, and path templates.

use std::fmt;

use portcullis_identity::{SpiffeId, Workload};

use super::path::NormalPath;

/// Stands for the own trust domain in principals, whatever its name is.
const OWN_TRUST_DOMAIN: &str = "cluster.local";
const SCHEME: &str = "spiffe://";
/// One segment of a path.
const ONE: &str = "{*}";
/// Any number of segments.
const ANY: &str = "{**}";

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

fn bad<T>(message: impl Into<String>) -> Result<T, BadPattern> {
    Err(BadPattern(message.into()))
}

/// A list and its `not` twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// One of these has to fit. Empty: nothing has to.
    pub any: Vec<T>,
    /// None of these may fit.
    pub none: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { any: Vec::new(), none: Vec::new() }
    }
}

impl<T> Listed<T> {
    /// Whether it asks for anything.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.any.is_empty() || !self.none.is_empty()
    }

    /// Whether what `fits` speaks of is what the lists ask for.
    pub fn is_met(&self, fits: impl Fn(&T) -> bool) -> bool {
        (self.any.is_empty() || self.any.iter().any(&fits)) && !self.none.iter().any(&fits)
    }
}

/// A text by itself, by its beginning or by its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// `*`: anything but the empty text.
    Present,
    /// `abc`.
    Exact(Box<str>),
    /// `abc*`.
    Prefix(Box<str>),
    /// `*abc`.
    Suffix(Box<str>),
}

impl StringMatch {
    /// Reads one of the four forms.
    ///
    /// # Errors
    /// [`BadPattern`] for an empty text, and for a `*` that stands neither first nor last: elsewhere it would mean
    /// itself, which nobody expects.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let (form, rest): (fn(Box<str>) -> Self, &str) =
            match (text.strip_prefix('*'), text.strip_suffix('*')) {
                (Some(""), _) => return Ok(Self::Present),
                (Some(rest), _) => (Self::Suffix, rest),
                (None, Some(rest)) => (Self::Prefix, rest),
                (None, None) => (Self::Exact, text),
            };
        match rest {
            "" => bad("an empty text never matches: remove it"),
            _ if rest.contains('*') => {
                bad("one * at the beginning or the end is all there is: abc, abc*, *abc or *")
            }
            _ => Ok(form(rest.into())),
        }
    }

    /// Whether `text` fits, byte by byte.
    #[must_use]
    pub fn fits(&self, text: &[u8]) -> bool {
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(exact) => text == exact.as_bytes(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_bytes()),
        }
    }

    /// The same without heed to the case of letters. The pattern is in lower case.
    fn fits_any_case(&self, text: &[u8]) -> bool {
        self.fits(&text.to_ascii_lowercase())
    }

    /// What is not `*`.
    fn text(&self) -> &str {
        match self {
            Self::Present => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text,
        }
    }
}

/// A name of the DNS (`Host`, SNI), whatever the case of its letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMatch {
    name: StringMatch,
    /// Whether the pattern speaks of the port too.
    has_port: bool,
}

impl HostMatch {
    /// Reads `example.com`, `*.example.com`, `example.com:8080` or `example.com:*`. Without a port, any will do.
    ///
    /// # Errors
    /// [`BadPattern`], as for [`StringMatch::parse`].
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let name = StringMatch::parse(&text.to_ascii_lowercase())?;
        let has_port = split_port(name.text().as_bytes()).1;
        Ok(Self { name, has_port })
    }

    /// Whether the value of a `Host` field, or a name, fits. A dot at the end says nothing (RFC 1034, 3.1).
    #[must_use]
    pub fn fits(&self, host: &[u8]) -> bool {
        let (name, _) = split_port(host);
        let bare = name.strip_suffix(b".").unwrap_or(name);
        if self.has_port {
            let port = host.get(name.len()..).unwrap_or_default();
            return self.name.fits_any_case(&[bare, port].concat());
        }
        self.name.fits_any_case(bare)
    }
}

/// The name before the port, and whether there is one. In an IPv6 address only what follows the bracket counts.
fn split_port(host: &[u8]) -> (&[u8], bool) {
    let colon = host.iter().rposition(|byte| *byte == b':');
    let bracket = host.iter().rposition(|byte| *byte == b']');
    match colon.filter(|colon| bracket.is_none_or(|bracket| bracket < *colon)) {
        Some(colon) => (host.get(..colon).unwrap_or_default(), true),
        None => (host, false),
    }
}

/// `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`, as Istio writes an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalMatch(StringMatch);

impl PrincipalMatch {
    /// Reads a principal in one of the four forms. `cluster.local/` at the beginning stands for the own trust
    /// domain.
    ///
    /// # Errors
    /// [`BadPattern`] for what no identity could be like.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.contains("://") {
            return bad("write the principal without spiffe://, such as cluster.local/ns/NAMESPACE/sa/NAME");
        }
        let pattern = StringMatch::parse(text)?;
        if let StringMatch::Exact(exact) = &pattern
            && let Err(defect) = SpiffeId::parse(&format!("{SCHEME}{exact}"))
        {
            return bad(format!("no identity is like this: {defect}"));
        }
        Ok(Self(pattern))
    }

    /// Whether an identity of the own trust domain fits.
    #[must_use]
    pub fn fits(&self, id: &SpiffeId) -> bool {
        let principal = id.as_str().strip_prefix(SCHEME).unwrap_or_default();
        let alias = || format!("{OWN_TRUST_DOMAIN}{}", id.path());
        let speaks_of_own =
            self.0.text().strip_prefix(OWN_TRUST_DOMAIN).is_some_and(|path| path.starts_with('/'));
        self.0.fits(principal.as_bytes())
            || (speaks_of_own
                && !matches!(self.0, StringMatch::Suffix(_))
                && id.trust_domain().as_str() != OWN_TRUST_DOMAIN
                && self.0.fits(alias().as_bytes()))
    }
}

/// One service account. There are no wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    namespace: Box<str>,
    name: Box<str>,
}

impl ServiceAccount {
    /// Reads `NAMESPACE/NAME`, or `NAME` in the namespace of the policy.
    ///
    /// # Errors
    /// [`BadPattern`] for anything else, wildcards included.
    pub fn parse(text: &str, own_namespace: &str) -> Result<Self, BadPattern> {
        let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        };
        if is_name(namespace) && is_name(name) {
            Ok(Self { namespace: namespace.into(), name: name.into() })
        } else {
            bad("write NAMESPACE/NAME, or NAME in the policy's own namespace; there are no wildcards here")
        }
    }

    /// Whether it is the workload's.
    #[must_use]
    pub fn fits(&self, workload: &Workload) -> bool {
        workload.namespace() == &*self.namespace && workload.service_account() == &*self.name
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A path: one of the four forms, or a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// One of the four forms.
    Text(StringMatch),
    /// `/a/{*}/b` and `/a/{**}`.
    Template(PathTemplate),
}

/// Segments of which some may be any. `{*}` is one segment that is not empty; `{**}`, which may stand once and after
/// all others, is whatever is between the slashes around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    head: Vec<Segment>,
    /// What follows `{**}`, if there is one.
    tail: Option<Vec<Segment>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    One,
    Text(Box<str>),
}

impl Segment {
    fn fits(&self, segment: &str) -> bool {
        match self {
            Self::One => !segment.is_empty(),
            Self::Text(text) => segment == &**text,
        }
    }
}

impl PathMatch {
    /// Reads a pattern. What it says is brought into the form that paths are matched in, so that `/%61` is `/a`.
    ///
    /// # Errors
    /// [`BadPattern`] for what no path can be like.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.contains(['{', '}']) {
            return PathTemplate::parse(text).map(Self::Template);
        }
        let pattern = StringMatch::parse(text)?;
        Ok(Self::Text(match pattern {
            StringMatch::Present => StringMatch::Present,
            StringMatch::Exact(path) => StringMatch::Exact(normal(&path)?.into()),
            // A letter stands for what follows or goes before: `/.` begins `/.git`, and is cleaned up by itself.
            StringMatch::Prefix(path) => {
                let path = normal(&format!("{path}x"))?;
                StringMatch::Prefix(path.strip_suffix('x').unwrap_or_default().into())
            }
            StringMatch::Suffix(end) => {
                let path = normal(&format!("/x{end}"))?;
                StringMatch::Suffix(path.strip_prefix("/x").unwrap_or_default().into())
            }
        }))
    }

    /// Whether a reading of a path fits.
    #[must_use]
    pub fn fits(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.fits(path.as_bytes()),
            Self::Template(template) => template.fits(path),
        }
    }
}

/// The form that paths are matched in, which a pattern must not differ from by more than its encoding.
fn normal(path: &str) -> Result<String, BadPattern> {
    if let Some(odd) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '?') {
        let advice = if odd == '?' { "queries are not part of a path" } else { "write it percent-encoded" };
        return bad(format!("no path has {odd:?}: {advice}"));
    }
    let normal =
        NormalPath::of(path).map_err(|defect| BadPattern(format!("no path is like this: {defect}")))?;
    if normal.readings().count() > 1 {
        return bad(format!("paths are cleaned up before matching: write {}", normal.clean()));
    }
    Ok(normal.clean().to_owned())
}

impl PathTemplate {
    fn parse(text: &str) -> Result<Self, BadPattern> {
        let Some(segments) = text.strip_prefix('/') else { return bad("a template begins with /") };
        let (mut head, mut tail) = (Vec::new(), None);
        for segment in segments.split('/') {
            let segment = match segment {
                ANY | ONE if tail.is_some() => return bad("{**} has to be the last operator of a template"),
                ANY => {
                    tail = Some(Vec::new());
                    continue;
                }
                ONE => Segment::One,
                text if text.contains(['{', '}', '*']) => {
                    return bad("{*} and {**} stand for whole segments, and * has no meaning beside them");
                }
                text => {
                    let text = normal(&format!("/{text}"))?;
                    Segment::Text(text.strip_prefix('/').unwrap_or_default().into())
                }
            };
            tail.as_mut().unwrap_or(&mut head).push(segment);
        }
        Ok(Self { head, tail })
    }

    fn fits(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut segments: Vec<&str> = path.split('/').collect();
        let Some(tail) = &self.tail else { return fit(&self.head, &segments) };
        if segments.len() <= self.head.len() + tail.len() {
            return false;
        }
        let end = segments.split_off(segments.len() - tail.len());
        segments.truncate(self.head.len());
        fit(&self.head, &segments) && fit(tail, &end)
    }
}

fn fit(template: &[Segment], segments: &[&str]) -> bool {
    template.len() == segments.len() && template.iter().zip(segments).all(|(one, text)| one.fits(text))
}
