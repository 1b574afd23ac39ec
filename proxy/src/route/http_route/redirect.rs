//! Sending a client to another place.

use http::StatusCode;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

/// Another place for the client to ask.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// The whole new path; as asked for when not given. With a query of its own the one asked for is dropped.
    pub uri: Option<String>,
    /// The new authority; as asked for when not given.
    pub authority: Option<String>,
    /// `http` or `https`; `http` when not given.
    pub scheme: Option<String>,
    /// The port.
    pub port: RedirectPort,
}

/// The port that a client is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedirectPort {
    /// That of the authority. The one asked for is dropped with its scheme, when it is that scheme's default.
    #[default]
    AsAsked,
    /// The scheme's default, which is not written (`derivePort: FROM_PROTOCOL_DEFAULT`).
    OfScheme,
    /// This one (`port`, and `derivePort: FROM_REQUEST_PORT`), not written when it is the scheme's default.
    Number(u16),
}

impl Redirect {
    /// The value of `Location`, for a request in its inner form. When the client's `Host` is none it is a path
    /// alone (RFC 9110, 10.2.2), which no browser takes for another host.
    #[must_use]
    pub fn location(&self, head: &Parts) -> String {
        let mut target = match &self.uri {
            Some(uri) => uri.clone(),
            None if head.uri.path().starts_with('/') => head.uri.path().to_owned(),
            None => "/".to_owned(),
        };
        if let Some(query) = head.uri.query().filter(|_| !target.contains('?')) {
            target.push('?');
            target.push_str(query);
        }
        let asked = || head.headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        // "//" begins a host, and so does "/\" for browsers (WHATWG URL, 4.4).
        let path_alone = || format!("/{}", target.trim_start_matches(['/', '\\']));
        let authority = match &self.authority {
            Some(authority) => authority.parse().ok(),
            None => asked(),
        };
        let Some(authority) = authority.filter(|authority| !authority.as_str().contains('@')) else {
            return path_alone();
        };
        let scheme = self.scheme.as_deref().unwrap_or("http");
        let port = match self.port {
            RedirectPort::OfScheme => None,
            RedirectPort::Number(port) => Some(port),
            RedirectPort::AsAsked if self.authority.is_some() || scheme == "http" => authority.port_u16(),
            RedirectPort::AsAsked => authority.port_u16().filter(|port| *port != 80),
        };
        let port = port.filter(|port| Some(*port) != default_port(scheme));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{}{port}{target}", authority.host())
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
