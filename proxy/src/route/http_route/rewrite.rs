//! Rewriting where a request goes. The result is a request target again, or there is none: a rewrite never lets
//! a path become a query, an authority or a second request.

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use regex::{Captures, Regex};

use super::matching::{BadExpression, UriMatch, compile};

/// Bytes of a request target, which is what the `http` crate can hold.
const MAX_TARGET: usize = 65_534;

/// What a request becomes before it is sent.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// The new path, or the part of it that a prefix match matched.
    pub uri: Option<UriRewrite>,
    /// The new authority.
    pub authority: Option<HeaderValue>,
}

/// How a path is rewritten; the query stays.
#[derive(Debug, Clone)]
pub enum UriRewrite {
    /// Under a prefix match the prefix is replaced, else the whole path.
    Replace(String),
    /// Every match of the expression, which is not anchored, is replaced; `\1` in the text is its first group.
    Regex(Regex, Replacement),
}

/// Why a request cannot be rewritten: answer 400, since other requests can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRewritable {
    /// What comes out is not a path.
    #[error("the rewritten path would not be a path")]
    NotAPath,
    /// What comes out is long.
    #[error("the rewritten path would be longer than {MAX_TARGET} bytes")]
    TooLong,
}

impl Rewrite {
    /// Rewrites the head of a request that met `matched` (`None`: no condition on the path). `*` is no path
    /// and stays. After an error the head is as it was.
    ///
    /// # Errors
    /// [`NotRewritable`].
    pub fn apply(&self, head: &mut Parts, matched: Option<&UriMatch>) -> Result<(), NotRewritable> {
        if let Some(uri) = self.uri.as_ref().filter(|_| head.uri.path() != "*") {
            head.uri = uri.target(&head.uri, matched)?;
        }
        if let Some(authority) = &self.authority {
            head.headers.insert(HOST, authority.clone());
        }
        Ok(())
    }
}

impl UriRewrite {
    fn target(&self, uri: &Uri, matched: Option<&UriMatch>) -> Result<Uri, NotRewritable> {
        let mut target = match self {
            Self::Replace(new) => {
                let rest = matched.and_then(|matched| matched.behind_prefix(uri.path())).unwrap_or_default();
                // `/api` to `/` is meant to make `/x` of `/api/x`; `//x` would be read as a host by some.
                let new = if rest.starts_with('/') { new.strip_suffix('/').unwrap_or(new) } else { new };
                format!("{new}{rest}")
            }
            Self::Regex(expression, replacement) => replaced(uri.path(), expression, replacement)?,
        };
        if !is_path(&target) {
            return Err(NotRewritable::NotAPath);
        }
        if let Some(query) = uri.query() {
            target.push('?');
            target.push_str(query);
        }
        if target.len() > MAX_TARGET {
            return Err(NotRewritable::TooLong);
        }
        PathAndQuery::try_from(target).map(Uri::from).map_err(|_| NotRewritable::NotAPath)
    }
}

/// Every match replaced. Stops as soon as the result is too long: one byte may become a thousand.
fn replaced(path: &str, expression: &Regex, replacement: &Replacement) -> Result<String, NotRewritable> {
    let mut result = String::with_capacity(path.len());
    let mut end = 0;
    for captures in expression.captures_iter(path) {
        let Some(whole) = captures.get(0) else { continue };
        result.push_str(path.get(end..whole.start()).unwrap_or_default());
        replacement.expand(&captures, &mut result);
        end = whole.end();
        if result.len() > MAX_TARGET {
            return Err(NotRewritable::TooLong);
        }
    }
    result.push_str(path.get(end..).unwrap_or_default());
    Ok(result)
}

/// Whether a text can be the path of a request target (RFC 3986, 3.3): from a `/` on, without `?` and `#`, and
/// with whole `%` escapes alone.
#[must_use]
pub(crate) fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    if bytes.next() != Some(b'/') {
        return false;
    }
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        let fits = match byte {
            b'%' => hex(bytes.next()) && hex(bytes.next()),
            b'?' | b'#' | b'\\' => false,
            _ => byte > b' ' && byte != 0x7f,
        };
        if !fits {
            return false;
        }
    }
    true
}

/// The text that replaces a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// What a group matched; 0 is the whole match.
    Group(usize),
}

/// Why a regular rewrite is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRewrite {
    /// The expression.
    #[error(transparent)]
    Expression(#[from] BadExpression),
    /// A group that the expression has not.
    #[error("the expression has no group {0}")]
    NoGroup(usize),
    /// A backslash before something else.
    #[error("write \\0 to \\9 for what a group matched, and \\\\ for a backslash")]
    Escape,
    /// A text that no path may have.
    #[error("not a part of a path: no space, no control character, no \"?\", no \"#\", only ASCII")]
    NotInAPath,
}

impl BadRewrite {
    /// Whether the text is bad, and not the expression.
    #[must_use]
    pub fn is_of_replacement(&self) -> bool {
        !matches!(self, Self::Expression(_))
    }
}

impl UriRewrite {
    /// A rewrite of every match of `expression` by `replacement`, in RE2's notation.
    ///
    /// # Errors
    /// [`BadRewrite`].
    pub fn regex(expression: &str, replacement: &str) -> Result<Self, BadRewrite> {
        let expression = compile(expression)?;
        let replacement = Replacement::parse(replacement, expression.captures_len())?;
        Ok(Self::Regex(expression, replacement))
    }
}

impl Replacement {
    fn parse(text: &str, groups: usize) -> Result<Self, BadRewrite> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut signs = text.chars();
        while let Some(sign) = signs.next() {
            match sign {
                '\\' => match signs.next() {
                    Some('\\') => plain.push('\\'),
                    Some(digit) => {
                        let group = digit.to_digit(10).and_then(|group| usize::try_from(group).ok());
                        let group = group.ok_or(BadRewrite::Escape)?;
                        if group >= groups {
                            return Err(BadRewrite::NoGroup(group));
                        }
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                        parts.push(Part::Group(group));
                    }
                    None => return Err(BadRewrite::Escape),
                },
                '!'..='~' if !matches!(sign, '?' | '#') => plain.push(sign),
                _ => return Err(BadRewrite::NotInAPath),
            }
        }
        parts.push(Part::Text(plain));
        Ok(Self(parts))
    }

    fn expand(&self, captures: &Captures<'_>, to: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(text) => to.push_str(text),
                Part::Group(group) => to.push_str(captures.get(*group).map_or("", |found| found.as_str())),
            }
        }
    }
}
