//! Against a DNS server over UDP on loopback, whose records change.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use rustls_pki_types::ServerName;
use tokio::net::UdpSocket;

use super::*;
use crate::latest;
use crate::route::{AppProtocol, TransportPlan, testing};
use crate::tls::ExpectedPeer;
use crate::upstream::Target;

const LONG: Duration = Duration::from_secs(20);

/// What the server says of a name.
#[derive(Clone)]
enum Record {
    Addresses(Vec<IpAddr>),
    /// SERVFAIL for IPv6.
    HalfBroken(Vec<IpAddr>),
    /// SERVFAIL.
    Broken,
}

/// What a DNS server knows.
#[derive(Default)]
pub(crate) struct Zone {
    records: Mutex<HashMap<String, Record>>,
    queries: AtomicUsize,
}

impl Zone {
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.records.lock().unwrap().insert(name.into(), Record::Addresses(addresses));
    }

    fn breaks(&self, name: &str, record: Record) {
        self.records.lock().unwrap().insert(name.into(), record);
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        let (mut name, mut at) = (String::new(), 12);
        while query[at] != 0 {
            let end = at + 1 + usize::from(query[at]);
            name.push_str(std::str::from_utf8(&query[at + 1..end]).unwrap());
            name.push('.');
            at = end;
        }
        let question = &query[12..at + 5];
        let wants_v4 = query[at + 2] == 1;
        let record = self.records.lock().unwrap().get(name.trim_end_matches('.')).cloned();
        let (code, addresses) = match record {
            Some(Record::Addresses(addresses)) => (0, addresses),
            Some(Record::HalfBroken(addresses)) if wants_v4 => (0, addresses),
            Some(Record::HalfBroken(_) | Record::Broken) => (2, Vec::new()),
            None => (3, Vec::new()),
        };
        let mut data = Vec::new();
        let mut count = 0_u16;
        for ip in addresses.iter().filter(|ip| ip.is_ipv4() == wants_v4) {
            count += 1;
            // A pointer to the question's name, class IN, TTL 1 s.
            data.extend([0xc0, 12, 0, if wants_v4 { 1 } else { 28 }, 0, 1, 0, 0, 0, 1]);
            match ip {
                IpAddr::V4(ip) => data.extend([&[0, 4][..], &ip.octets()].concat()),
                IpAddr::V6(ip) => data.extend([&[0, 16][..], &ip.octets()].concat()),
            }
        }
        let header = [&query[..2], &[0x81, 0x80 | code, 0, 1], &count.to_be_bytes(), &[0, 0, 0, 0]].concat();
        [&header[..], question, &data].concat()
    }
}

/// Names that are asked of a DNS server of their own.
pub(crate) async fn names() -> (Names, Arc<Zone>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut server = NameServerConfig::udp([127, 0, 0, 1].into());
    server.connections[0].port = socket.local_addr().unwrap().port();
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    (options.cache_size, options.use_hosts_file) = (0, ResolveHosts::Never);
    let zone = Arc::new(Zone::default());
    let serving = Arc::clone(&zone);
    tokio::spawn(async move {
        let mut query = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut query).await.unwrap();
            socket.send_to(&serving.answer(&query[..length]), from).await.unwrap();
        }
    });
    (Names::with_resolver(Some(builder.build().unwrap())), zone)
}

fn destination(host: &str, name: &str) -> Destination {
    let addr = EndpointAddr::Name(name.into(), 8443);
    let expected = ExpectedPeer::AnyIn {
        trust_domain: "cluster.local".parse().unwrap(),
        namespace: "production".into(),
    };
    Destination {
        host: host.into(),
        port: 8443,
        protocol: AppProtocol::Tcp,
        resolution: Resolution::Dns,
        endpoints: vec![testing::endpoint(addr)],
        transport_plan: TransportPlan::mutual_tls(ServerName::try_from("api").unwrap(), expected),
        ..testing::destination()
    }
}

fn policy(destinations: &[(&str, &str)]) -> Arc<OutboundPolicy> {
    let all = destinations.iter().map(|(host, name)| destination(host, name)).collect();
    Arc::new(OutboundPolicy::new(all, HashMap::new()))
}

