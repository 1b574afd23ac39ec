//! What a connection stands for. It is looked up for each request, because the policy may have been replaced.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header;
use http::uri::Authority;

use crate::route::{Destination, OutboundPolicy, Resolution, UnknownDestination};
use crate::upstream::Names;

/// Where the app meant to go.
#[derive(Debug, Clone)]
pub(super) enum Meant {
    /// To an address, which the kernel remembers.
    Address(SocketAddr),
    /// To the service that a listener stands for.
    Service { host: Arc<str>, port: u16 },
}

impl Meant {
    /// The service: by address, by the names that have the address, or by the listener's host.
    pub(super) fn destination(
        &self,
        policy: &OutboundPolicy,
        names: &Names,
    ) -> Result<Arc<Destination>, UnknownDestination> {
        match self {
            Self::Address(addr) => match policy.destination(*addr) {
                Ok(destination) => Ok(Arc::clone(destination)),
                Err(unknown) => names.find(policy, *addr).ok_or(unknown),
            },
            Self::Service { host, port } => policy.destination_by_host(host, *port).map(Arc::clone),
        }
    }

    /// The service that the `Host` of a request names, on the port that the app dialled. Only those are found so whose
    /// addresses DNS tells: the app may have looked its name up at another moment than the sidecar, or two services
    /// share an address. Who answers must prove to be that service all the same.
    pub(super) fn by_host(&self, policy: &OutboundPolicy, headers: &HeaderMap) -> Option<Arc<Destination>> {
        let Self::Address(addr) = self else { return None };
        let host: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
        // A name, alone or with the very port: nothing that another reader could take for another host.
        let written = host.as_str().strip_prefix(host.host())?;
        if !written.is_empty() && host.port_u16() != Some(addr.port()) {
            return None;
        }
        let name = host.host().trim_end_matches('.').to_ascii_lowercase();
        let destination = policy.destination_by_host(&name, addr.port()).ok()?;
        (destination.resolution == Resolution::Dns).then(|| Arc::clone(destination))
    }

    /// The address that the app dialled, if it was redirected.
    pub(super) fn original(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(addr) => Some(*addr),
            Self::Service { .. } => None,
        }
    }
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(addr) => addr.fmt(f),
            Self::Service { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use http::HeaderValue;

    use super::super::testing::destination;
    use super::*;
    use crate::route::DestinationId;

    const KNOWN: &str = "10.0.0.1:443";
    const UNKNOWN: &str = "203.0.113.7:443";

    fn policy() -> OutboundPolicy {
        let mut by_name = destination("api.example.com", 443, &[]);
        by_name.resolution = Resolution::Dns;
        let by_address = destination("db.example.com", 443, &[]);
        let addresses = HashMap::from([(KNOWN.parse().unwrap(), DestinationId(1))]);
        OutboundPolicy::new(vec![by_name, by_address], addresses)
    }

    fn by_host(host: &'static str, addr: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        let meant = Meant::Address(addr.parse().unwrap());
        meant.by_host(&policy(), &headers).map(|destination| destination.host.clone())
    }

    #[test]
    fn a_host_names_a_service_of_that_port_whose_addresses_dns_tells() {
        for host in ["api.example.com", "API.example.com:443", "api.example.com."] {
            assert_eq!(by_host(host, UNKNOWN).as_deref(), Some("api.example.com"), "{host}");
        }
        for (host, addr) in [
            ("api.example.com:80", UNKNOWN),
            ("api.example.com", "203.0.113.7:80"),
            ("db.example.com", UNKNOWN),
            ("other.example.com", UNKNOWN),
            ("user@api.example.com:x", UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(by_host(host, addr), None, "{host:?} {addr}");
        }
        let listener = Meant::Service { host: "api.example.com".into(), port: 443 };
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("db.example.com"))]);
        assert!(listener.by_host(&policy(), &headers).is_none(), "a listener stands for its own service");
    }

    #[test]
    fn an_address_is_looked_up_before_any_name() {
        let names = Names::with_resolver(None);
        let found = Meant::Address(KNOWN.parse().unwrap()).destination(&policy(), &names);
        assert_eq!(found.unwrap().host, "db.example.com");
        let unknown = Meant::Address(UNKNOWN.parse().unwrap()).destination(&policy(), &names);
        assert_eq!(unknown.unwrap_err(), UnknownDestination::Address(UNKNOWN.parse().unwrap()));
        let listener = Meant::Service { host: "api.example.com".into(), port: 443 };
        assert_eq!(listener.destination(&policy(), &names).unwrap().host, "api.example.com");
    }
}
