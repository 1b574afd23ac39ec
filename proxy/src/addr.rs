//! Addresses named by role, so that a client's address is never taken for a destination.

use std::fmt;
use std::net::SocketAddr;

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(SocketAddr);

        impl $name {
            /// Takes an address; an IPv4 address mapped into IPv6 is turned back, so that one host has one name.
            #[must_use]
            pub fn new(addr: SocketAddr) -> Self {
                Self(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
            }

            /// The bare address.
            #[must_use]
            pub fn get(self) -> SocketAddr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

role! {
    /// Who connected.
    ClientAddr
}
role! {
    /// Where the client meant to go, before the redirect.
    OrigDstAddr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = ClientAddr::new("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(mapped, ClientAddr::new("10.0.0.1:80".parse().unwrap()));
    }
}
