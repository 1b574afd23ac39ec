//! Changes to header fields, and the fields that no policy may change.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Changes to the header fields of a request and of its response, in the order: remove, set, add.
#[derive(Debug, Clone, Default)]
pub struct HeaderRules {
    /// Of the request.
    pub request: HeaderChanges,
    /// Of the response.
    pub response: HeaderChanges,
}

/// Changes to header fields.
#[derive(Debug, Clone, Default)]
pub struct HeaderChanges {
    /// Replaced or made.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Made beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Taken out.
    pub remove: Vec<HeaderName>,
}

/// Fields that say where a message ends, or belong to one connection (RFC 9110, 7.6.1; RFC 9113, 8.2.2).
const OF_THE_MESSAGE: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Why a field is not a policy's to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// It addresses the message.
    #[error("the host is changed with rewrite.authority")]
    Host,
    /// It frames the message, or belongs to the connection.
    #[error("it frames the message or belongs to one connection, which are the proxy's")]
    Framing,
    /// It says who calls.
    #[error("it tells who calls, which only the proxy knows")]
    Identity,
}

impl Reserved {
    /// Why `name` is reserved, if it is.
    #[must_use]
    pub fn of(name: &HeaderName) -> Option<Self> {
        let name = name.as_str();
        if is_spelling(name, "x-forwarded-client-cert") || is_ours(name) {
            Some(Self::Identity)
        } else if name == header::HOST.as_str() {
            Some(Self::Host)
        } else {
            OF_THE_MESSAGE
                .iter()
                .any(|reserved| is_spelling(name, reserved.as_str()))
                .then_some(Self::Framing)
        }
    }
}

/// Whether an app might read `name` as `known`: frameworks turn `-` and `_` into one another, and CGI
/// (RFC 3875, 4.1.18) may turn every other sign into `_`.
fn is_spelling(name: &str, known: &str) -> bool {
    let dashed = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    name.len() == known.len() && name.bytes().map(dashed).eq(known.bytes())
}

fn is_ours(name: &str) -> bool {
    const OURS: &str = "x-portcullis";
    name.get(..OURS.len()).is_some_and(|start| is_spelling(start, OURS))
}

impl HeaderChanges {
    /// Removes, then sets, then adds. Never touches a [`Reserved`] field, whatever the changes say.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in self.remove.iter().filter(|name| Reserved::of(name).is_none()) {
            headers.remove(name);
        }
        for (name, value) in self.set.iter().filter(|(name, _)| Reserved::of(name).is_none()) {
            // Fails only beyond the 32,768 fields that a map can hold: then the message is refused anyway.
            let _ = headers.try_insert(name, value.clone());
        }
        for (name, value) in self.add.iter().filter(|(name, _)| Reserved::of(name).is_none()) {
            let _ = headers.try_append(name, value.clone());
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
