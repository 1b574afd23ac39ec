//! Conditions on a request. What is compared is what the client sent, byte for byte: nothing is decoded or
//! normalised, as in Envoy. Routing is no boundary; whoever guards a path does so where it is served.

use std::borrow::Cow;

use http::header::{COOKIE, HOST, HeaderMap, HeaderName};
use http::request::Parts;
use regex::{Regex, RegexBuilder};

/// What an app sends in the clear; the sidecar takes nothing else from it.
pub(crate) const SCHEME: &[u8] = b"http";
/// Bytes of a regular expression as written.
const MAX_EXPRESSION: usize = 1024;
/// Bytes of a compiled expression, and of what its search keeps for each thread: `(\w{100}){100}` is refused.
const MAX_COMPILED: usize = 1024 * 1024;

/// All conditions must be met.
#[derive(Debug, Clone, Default)]
pub struct HttpMatch {
    /// On the path, without the query.
    pub uri: Option<UriMatch>,
    /// On the scheme, which is always `http`.
    pub scheme: Option<TextMatch>,
    /// On the method, in its own case.
    pub method: Option<TextMatch>,
    /// On the authority as the client wrote it, with its port if it has one.
    pub authority: Option<TextMatch>,
    /// Each must be there and fit. Several fields of one name are one value, joined by commas.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// None of these may be there and fit.
    pub without_headers: Vec<(HeaderName, ValueMatch)>,
    /// Each must be there and fit, in the first parameter of that name; `%41` is not `A` here.
    pub query_params: Vec<(String, ValueMatch)>,
}

impl HttpMatch {
    /// Whether a request meets every condition.
    #[must_use]
    pub fn is_met(&self, head: &Parts) -> bool {
        let fits = |condition: &Option<TextMatch>, text: &[u8]| {
            condition.as_ref().is_none_or(|condition| condition.is_met(text))
        };
        let authority = head.headers.get(HOST).map(http::HeaderValue::as_bytes).unwrap_or_default();
        self.uri.as_ref().is_none_or(|uri| uri.is_met(head.uri.path()))
            && fits(&self.scheme, SCHEME)
            && fits(&self.method, head.method.as_str().as_bytes())
            && fits(&self.authority, authority)
            && self.headers.iter().all(|(name, value)| has(&head.headers, name, value))
            && !self.without_headers.iter().any(|(name, value)| has_any(&head.headers, name, value))
            && self.query_params.iter().all(|(name, value)| asks(head.uri.query(), name, value))
    }

    /// Whether every request meets it.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.uri.is_none()
            && self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query_params.is_empty()
    }
}

fn has(headers: &HeaderMap, name: &HeaderName, condition: &ValueMatch) -> bool {
    joined(headers, name).is_some_and(|value| condition.is_met(&value))
}

/// As [`has`], and also when one of several fields fits alone: nobody hides a field behind a second one.
fn has_any(headers: &HeaderMap, name: &HeaderName, condition: &ValueMatch) -> bool {
    headers.get_all(name).iter().any(|value| condition.is_met(value.as_bytes()))
        || has(headers, name, condition)
}

/// The fields of one name as one value (RFC 9110, 5.3; cookies as in RFC 9113, 8.2.3).
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b"," };
    let mut values = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    let first = Cow::Borrowed(values.next()?);
    Some(values.fold(first, |mut all, value| {
        let text = all.to_mut();
        text.extend_from_slice(separator);
        text.extend_from_slice(value);
        all
    }))
}

fn asks(query: Option<&str>, name: &str, condition: &ValueMatch) -> bool {
    let mut parameters = query.into_iter().flat_map(|query| query.split('&'));
    let value = parameters.find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (key == name).then_some(value)
    });
    value.is_some_and(|value| condition.is_met(value.as_bytes()))
}

/// A condition on the path.
#[derive(Debug, Clone)]
pub struct UriMatch {
    /// On the path.
    pub text: TextMatch,
    /// Whether letters of either case are the same; never for a regular expression.
    pub ignore_case: bool,
}

impl UriMatch {
    /// Whether a path, which has no query, meets it.
    #[must_use]
    pub fn is_met(&self, path: &str) -> bool {
        match &self.text {
            TextMatch::Exact(exact) if self.ignore_case => path.eq_ignore_ascii_case(exact),
            TextMatch::Prefix(_) => self.behind_prefix(path).is_some(),
            TextMatch::Exact(_) | TextMatch::Regex(_) => self.text.is_met(path.as_bytes()),
        }
    }

    /// What follows the prefix, if the condition is one and `path` begins with it.
    #[must_use]
    pub fn behind_prefix<'a>(&self, path: &'a str) -> Option<&'a str> {
        let TextMatch::Prefix(prefix) = &self.text else { return None };
        let (start, rest) = path.split_at_checked(prefix.len())?;
        let same = if self.ignore_case { start.eq_ignore_ascii_case(prefix) } else { start == prefix };
        same.then_some(rest)
    }
}

/// A condition on a text.
#[derive(Debug, Clone)]
pub enum TextMatch {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// RE2 syntax, on the whole text: the expression is anchored at both ends.
    Regex(Regex),
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadExpression {
    /// As written it is long.
    #[error("longer than {MAX_EXPRESSION} bytes")]
    Long,
    /// Compiled it is large.
    #[error("too large when compiled: write fewer or smaller repetitions")]
    Large,
    /// It is none.
    #[error("not a regular expression (RE2 syntax): {0}")]
    Syntax(String),
}

impl TextMatch {
    /// An expression that has to fit the whole text, in time linear to the text's length.
    ///
    /// # Errors
    /// [`BadExpression`].
    pub fn regex(expression: &str) -> Result<Self, BadExpression> {
        // Alone first: "a)|(b" is not an expression, and would be one between the anchors.
        compile(expression)?;
        compile(&format!(r"\A(?:{expression})\z")).map(Self::Regex)
    }

    /// Whether a text meets it.
    #[must_use]
    pub fn is_met(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => text == exact.as_bytes(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            // Bytes that are not UTF-8 each count as one strange letter, which "." accepts.
            Self::Regex(expression) => expression.is_match(&String::from_utf8_lossy(text)),
        }
    }
}

/// Compiles an expression that is not anchored, within bounds.
pub(super) fn compile(expression: &str) -> Result<Regex, BadExpression> {
    if expression.len() > MAX_EXPRESSION {
        return Err(BadExpression::Long);
    }
    let built = RegexBuilder::new(expression).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
    built.map_err(|error| {
        if let regex::Error::CompiledTooBig(_) = error {
            return BadExpression::Large;
        }
        // The last line says what is wrong; those before it draw where.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        BadExpression::Syntax(last.trim_start_matches("error: ").to_owned())
    })
}

/// A condition on a header or query parameter.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// It is there, whatever its value.
    Present,
    /// It has such a value.
    Text(TextMatch),
}

impl ValueMatch {
    fn is_met(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Text(text) => text.is_met(value),
        }
    }
}
