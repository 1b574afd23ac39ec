//! Ways around the proxy, and what happens while it is not there.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use portcullis::demo::lab::Host;
use portcullis_tests::capture::{Capture, inject};
use portcullis_tests::within;

use super::{
    APP, LIMIT, NEVER, PROXY, SOON, Scene, ask, assert_connected, assert_refused, assert_unanswered, connect,
    listen,
};

#[test]
fn connections_are_refused_while_the_proxy_is_dead() {
    within(LIMIT, || {
        let scene = Scene::new();
        // Each side has a service that would answer, were it reached.
        let _servers: Vec<_> = [&scene.workload, &scene.peer]
            .into_iter()
            .flat_map(|host| host.addresses().map(|address| listen(host, APP, (address, 8080))))
            .collect();
        for (workload, peer) in scene.families() {
            connect(&scene.peer, APP, (workload, 8080), SOON).unwrap();
            connect(&scene.workload, APP, (peer, 8080), SOON).unwrap();
        }
        scene.apply();
        for (workload, peer) in scene.families() {
            assert_refused(&scene.peer, APP, (workload, 8080).into());
            assert_refused(&scene.workload, APP, (peer, 8080).into());
        }
    });
}

#[test]
fn the_rules_outlive_a_proxy_that_is_killed() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply();
        let rules = scene.rules();
        for _ in 0..3 {
            let target = scene.target();
            for (workload, peer) in scene.families() {
                assert_eq!(
                    ask(&scene.peer, APP, (workload, 80)).unwrap(),
                    format!("15006 {}", SocketAddr::new(workload, 80))
                );
                assert_eq!(
                    ask(&scene.workload, APP, (peer, 80)).unwrap(),
                    format!("15001 {}", SocketAddr::new(peer, 80))
                );
            }
            target.kill();
            for (workload, peer) in scene.families() {
                assert_refused(&scene.peer, APP, (workload, 80).into());
                assert_refused(&scene.workload, APP, (peer, 80).into());
            }
            assert_eq!(scene.rules(), rules);
        }
    });
}

#[test]
fn the_proxys_own_ports_are_closed_to_the_outside() {
    within(LIMIT, || {
        let scene = Scene::new();
        let target = scene.target();
        scene.apply();
        for address in scene.workload.addresses() {
            for port in [15001, 15006] {
                assert_unanswered(&scene.peer, APP, (address, port).into());
            }
        }
        assert_eq!(target.output(), "ready\n");
        assert!(ask(&scene.peer, APP, (scene.workload.ipv4(), 15002)).unwrap().starts_with("15006 "));
    });
}

#[test]
fn a_connection_to_the_proxys_own_port_from_within_has_no_original_destination() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        let [v4, v6] = scene.workload.addresses();
        for address in
            [v4, v6, "127.0.0.1".parse().unwrap(), "127.0.0.6".parse().unwrap(), "::1".parse().unwrap()]
        {
            for port in [15001, 15006] {
                let answer = ask(&scene.workload, APP, SocketAddr::new(address, port)).unwrap();
                assert_eq!(answer, format!("{port} own_address"), "{address}");
            }
        }
    });
}

#[test]
fn the_app_cannot_take_the_place_of_a_dead_proxy() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply();
        for address in scene.workload.addresses() {
            for port in [15001, 15006, 15021, 15090] {
                let impostor = listen(&scene.workload, APP, (address, port));
                impostor.set_nonblocking(true).unwrap();
                let to = if port > 15006 { port } else { 80 };
                connect(&scene.peer, APP, (address, to), NEVER).unwrap_err();
                connect(&scene.peer, APP, (address, port), NEVER).unwrap_err();
                assert_eq!(impostor.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{port}");
            }
            // The same with the proxy's user, to show that it is the user which makes the difference.
            let _proxy = listen(&scene.workload, PROXY, (address, 15006));
            connect(&scene.peer, APP, (address, 80), SOON).unwrap();
        }
    });
}

