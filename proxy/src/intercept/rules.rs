//! The ruleset, as the text that `nft` takes: what is printed is what is applied.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// Ports of the proxy that are open to the outside as they are: probes (15021) and metrics (15090).
pub const PROXY_PORTS: [u16; 2] = [15021, 15090];

/// Connections of the proxy. Only a packet of the proxy's user, or one without a socket, may leave on them.
const OWN: &str = "0x70635f6f";
/// Connections that a declared exception lets pass: DNS to a resolver, excluded inbound ports.
const PASS: &str = "0x70635f70";

/// Removes the table if it is there: `delete` alone fails on a missing table, and `destroy` needs nft 1.0.7.
pub(super) const REMOVE: &str = "add table inet portcullis\ndelete table inet portcullis\n";

/// What the rules depend on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the proxy takes connections to the service.
    pub inbound_port: u16,
    /// Where the proxy takes connections of the service.
    pub outbound_port: u16,
    /// The user as whom the proxy runs: its traffic is not intercepted.
    pub proxy_uid: u32,
    /// Where the service may send DNS queries (UDP and TCP, port 53).
    pub resolvers: Vec<IpAddr>,
    /// Ports of the service that are reached without the proxy, in plaintext, from anywhere.
    pub exclude_inbound: Vec<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            inbound_port: 15006,
            outbound_port: 15001,
            proxy_uid: 1337,
            resolvers: Vec::new(),
            exclude_inbound: Vec::new(),
        }
    }
}

/// Why settings make no ruleset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSettings {
    /// Port 0.
    #[error("port 0 cannot be listened on: give a port from 1 to 65535")]
    PortZero,
    /// The proxy cannot tell the directions apart.
    #[error("inbound and outbound are both port {0}: the proxy needs two")]
    SamePort(u16),
    /// The proxy's own interception port would be open to the outside, or excluded from itself.
    #[error(
        "port {0} is the proxy's own: choose another for --inbound-port, --outbound-port or --exclude-inbound"
    )]
    OwnPort(u16),
    /// Root's traffic would pass by the proxy, and so would the service's, if it runs as root.
    #[error("the proxy's user cannot be root (0): give it a user that nothing else runs as, 1337 by default")]
    RootUid,
    /// The number that means "no user" to the kernel.
    #[error("{} is not a user: give a number below it", u32::MAX)]
    NoUid,
    /// An address that no resolver can have.
    #[error("{0} cannot be the address of a resolver")]
    Resolver(IpAddr),
}

/// Valid settings. Its `Display` is the input of `nft -f -`: one transaction that replaces the table.
#[derive(Debug, Clone)]
pub struct Ruleset {
    inbound_port: u16,
    outbound_port: u16,
    proxy_uid: u32,
    resolvers: BTreeSet<IpAddr>,
    exclude_inbound: BTreeSet<u16>,
}

impl TryFrom<Settings> for Ruleset {
    type Error = BadSettings;

    fn try_from(settings: Settings) -> Result<Self, BadSettings> {
        let Settings { inbound_port, outbound_port, proxy_uid, resolvers, exclude_inbound } = settings;
        if inbound_port == 0 || outbound_port == 0 || exclude_inbound.contains(&0) {
            return Err(BadSettings::PortZero);
        }
        if inbound_port == outbound_port {
            return Err(BadSettings::SamePort(inbound_port));
        }
        let capture = [inbound_port, outbound_port];
        let own =
            capture.into_iter().find(|port| PROXY_PORTS.contains(port) || exclude_inbound.contains(port));
        if let Some(port) = own.or(exclude_inbound.iter().copied().find(|port| PROXY_PORTS.contains(port))) {
            return Err(BadSettings::OwnPort(port));
        }
        match proxy_uid {
            0 => return Err(BadSettings::RootUid),
            u32::MAX => return Err(BadSettings::NoUid),
            _ => {}
        }
        let resolvers: BTreeSet<_> = resolvers.into_iter().map(|address| address.to_canonical()).collect();
        if let Some(bad) = resolvers.iter().find(|address| address.is_unspecified() || address.is_multicast())
        {
            return Err(BadSettings::Resolver(*bad));
        }
        Ok(Self {
            inbound_port,
            outbound_port,
            proxy_uid,
            resolvers,
            exclude_inbound: exclude_inbound.into_iter().collect(),
        })
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inbound_port: inbound, outbound_port: outbound, proxy_uid: uid, .. } = self;
        let proxy_ports = set(PROXY_PORTS);
        let excluded_ports = self.excluded_ports();
        let resolvers = self.resolvers();
        // nft 1.0.6 does not take the name dstnat (-100) in an output chain.
        write!(
            f,
            r#"# Replaces the one table of portcullis in one transaction, and touches no other.
{REMOVE}table inet portcullis {{
	# A connection that was cut by a reset is forgotten at once. The kernel would keep it for 10 s, and take the
	# next one of the same addresses and ports for it: the proxy's for one of the service, redirection included.
	ct timeout cut_v4 {{
		protocol tcp; l3proto ip; policy = {{ close : 0 }}
	}}
	ct timeout cut_v6 {{
		protocol tcp; l3proto ip6; policy = {{ close : 0 }}
	}}
	chain prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		# What a neighbour routes through this host is not for the proxy, whatever it claims.
		fib daddr type != local accept
		ip daddr 127.0.0.0/8 accept
		ip6 daddr {{ ::1, ::6 }} accept
		# Not for the outside: without a mark, the input chain drops it.
		tcp dport {{ {inbound}, {outbound} }} accept
		tcp dport {proxy_ports} ct mark set {OWN} accept
{excluded_ports}		meta l4proto tcp ct mark set {OWN} redirect to :{inbound}
	}}
	chain nat_output {{
		type nat hook output priority -100; policy accept;
		fib daddr type local accept
		meta nfproto ipv4 meta l4proto tcp ct timeout set "cut_v4"
		meta nfproto ipv6 meta l4proto tcp ct timeout set "cut_v6"
		meta skuid {uid} accept
{resolvers}		meta l4proto tcp redirect to :{outbound}
	}}
	chain input {{
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		# Never by state: a connection older than the rules is established, and plaintext.
		ct mark {{ {OWN}, {PASS} }} accept
		icmpv6 type {{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
		counter comment "dropped"
	}}
	chain output {{
		type filter hook output priority filter; policy drop;
		# The proxy never calls itself, also should its connection be mistaken for one of the service.
		meta skuid {uid} fib daddr type local tcp dport {{ {inbound}, {outbound} }} reject with tcp reset
		# Loopback, and what nat_output has redirected (its oifname is not "lo" here).
		fib daddr type local accept
		# The proxy's connections are for the proxy alone, also while it is down and its ports are
		# free. A packet without a socket (RST, TIME_WAIT) has no user, and passes.
		ct mark {OWN} meta skuid != {uid} counter drop comment "not the proxy"
		ct mark {{ {OWN}, {PASS} }} accept
		meta skuid {uid} ct direction original ct mark set {OWN} accept
		icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
		counter comment "dropped"
	}}
	chain forward {{
		# This host is nobody's router.
		type filter hook forward priority filter; policy drop;
	}}
}}
"#
        )
    }
}