/// Runs `names` for `policy` beside a test.
async fn followed(names: &Names, policy: Latest<OutboundPolicy>, test: impl Future<Output = ()>) {
    tokio::select! {
        () = names.follow(policy) => unreachable!("it never ends"),
        ended = tokio::time::timeout(LONG, test) => ended.expect("the test ends in time"),
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

#[tokio::test]
async fn a_name_is_followed_in_both_families_and_to_another_address() {
    let (names, zone) = names().await;
    zone.set("api.example", &["10.0.0.1", "fd00::1"]);
    let policy = policy(&[("api.example", "api.example")]);
    let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    followed(&names, Latest::fixed(policy), async {
        until(|| names.addresses("api.example").is_some()).await;
        assert_eq!(*names.addresses("api.example").unwrap(), [v4(1), v6]);
        zone.set("api.example", &["10.0.0.2"]);
        until(|| *names.addresses("api.example").unwrap() == [v4(2)]).await;
    })
    .await;
}

#[tokio::test]
async fn when_lookups_fail_the_last_good_answer_stays() {
    let (names, zone) = names().await;
    zone.set("api.example", &["10.0.0.1"]);
    zone.set("web.example", &["10.0.0.2"]);
    let policy = policy(&[("api.example", "api.example"), ("web.example", "web.example")]);
    followed(&names, Latest::fixed(policy), async {
        until(|| names.status().len() == 2).await;
        zone.breaks("api.example", Record::Broken);
        // The name is gone altogether.
        zone.records.lock().unwrap().remove("web.example");
        until(|| names.status().iter().all(|status| status.failing)).await;
        assert_eq!(*names.addresses("api.example").unwrap(), [v4(1)]);
        assert_eq!(*names.addresses("web.example").unwrap(), [v4(2)]);
        // The positive control: an answer counts again.
        zone.set("api.example", &["10.0.0.3"]);
        until(|| *names.addresses("api.example").unwrap() == [v4(3)]).await;
        assert!(!names.status()[0].failing);
    })
    .await;
}

#[tokio::test]
async fn when_one_family_fails_its_addresses_stay_and_the_other_is_followed() {
    let (names, zone) = names().await;
    zone.set("api.example", &["10.0.0.1", "fd00::1"]);
    followed(&names, Latest::fixed(policy(&[("api.example", "api.example")])), async {
        until(|| names.addresses("api.example").is_some_and(|known| known.len() == 2)).await;
        zone.breaks("api.example", Record::HalfBroken(vec![v4(2)]));
        let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
        until(|| *names.addresses("api.example").unwrap() == [v4(2), v6]).await;
        assert!(!names.status()[0].failing);
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let (names, zone) = names().await;
    let many: Vec<String> = (0..70).map(|last| format!("10.0.1.{last}")).collect();
    zone.set("api.example", &many.iter().map(String::as_str).collect::<Vec<_>>());
    followed(&names, Latest::fixed(policy(&[("api.example", "api.example")])), async {
        until(|| names.addresses("api.example").is_some()).await;
        assert_eq!(names.addresses("api.example").unwrap().len(), ADDRESSES);
    })
    .await;
}

#[tokio::test]
async fn a_new_policy_is_followed_and_names_it_lacks_are_forgotten() {
    let (names, zone) = names().await;
    zone.set("api.example", &["10.0.0.1"]);
    zone.set("web.example", &["10.0.0.2"]);
    let (publisher, latest) = latest::publish(policy(&[("api.example", "api.example")]));
    followed(&names, latest, async {
        until(|| names.addresses("api.example").is_some()).await;
        publisher.replace(policy(&[("web.example", "web.example")]));
        until(|| names.addresses("web.example").is_some()).await;
        assert!(names.addresses("api.example").is_none());
    })
    .await;
}

#[tokio::test]
async fn an_address_that_two_services_have_finds_none() {
    let (names, zone) = names().await;
    zone.set("api.example", &["10.0.0.1", "10.0.0.9"]);
    zone.set("web.example", &["10.0.0.2", "10.0.0.9"]);
    let policy = policy(&[("api.example", "api.example"), ("web.example", "web.example")]);
    let find = |ip: IpAddr, port| {
        let found = names.find(&policy, SocketAddr::new(ip, port));
        found.map(|destination| destination.host.clone())
    };
    followed(&names, Latest::fixed(Arc::clone(&policy)), async {
        until(|| names.status().len() == 2).await;
        assert_eq!(find(v4(1), 8443).as_deref(), Some("api.example"));
        assert_eq!(find(v4(2), 8443).as_deref(), Some("web.example"));
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        assert_eq!(find(mapped, 8443).as_deref(), Some("api.example"));
        assert_eq!(find(v4(9), 8443), None, "two services have it");
        assert_eq!(find(v4(1), 443), None, "another port");
        assert_eq!(find(v4(3), 8443), None, "nobody's");
    })
    .await;
}

#[tokio::test]
async fn a_target_has_the_addresses_of_its_names_or_says_which_is_unknown() {
    let (names, zone) = names().await;
    zone.set("api.example", &["10.0.0.1", "10.0.0.2"]);
    let policy = policy(&[("api.example", "api.example"), ("gone.example", "gone.example")]);
    let target = |host| {
        let destination = policy.destination_by_host(host, 8443).unwrap();
        Target { destination: Arc::clone(destination), original: None, avoid: None, fresh: false }
    };
    followed(&names, Latest::fixed(Arc::clone(&policy)), async {
        until(|| names.addresses("api.example").is_some()).await;
        let found = target("api.example").candidates(&names).unwrap();
        let addrs: Vec<_> = found.iter().map(|candidate| candidate.addr.to_string()).collect();
        assert_eq!(addrs, ["10.0.0.1:8443", "10.0.0.2:8443"]);
        let unknown = target("gone.example").candidates(&names).unwrap_err();
        assert_eq!(unknown.label(), "not_resolved");
    })
    .await;
}