#[test]
fn the_app_cannot_go_on_with_a_connection_of_the_proxy() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply();
        for (workload, peer) in scene.families() {
            let server = listen(&scene.peer, APP, (peer, 80));
            let socket = connect(&scene.workload, PROXY, (peer, 80), SOON).unwrap();
            let from = socket.local_addr().unwrap();
            assert_connected(&socket, &server.accept().unwrap().0);
            // Reset on both sides, so that the port is free, while the kernel still knows the connection as the proxy's.
            socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(socket);
            server.set_nonblocking(true).unwrap();
            let again = scene.workload.in_namespace(|| {
                portcullis_tests::as_user(APP, || {
                    let new = socket2::Socket::new(
                        socket2::Domain::for_address(from),
                        socket2::Type::STREAM,
                        None,
                    )?;
                    new.set_reuse_address(true)?;
                    new.bind(&from.into())?;
                    new.connect_timeout(&SocketAddr::new(peer, 80).into(), NEVER)
                })
            });
            again.unwrap().unwrap_err();
            assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{workload}");
        }
    });
}

#[test]
fn what_a_neighbour_routes_through_the_host_is_neither_relayed_nor_redirected() {
    within(LIMIT, || {
        let mut scene = Scene::new();
        let target = scene.target();
        let metadata = scene.lab.host("metadata").unwrap();
        let ip = |host: &Host, line: &str| host.namespace().ip(&line.split(' ').collect::<Vec<_>>()).unwrap();
        let forward = || {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        };
        scene.workload.in_namespace(forward).unwrap().unwrap();
        let servers = ["169.254.169.254", "fd00:ec2::254"].map(|address| {
            let (router, end) = if address.contains(':') {
                (scene.workload.ipv6().to_string(), metadata.ipv6().to_string())
            } else {
                (scene.workload.ipv4().to_string(), metadata.ipv4().to_string())
            };
            ip(
                &metadata,
                &format!("addr add {address} dev lo{}", if router.contains(':') { " nodad" } else { "" }),
            );
            ip(&scene.peer, &format!("route add {address} via {router}"));
            ip(&scene.workload, &format!("route add {address} via {end}"));
            let to = SocketAddr::new(address.parse().unwrap(), 80);
            let server = listen(&metadata, APP, to);
            connect(&scene.peer, APP, to, SOON).unwrap();
            drop(server.accept().unwrap());
            server.set_nonblocking(true).unwrap();
            (server, to)
        });
        scene.apply();
        for (server, to) in servers {
            assert_unanswered(&scene.peer, APP, to);
            assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(target.output(), "ready\n");
    });
}

/// A neighbour on the same wire can send frames with any address. 127.0.0.1 from outside is refused by the
/// kernel's routing, but redirection comes before routing.
#[test]
fn a_loopback_address_on_the_wire_is_not_redirected() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        let mac = |host: &Host| {
            let line = host.command("ip").args(["-o", "link", "show", "eth0"]).check(SOON).unwrap();
            let mac = line.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
            let mac: Vec<_> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            <[u8; 6]>::try_from(mac).unwrap()
        };
        let (from, to) = (mac(&scene.peer), mac(&scene.workload));
        let answers = |destination: IpAddr| {
            let capture = Capture::start(&scene.lab, &scene.workload).unwrap();
            let ethernet = PacketBuilder::ethernet2(from, to);
            let ip = match destination {
                IpAddr::V4(address) => ethernet.ipv4(scene.peer.ipv4().octets(), address.octets(), 64),
                IpAddr::V6(address) => ethernet.ipv6(scene.peer.ipv6().octets(), address.octets(), 64),
            };
            let mut frame = Vec::new();
            ip.tcp(4000, 8080, 1, 1000).syn().write(&mut frame, &[]).unwrap();
            inject(&scene.peer, &frame).unwrap();
            // Whoever asked next was answered, so whatever answer there was is in the capture.
            ask(&scene.peer, APP, (scene.workload.ipv4(), 80)).unwrap();
            let answer = |frame: &Vec<u8>| {
                let packet = SlicedPacket::from_ethernet(frame).unwrap();
                matches!(packet.transport, Some(TransportSlice::Tcp(tcp)) if tcp.source_port() == 8080)
            };
            capture.stop().unwrap().iter().filter(|frame| answer(frame)).count()
        };
        for address in scene.workload.addresses() {
            assert_ne!(answers(address), 0, "the frames are good");
        }
        for address in ["127.0.0.1", "127.0.0.6", "::1", "::6"] {
            assert_eq!(answers(address.parse().unwrap()), 0, "{address}");
        }
    });
}
