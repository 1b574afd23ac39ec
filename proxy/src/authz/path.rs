//! One spelling for each path, before a rule looks at it.
//!
//! The app gets the path as the caller wrote it. A rule must therefore never see less than the app may: what servers
//! read in different ways is refused, and what they may or may not clean up is matched in both readings.
//!
//! | in the path | what becomes of it |
//! |---|---|
//! | `%61`, `%3d`: what may stand in a path unencoded | decoded, in both readings |
//! | `%20`, `%7b`, `%e4%bd%a0`: anything else | stays encoded, in capital letters |
//! | `//`, `/./`, `/../` (also as `%2e`) | kept in one reading, cleaned up in the other |
//! | `%2f`, `\`, `%5c`, `;`, `%3b`, `#`, control bytes, `%00`, `%252e`, `%zz`, bytes beyond ASCII, encoded bytes that are no UTF-8, `//` that a `..` leads back to | refused |
//!
//! So every path passes unchanged to the app that is not refused; when no rule looks at paths, none is. Queries are
//! never looked at.

use std::borrow::Cow;

/// Why a path could mean two things (RFC 3986, 2.2 and 6.2.2; CWE-41, CWE-172).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousPath {
    /// It does not begin with `/`.
    #[error("it does not begin with /")]
    NotAbsolute,
    /// `%2f`: a separator to some, a letter to others.
    #[error("it has an encoded slash (%2f)")]
    EncodedSlash,
    /// `\` or `%5c`: a separator to some.
    #[error("it has a backslash")]
    Backslash,
    /// `;` or `%3b`: some cut it off with what follows, as in `..;`.
    #[error("it has a path parameter (;)")]
    Parameter,
    /// `#`, where a fragment would begin.
    #[error("it has a #")]
    Fragment,
    /// A control byte, plain or encoded, `%00` among them.
    #[error("it has a control byte")]
    Control,
    /// `%252e`: who decodes twice reads something else.
    #[error("it is encoded twice (%25 before two hexadecimal digits)")]
    EncodedTwice,
    /// `%` without two hexadecimal digits.
    #[error("it has a % without two hexadecimal digits")]
    BadEncoding,
    /// A byte beyond ASCII that is not encoded.
    #[error("it has a byte beyond ASCII that is not percent-encoded")]
    NotAscii,
    /// Encoded bytes that are no UTF-8, overlong forms of `/` and `.` among them.
    #[error("its encoded bytes are not UTF-8")]
    NotUtf8,
    /// `//..` or `//a/../..`: what it leads to depends on what is cleaned up first.
    #[error("it has an empty segment that a .. leads back to")]
    EmptyBeforeDots,
}

/// A path in the readings that an app may have of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    decoded: Cow<'a, str>,
    /// Absent when nothing had to be cleaned up.
    clean: Option<String>,
}

impl<'a> NormalPath<'a> {
    /// Reads the path of a request, without its query. `*` (of `OPTIONS *`) and nothing (of CONNECT) stay as they
    /// are.
    ///
    /// # Errors
    /// [`AmbiguousPath`] when it could mean two things.
    pub fn of(path: &'a str) -> Result<Self, AmbiguousPath> {
        if matches!(path, "" | "*") {
            return Ok(Self { decoded: Cow::Borrowed(path), clean: None });
        }
        let decoded = decode(path)?;
        let Some(segments) = decoded.strip_prefix('/') else { return Err(AmbiguousPath::NotAbsolute) };
        let is_clean = !decoded.contains("//") && !decoded.contains("/.");
        let clean = if is_clean { None } else { Some(clean(segments)?) };
        let clean = clean.filter(|clean| *clean != decoded);
        Ok(Self { decoded, clean })
    }

    /// Without empty segments and dot segments.
    #[must_use]
    pub fn clean(&self) -> &str {
        self.clean.as_deref().unwrap_or(&self.decoded)
    }

    /// Every reading: one, or two that differ.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.decoded).chain(self.clean.as_deref())
    }
}

/// What may stand in a path unencoded (RFC 3986, 3.3: `pchar` and `/`), but for `;`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&byte)
}

/// Gives every byte its one spelling: plain if it may be, else encoded in capitals.
fn decode(path: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    if path.bytes().all(is_plain) {
        return Ok(Cow::Borrowed(path));
    }
    let mut spelled = String::with_capacity(path.len() + 16);
    let mut raw = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, encoded) = if byte == b'%' {
            let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex)) else {
                return Err(AmbiguousPath::BadEncoding);
            };
            (high << 4 | low, true)
        } else {
            (byte, false)
        };
        match byte {
            b'/' if encoded => return Err(AmbiguousPath::EncodedSlash),
            b'\\' => return Err(AmbiguousPath::Backslash),
            b';' => return Err(AmbiguousPath::Parameter),
            b'#' if !encoded => return Err(AmbiguousPath::Fragment),
            0..0x20 | 0x7f => return Err(AmbiguousPath::Control),
            0x80.. if !encoded => return Err(AmbiguousPath::NotAscii),
            _ => {}
        }
        raw.push(byte);
        if is_plain(byte) {
            spelled.push(char::from(byte));
        } else {
            spelled.push_str(&format!("%{byte:02X}"));
        }
    }
    let raw = String::from_utf8(raw).map_err(|_| AmbiguousPath::NotUtf8)?;
    // Looked for last: the digits may have been encoded themselves.
    if is_encoded_still(&raw) { Err(AmbiguousPath::EncodedTwice) } else { Ok(Cow::Owned(spelled)) }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether a text that has been decoded once could be decoded again.
