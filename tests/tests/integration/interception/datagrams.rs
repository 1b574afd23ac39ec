//! UDP, QUIC, ICMP and what else is not TCP; DNS, which may be declared.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Type};
use portcullis::demo::lab::Host;
use portcullis::intercept::Settings;
use portcullis_tests::capture::Capture;
use portcullis_tests::streams::{Findings, Leak, check};
use portcullis_tests::{as_user, within};
use socket2::{Domain, Protocol, Socket, Type};

use super::{APP, CANARY, LIMIT, NEVER, PROXY, SOON, Scene, ask, assert_connected, connect, listen};

/// Sends the canary over UDP and has it sent back; an error when it does not get there or back.
fn udp(from: &Host, user: u32, to: &Host, at: SocketAddr, patience: std::time::Duration) -> io::Result<()> {
    let bind = |address: SocketAddr| as_user(user, || UdpSocket::bind(address));
    let server = to.in_namespace(|| UdpSocket::bind(at)).unwrap()?;
    let client = from.in_namespace(|| bind(SocketAddr::new(unspecified(at.ip()), 0))).unwrap()?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(patience))?;
    }
    let mut buffer = [0; 100];
    client.send_to(CANARY, at)?;
    let (length, caller) = server.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..length], CANARY);
    server.send_to(CANARY, caller)?;
    client.recv_from(&mut buffer).map(drop)
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { [0; 4].into() } else { [0; 16].into() }
}

/// Sends the canary in an ICMP echo request, through a raw socket, and waits for the reply.
fn ping(from: &Host, user: u32, to: IpAddr, patience: std::time::Duration) -> io::Result<()> {
    let echo = IcmpEchoHeader { id: 7, seq: 1 };
    let (protocol, request) = if to.is_ipv4() {
        let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), CANARY);
        (Protocol::ICMPV4, [&header.to_bytes()[..], CANARY].concat())
    } else {
        // The kernel sets the checksum of ICMPv6 (RFC 3542, 3.1).
        let header = Icmpv6Type::EchoRequest(echo).to_header([0; 16], [0; 16], CANARY).unwrap();
        (Protocol::ICMPV6, [&header.to_bytes()[..], CANARY].concat())
    };
    let to = SocketAddr::new(to, 0);
    let new = || as_user(user, || Socket::new(Domain::for_address(to), Type::RAW, Some(protocol)));
    let socket = from.in_namespace(new).unwrap()?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(&to.into())?;
    socket.send(&request)?;
    io::Read::read(&mut &socket, &mut [0; 200]).map(drop)
}

/// Sends the canary as the payload of an IP protocol that nobody has.
fn unknown_protocol(from: &Host, user: u32, to: IpAddr) -> io::Result<()> {
    let to = SocketAddr::new(to, 0);
    let protocol = Some(Protocol::from(253));
    let new = || as_user(user, || Socket::new(Domain::for_address(to), Type::RAW, protocol));
    from.in_namespace(new).unwrap()?.send_to(CANARY, &to.into()).map(drop)
}

/// Everything at once, in both directions; tells how much got through, and what was on the wire.
fn everything(scene: &Scene, patience: std::time::Duration) -> (usize, Findings) {
    let capture = Capture::start(&scene.lab, &scene.workload).unwrap();
    let mut through = 0;
    for (_, peer) in scene.families() {
        for user in [APP, 0] {
            for port in [53, 443, 8080] {
                let there = SocketAddr::new(peer, port);
                through += usize::from(udp(&scene.workload, user, &scene.peer, there, patience).is_ok());
            }
            through += usize::from(ping(&scene.workload, user, peer, patience).is_ok());
            through += usize::from(unknown_protocol(&scene.workload, user, peer).is_ok());
        }
    }
    (through, check(&capture.stop().unwrap(), CANARY, |_| false))
}

#[test]
fn nothing_but_tcp_leaves_the_host() {
    within(LIMIT, || {
        let scene = Scene::new();
        let (through, found) = everything(&scene, SOON);
        assert_eq!(through, 2 * 2 * 5, "without rules all of it gets through");
        assert!(found.leaks.iter().filter(|leak| matches!(leak, Leak::Canary(_))).count() >= through);
        scene.apply();
        let (through, found) = everything(&scene, NEVER);
        assert_eq!(through, 0);
        found.assert_clean();
    });
}

#[test]
fn nothing_but_tcp_reaches_the_host() {
    within(LIMIT, || {
        let scene = Scene::new();
        let heard = |patience| {
            scene.families().map(|(workload, _)| {
                let at = SocketAddr::new(workload, 443);
                let bind = || as_user(APP, || UdpSocket::bind(at));
                let server = scene.workload.in_namespace(bind).unwrap().unwrap();
                server.set_read_timeout(Some(patience)).unwrap();
                let client = scene.peer.in_namespace(|| UdpSocket::bind((unspecified(workload), 0)));
                client.unwrap().unwrap().send_to(CANARY, at).unwrap();
                server.recv_from(&mut [0; 100]).is_ok()
            })
        };
        let pinged = |patience| {
            scene.families().map(|(workload, _)| ping(&scene.peer, APP, workload, patience).is_ok())
        };
        assert_eq!((heard(SOON), pinged(SOON)), ([true; 2], [true; 2]));
        scene.apply();
        assert_eq!((heard(NEVER), pinged(NEVER)), ([false; 2], [false; 2]));
    });
}

#[test]
fn datagrams_within_the_host_and_of_the_proxy_are_left_alone() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply();
        for (workload, peer) in scene.families() {
            udp(&scene.workload, APP, &scene.workload, (workload, 8125).into(), SOON).unwrap();
            udp(&scene.workload, PROXY, &scene.peer, (peer, 53).into(), SOON).unwrap();
        }
    });
}

#[test]
fn dns_goes_to_declared_resolvers_only() {
    within(LIMIT, || {
        let mut scene = Scene::new();
        let _target = scene.target();
        let other = scene.lab.host("other").unwrap();
        scene.apply_with(Settings { resolvers: scene.peer.addresses().to_vec(), ..Settings::default() });
        for (resolver, other_address) in scene.peer.addresses().into_iter().zip(other.addresses()) {
            udp(&scene.workload, APP, &scene.peer, (resolver, 53).into(), SOON).unwrap();
            udp(&scene.workload, APP, &scene.peer, (resolver, 54).into(), NEVER).unwrap_err();
            udp(&scene.workload, APP, &other, (other_address, 53).into(), NEVER).unwrap_err();
            let server = listen(&scene.peer, 0, (resolver, 53));
            let client = connect(&scene.workload, APP, (resolver, 53), SOON).unwrap();
            assert_connected(&client, &server.accept().unwrap().0);
            let elsewhere = SocketAddr::new(other_address, 53);
            assert_eq!(ask(&scene.workload, APP, elsewhere).unwrap(), format!("15001 {elsewhere}"));
            // The resolver itself is an outsider like any other.
            udp(&scene.peer, APP, &scene.workload, (resolver_side(&scene, resolver), 53).into(), NEVER)
                .unwrap_err();
        }
    });
}

fn resolver_side(scene: &Scene, like: IpAddr) -> IpAddr {
    let [v4, v6] = scene.workload.addresses();
    if like.is_ipv4() { v4 } else { v6 }
}
