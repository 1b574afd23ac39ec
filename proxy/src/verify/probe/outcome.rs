//! What came of an attempt, in words that say how it is known.

use std::time::Duration;

use rustls::AlertDescription;

/// Characters of an answer that are shown: it is the server's text.
const MAX_SHOWN: usize = 60;

/// One attempt and its end.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Its name in JSON; one of a closed set.
    pub name: &'static str,
    /// What was tried, in words.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub verdict: Verdict,
    /// How it ended.
    pub how: String,
}

/// Whether an attempt was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Refused,
    /// Something was answered.
    GotIn,
    /// Neither an answer nor a refusal: nothing is proven, so it does not pass.
    Unclear,
    /// Asked for information; neither good nor bad.
    Information,
}

impl Verdict {
    /// Its name in JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::GotIn => "got_in",
            Self::Unclear => "unclear",
            Self::Information => "information",
        }
    }
}

impl Outcome {
    pub(super) fn refused(how: impl Into<String>) -> Self {
        Self { verdict: Verdict::Refused, how: how.into() }
    }

    pub(super) fn unclear(how: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unclear, how: how.into() }
    }

    pub(super) fn information(how: impl Into<String>) -> Self {
        Self { verdict: Verdict::Information, how: how.into() }
    }

    /// `bytes` of the application came back.
    pub(super) fn got_in(by: &str, bytes: &[u8]) -> Self {
        Self { verdict: Verdict::GotIn, how: format!("{by}: answered {}", shown(bytes)) }
    }

    pub(super) fn alert(alert: AlertDescription) -> Self {
        Self::refused(format!("alert {}", alert_name(alert)))
    }
}

/// The first line of what a server said, safe to print and short.
pub(super) fn shown(bytes: &[u8]) -> String {
    // The first HTTP/2 frame a server sends is SETTINGS: length, then type 4 (RFC 9113, 3.4).
    if let [0, _, _, 4, _, 0, 0, 0, 0, ..] = bytes {
        return "HTTP/2 SETTINGS".to_owned();
    }
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let text: String = line.escape_ascii().map(char::from).take(MAX_SHOWN).collect();
    let more = if line.escape_ascii().count() > MAX_SHOWN { "..." } else { "" };
    format!("\"{text}{more}\"")
}

/// As RFC 8446, section 6, writes it: `certificate_required`.
pub(super) fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut before_is_small = false;
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && before_is_small {
            name.push('_');
        }
        before_is_small = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        for (alert, name) in [
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::ProtocolVersion, "protocol_version"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn what_a_server_says_is_shown_short_and_harmless() {
        assert_eq!(shown(b"HTTP/1.1 200 OK\r\nserver: x\r\n"), "\"HTTP/1.1 200 OK\"");
        assert_eq!(shown(b"\x1b[31mred\x00"), "\"\\x1b[31mred\\x00\"");
        assert_eq!(shown(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3]), "HTTP/2 SETTINGS");
        assert_eq!(shown(&[b'x'; 100]), format!("\"{}...\"", "x".repeat(60)));
        assert_eq!(shown(b""), "\"\"");
    }
}