fn is_encoded_still(text: &str) -> bool {
    text.split('%').skip(1).any(|rest| {
        let mut digits = rest.bytes();
        digits.next().and_then(hex).is_some() && digits.next().and_then(hex).is_some()
    })
}

/// Without empty and dot segments (RFC 3986, 5.2.4). `segments` is what follows the first slash.
fn clean(segments: &str) -> Result<String, AmbiguousPath> {
    let mut kept: Vec<&str> = Vec::new();
    // How many segments were kept before the latest empty one: no earlier one is ever deeper.
    let mut empty_after = None;
    let mut open_end = false;
    for segment in segments.split('/') {
        open_end = matches!(segment, "" | "." | "..");
        match segment {
            "" => empty_after = Some(kept.len()),
            "." => {}
            // Removing the empty segment first, or counting it as one: two different paths.
            ".." if empty_after == Some(kept.len()) => return Err(AmbiguousPath::EmptyBeforeDots),
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let end = if open_end && !kept.is_empty() { "/" } else { "" };
    Ok(format!("/{}{end}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_path_has_one_clean_form() {
        for (path, clean) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/../a", "/a"),
            ("/../../a/..", "/"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/.%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a//b/../c", "/a/c"),
            ("/a/b/../..//c", "/c"),
            ("/...", "/..."),
            ("/.a/..b/c.", "/.a/..b/c."),
            ("/%61dmin", "/admin"),
            ("/%7Euser", "/~user"),
            ("/a%3Db%3ac%40", "/a=b:c@"),
            ("/a%20b", "/a%20b"),
            ("/%e4%bd%a0", "/%E4%BD%A0"),
            ("/a%23b%3fc", "/a%23b%3Fc"),
            ("/100%25", "/100%25"),
            ("/%25zz", "/%25zz"),
            ("/{a}|\"", "/%7Ba%7D%7C%22"),
            ("/pkg.Service/Method", "/pkg.Service/Method"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(NormalPath::of(path).as_ref().map(NormalPath::clean), Ok(clean), "{path}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        use AmbiguousPath::*;
        for (path, defect) in [
            ("a", NotAbsolute),
            ("http://a/b", NotAbsolute),
            ("/a%2fb", EncodedSlash),
            ("/a%2Fb", EncodedSlash),
            ("/a\\b", Backslash),
            ("/a%5cb", Backslash),
            ("/a%5C..%5Cb", Backslash),
            ("/a/..;/b", Parameter),
            ("/a;b=c/d", Parameter),
            ("/a%3bb", Parameter),
            ("/a#b", Fragment),
            ("/a%00", Control),
            ("/a%0d%0ab", Control),
            ("/a%7f", Control),
            ("/a\u{1}", Control),
            ("/%252e%252e/a", EncodedTwice),
            ("/%25%32%65", EncodedTwice),
            ("/%%32%65", BadEncoding),
            ("/%25252e", EncodedTwice),
            ("/%252f", EncodedTwice),
            ("/%", BadEncoding),
            ("/%2", BadEncoding),
            ("/%zz", BadEncoding),
            ("/%+1", BadEncoding),
            ("/%u002e", BadEncoding),
            ("/ä", NotAscii),
            ("/%e4", NotUtf8),
            ("/%c0%af", NotUtf8),
            ("/%c0%ae%c0%ae/a", NotUtf8),
            ("/a//../b", EmptyBeforeDots),
            ("//../b", EmptyBeforeDots),
            ("/a//.//%2e%2e/b", EmptyBeforeDots),
            ("/a//b/../../c", EmptyBeforeDots),
            ("/a//b/c/../../../d", EmptyBeforeDots),
            ("/a//b//../../c", EmptyBeforeDots),
            ("//a/../../b", EmptyBeforeDots),
        ] {
            assert_eq!(NormalPath::of(path), Err(defect), "{path}");
        }
    }

    #[test]
    fn what_may_be_cleaned_up_has_two_readings() {
        let readings = |path: &'static str| -> Vec<String> {
            NormalPath::of(path).unwrap().readings().map(str::to_owned).collect()
        };
        assert_eq!(readings("/a/b"), ["/a/b"]);
        assert_eq!(readings("/%61/b"), ["/a/b"]);
        assert_eq!(readings("/a//b"), ["/a//b", "/a/b"]);
        assert_eq!(readings("/%61/%2e%2e/b"), ["/a/../b", "/b"]);
    }

    proptest! {
        #[test]
        fn a_clean_path_stays_as_it_is(path in "(/|\\.|%2e|%2f|%25|%|;|a|b|Z|%61|%E4%BD%A0|\\PC){0,12}") {
            let path = format!("/{path}");
            if let Ok(normal) = NormalPath::of(&path) {
                let clean = normal.clean().to_owned();
                let again = NormalPath::of(&clean).unwrap();
                prop_assert_eq!(again.clean(), &clean);
                prop_assert_eq!(again.readings().count(), 1);
                let odd = ["//", "/./", "/../", "\\", ";", "#"];
                prop_assert!(clean.starts_with('/') && !odd.iter().any(|odd| clean.contains(odd)), "{}", clean);
                prop_assert!(!clean.ends_with("/.") && !clean.ends_with("/.."), "{}", clean);
            }
        }
    }
}