impl Ruleset {
    /// The line for ports excluded from interception, if there are any.
    fn excluded_ports(&self) -> String {
        if self.exclude_inbound.is_empty() {
            return String::new();
        }
        let ports = set(&self.exclude_inbound);
        format!("\t\t# Excluded: plaintext.\n\t\ttcp dport {ports} ct mark set {PASS} accept\n")
    }

    /// The lines for declared resolvers, one for each address family that has any.
    fn resolvers(&self) -> String {
        let (v4, v6): (Vec<_>, Vec<_>) = self.resolvers.iter().partition(|address| address.is_ipv4());
        let line = |family, addresses: Vec<&IpAddr>| {
            let to = format!("{family} daddr {} meta l4proto {{ tcp, udp }} th dport 53", set(&addresses));
            let line = format!("\t\t# DNS: plaintext.\n\t\t{to} ct mark set {PASS} accept\n");
            if addresses.is_empty() { String::new() } else { line }
        };
        line("ip", v4) + &line("ip6", v6)
    }
}

/// An anonymous set: `{ 1, 2 }`.
fn set<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_was_declared_and_only_that() {
        let plain = Ruleset::try_from(Settings::default()).unwrap().to_string();
        assert!(plain.starts_with("# Replaces"));
        assert!(!plain.contains("dport 53"));
        assert_eq!(plain.matches("redirect to :15006").count(), 1);
        assert_eq!(plain.matches("redirect to :15001").count(), 1);
        assert!(!plain.contains("flush"));
        let resolvers =
            ["10.0.0.2", "fd00::53", "::ffff:10.0.0.3"].map(|text| text.parse().unwrap()).to_vec();
        let exclude_inbound = vec![9000, 22, 9000];
        let some = Settings { resolvers, exclude_inbound, ..Settings::default() };
        let some = Ruleset::try_from(some).unwrap().to_string();
        assert!(some.contains("ip daddr { 10.0.0.2, 10.0.0.3 } meta l4proto"));
        assert!(some.contains("ip6 daddr { fd00::53 } meta l4proto"));
        assert!(some.contains("tcp dport { 22, 9000 } ct mark set"));
    }

    #[test]
    fn settings_that_would_open_a_hole_are_refused() {
        let bad = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Ruleset::try_from(settings).unwrap_err()
        };
        assert_eq!(bad(|s| s.inbound_port = 0), BadSettings::PortZero);
        assert_eq!(bad(|s| s.outbound_port = 0), BadSettings::PortZero);
        assert_eq!(bad(|s| s.exclude_inbound = vec![0]), BadSettings::PortZero);
        assert_eq!(bad(|s| s.outbound_port = 15006), BadSettings::SamePort(15006));
        assert_eq!(bad(|s| s.inbound_port = 15021), BadSettings::OwnPort(15021));
        assert_eq!(bad(|s| s.exclude_inbound = vec![15001]), BadSettings::OwnPort(15001));
        assert_eq!(bad(|s| s.exclude_inbound = vec![15090]), BadSettings::OwnPort(15090));
        assert_eq!(bad(|s| s.proxy_uid = 0), BadSettings::RootUid);
        assert_eq!(bad(|s| s.proxy_uid = u32::MAX), BadSettings::NoUid);
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            let settings = Settings { resolvers: vec![address.parse().unwrap()], ..Settings::default() };
            assert!(matches!(Ruleset::try_from(settings), Err(BadSettings::Resolver(_))), "{address}");
        }
    }
}
